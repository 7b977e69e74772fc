#!/usr/bin/env python3
"""An agent that remembers, on nothing but Engram's HTTP interface and Python's standard library.

    cargo engram start                   # in one terminal
    python3 examples/agent.py            # in another

It reads a line, recalls what it knows about it, answers, and remembers what it was told. With AGENT_LLM_URL (an
OpenAI-compatible endpoint, such as http://127.0.0.1:11434/v1) and AGENT_LLM_MODEL a model answers, with the memories in its
prompt; without them the agent shows what it has recalled. Stop it, kill the server, start both again: it still knows.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

RETRIES = 6


class Engram:
    """The few requests that an agent needs."""

    def __init__(self, server: str, key: str | None):
        self.server = server.rstrip("/")
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, body: dict | None = None, headers: dict | None = None) -> dict | None:
        """The answer. A server that restarts, or is busy, is asked again: each request here may be repeated safely."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server + path, data=data, method=method, headers={**self.headers, **(headers or {})}
        )
        for attempt in range(RETRIES):
            last = attempt == RETRIES - 1
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as refused:
                if refused.code not in (429, 503) or last:
                    problem = json.load(refused)
                    raise SystemExit(f"{problem['detail']} {problem.get('suggestion', '')}") from None
                pause = float(refused.headers.get("Retry-After", 1))
            except (urllib.error.URLError, ConnectionError, TimeoutError) as nobody:
                if last:
                    raise SystemExit(f"no answer from {self.server}: {nobody}. Start it: cargo engram start") from None
                pause = 0.25 * 2**attempt
            time.sleep(pause)
        return None

    def remember(self, content: str, user: str) -> dict:
        """A receipt. The key makes a repeated request the same request, also over a crash of the server."""
        memory = {"content": content, "metadata": {"user": user, "source": "conversation"}}
        return self.call("POST", "/v1/memories", memory, {"Idempotency-Key": str(uuid.uuid4())})

    def recall(self, question: str, user: str) -> list[dict]:
        """What is known about it, the best first. `filter` keeps one user's memories from another's."""
        body = {"query": question, "limit": 5, "filter": {"user": user}, "recency_half_life": "30d"}
        return self.call("POST", "/v1/recall", body)["results"]


def answer(question: str, memories: list[dict]) -> str:
    """What the agent says: by a model if there is one."""
    known = "\n".join(f"- {memory['content']} ({memory['when'][:10]})" for memory in memories)
    url, model = os.environ.get("AGENT_LLM_URL"), os.environ.get("AGENT_LLM_MODEL")
    if not (url and model):
        return f"I remember:\n{known}" if known else "I know nothing about that yet."
    prompt = f"You are a helpful assistant. What you remember of this user, the most relevant first:\n{known or '(nothing)'}"
    body = {
        "model": model,
        "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": question}],
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('AGENT_LLM_KEY', 'none')}"}
    request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--server", default=os.environ.get("ENGRAM_SERVER") or "http://127.0.0.1:7432")
    options.add_argument("--user", default="ada", help="whose memories these are")
    options = options.parse_args()
    if not options.server.startswith(("http://", "https://")):
        raise SystemExit(f"expected a URL such as http://127.0.0.1:7432, got {options.server!r}")
    engram = Engram(options.server, os.environ.get("ENGRAM_API_KEY"))
    if sys.stdin.isatty():
        print("Tell me something, or ask. An empty line ends it.")
    for line in map(str.strip, sys.stdin):
        if not line:
            break
        memories = engram.recall(line, options.user)
        # A question is nothing to keep; what it was told is, whatever becomes of the answer.
        receipt = None if line.endswith("?") else engram.remember(line, options.user)
        try:
            print(answer(line, memories))
        except (OSError, ValueError, LookupError) as failed:
            print(f"(no answer from the model: {failed})")
        if receipt:
            print(f"(kept as {receipt['id']}, {receipt['durability']})")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

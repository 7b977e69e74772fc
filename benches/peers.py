#!/usr/bin/env python3
"""What usearch and hnswlib find, and what that takes, on the vectors that `cargo bench -p engram-core --bench vectors`
has written (`ENGRAM_BENCH_WRITE`): recall of ten against an exact search in f32, one thread, CPU time.

    pip install numpy usearch hnswlib
    python3 benches/peers.py DIRECTORY [recall...]

For each of the recalls (0.985 and 0.99 if none is given) the smallest ef that reaches it. `ENGRAM_BENCH_PEERS` says which
of them, as in `usearch i8,hnswlib f32`. The filter of hnswlib is a
function in Python, which takes most of the time: its rate says nothing of the library. usearch has none in Python.
"""

import os
import sys
import time
from importlib.metadata import version

import hnswlib
import numpy as np
from usearch.index import Index

DIMENSION = int(os.environ.get("ENGRAM_VECTORS_DIMENSION", 768))
M, EF_CONSTRUCTION = 16, 100
EFS = [16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048]


def vectors(path):
    numbers = np.fromfile(path, dtype="<f4").reshape(-1, DIMENSION)
    return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def truth(base, questions, first=0):
    best = []
    for question in questions:
        near = base[first:] @ question
        ten = np.argpartition(-near, 10)[:10] + first
        best.append(set(ten.tolist()))
    return best


def measure(name, search, count, wanted, best, questions):
    wanted = sorted(wanted)
    for ef in EFS:
        took, hits = float("inf"), 0
        for _ in range(2):
            began = time.thread_time()
            found = [search(question, ef) for question in questions]
            took = min(took, (time.thread_time() - began) / len(questions))
        hits = sum(len(best & set(map(int, keys))) for best, keys in zip(best, found))
        recall = hits / (10 * len(questions))
        while wanted and recall >= wanted[0]:
            print(f"| {count} | {name}, ef {ef} | {recall:.4f} | {took * 1e3:.3f} | {1 / took:.0f} |", flush=True)
            wanted.pop(0)
        if not wanted:
            return
    print(f"| {count} | {name}, ef {ef}: no more | {recall:.4f} | {took * 1e3:.3f} | {1 / took:.0f} |", flush=True)


def by_usearch(base, kind):
    before, began = resident(), time.process_time()
    index = Index(ndim=DIMENSION, metric="cos", dtype=kind, connectivity=M, expansion_add=EF_CONSTRUCTION)
    # usearch takes vectors as unit vectors times 127, cut off, which loses much: scaled by us, nothing is lost.
    rows = np.rint(base * (127 / np.abs(base).max(axis=1, keepdims=True))).astype(np.int8) if kind == "i8" else base
    index.add(np.arange(len(base)), rows, threads=1)
    return index, time.process_time() - began, resident() - before - (rows.nbytes if kind == "i8" else 0)


def main():
    directory, wanted = sys.argv[1], [float(recall) for recall in sys.argv[2:]] or [0.985, 0.99]
    base, questions = vectors(f"{directory}/base.f32"), vectors(f"{directory}/questions.f32")
    count, best = len(base), truth(base, questions)
    print(f"usearch {version('usearch')}, hnswlib {version('hnswlib')}, M {M}, ef of construction {EF_CONSTRUCTION}")
    print("| memories | | recall of 10 | ms a recall | recalls/s |\n|---|---|---|---|---|")
    made = []

    peers = os.environ.get("ENGRAM_BENCH_PEERS", "usearch i8,usearch f32,hnswlib f32").split(",")
    for kind in ["i8", "f32"]:
        name = f"usearch {kind}"
        if name not in peers:
            continue
        index, took, size = by_usearch(base, kind)
        made.append((name, took, size))

        def search(question, ef):
            index.expansion_search = ef
            if kind == "i8":
                question = np.rint(question * (127 / np.abs(question).max())).astype(np.int8)
            return index.search(question, 10, threads=1).keys

        measure(name, search, count, wanted, best, questions)
        del index

    if "hnswlib f32" in peers:
        by_hnswlib(base, questions, best, wanted, made)

    print("\n| | inserts/s | bytes a memory |\n|---|---|---|")
    for name, took, size in made:
        print(f"| {name} | {count / took:.0f} | {size / count:.0f} |")


def by_hnswlib(base, questions, best, wanted, made):
    count = len(base)
    before, began = resident(), time.process_time()
    index = hnswlib.Index(space="ip", dim=DIMENSION)
    index.init_index(max_elements=count, M=M, ef_construction=EF_CONSTRUCTION)
    index.set_num_threads(1)
    index.add_items(base, np.arange(count), num_threads=1)
    made.append(("hnswlib f32", time.process_time() - began, resident() - before))

    def search(question, ef, accept=None):
        index.set_ef(ef)
        return index.knn_query(question, k=10, num_threads=1, filter=accept)[0][0]

    measure("hnswlib f32", search, count, wanted, best, questions)
    for share in [0.5, 0.05, 0.001]:
        first = round(count * (1 - share))
        newest = lambda question, ef: search(question, ef, lambda label: label >= first)
        try:
            measure(f"hnswlib f32, filter {share}", newest, count, wanted, truth(base, questions[:50], first), questions[:50])
        except RuntimeError as error:
            print(f"| {count} | hnswlib f32, filter {share}: {error} | | | |")


main()

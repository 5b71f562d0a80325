#!/usr/bin/env python3
"""Tokenizes a text with fourmi and with Hugging Face's tokenizers in turn: every id must be the same; prints MB/s of both,
by the clock and by the processors' time (what others do on the machine changes the first more than the second).

  compare_with_hf.py FOURMI TOKENIZER.json TEXT[.gz|.dz] [THREADS] [ROUNDS]     (pip install tokenizers numpy)
"""
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

fourmi, tokenizer_file, text_file = sys.argv[1:4]
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 1
rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 3
os.environ["RAYON_NUM_THREADS"] = str(threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"

import numpy
from tokenizers import Tokenizer

with open(text_file, "rb") as file:
    raw = file.read()
text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", errors="replace")
documents = [text[i:i + 8192] for i in range(0, len(text), 8192)]
size = sum(len(d.encode()) for d in documents)
tokenizer = Tokenizer.from_file(tokenizer_file)

with tempfile.TemporaryDirectory() as folder:
    lines = os.path.join(folder, "documents.jsonl")
    with open(lines, "w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    def timed(who, work):
        used = lambda: sum(resource.getrusage(who)[:2])
        start, before = time.perf_counter(), used()
        result = work()
        return result, (size / 1e6 / (time.perf_counter() - start), size / 1e6 / (used() - before))

    ours, theirs = [], []
    prefix = os.path.join(folder, "out")
    for _ in range(rounds):
        _, speed = timed(resource.RUSAGE_CHILDREN, lambda: subprocess.run(
            [fourmi, "tokenize", tokenizer_file, lines, "--out", prefix, "--threads", str(threads), "--overwrite",
             "--no-end-of-document"], check=True, stdout=subprocess.DEVNULL))
        ours.append(speed)
        encoded, speed = timed(resource.RUSAGE_SELF, lambda: tokenizer.encode_batch_fast(documents, add_special_tokens=False))
        theirs.append(speed)
    expected = numpy.concatenate([numpy.array(e.ids, dtype=numpy.int64) for e in encoded])
    with open(prefix + ".json") as file:
        kind = {"u16": numpy.uint16, "i32": numpy.int32}[json.load(file)["type"]]
    found = numpy.fromfile(prefix + ".bin", dtype=kind).astype(numpy.int64)
    same = len(found) == len(expected) and bool((found == expected).all())
    median = lambda values: sorted(values)[len(values) // 2]
    print(f"{size / 1e6:.1f} MB, {len(found)} tokens, ids {'equal' if same else 'DIFFERENT'}, {threads} thread(s), {rounds} rounds")
    for i, what in enumerate(["by the clock", "a second of processor"]):
        mine, other = median([o[i] for o in ours]), median([t[i] for t in theirs])
        print(f"  MB/s {what}: fourmi {mine:.1f} (process and files included), tokenizers {other:.2f} (encoding alone), "
              f"ratio {mine / other:.1f}")
    sys.exit(0 if same else 1)

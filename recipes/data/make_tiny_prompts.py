#!/usr/bin/env python3
"""Writes tiny-prompts.jsonl beside this script: the questions of make_tiny_chat.py with the answers that are right.

Standard library only; the same file each time. Its text is ours: CC0-1.0.
"""
import json
import pathlib

from make_tiny_chat import ANTS

if __name__ == "__main__":
    lines = []
    for name, (colour, place) in sorted(ANTS.items()):
        lines += [{"problem": f"Colour of {name}?", "answer": colour}, {"problem": f"Where is {name}?", "answer": f"In {place}."}]
    out = pathlib.Path(__file__).with_name("tiny-prompts.jsonl")
    out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

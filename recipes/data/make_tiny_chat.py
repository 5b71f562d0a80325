#!/usr/bin/env python3
"""Writes tiny-chat.jsonl beside this script: made-up conversations that show the format `messages`, nothing more.

Standard library only; the same file each time. Its text is ours: CC0-1.0.
"""
import json
import pathlib
import random

ANTS = {
    "Lasius niger": ("black", "gardens"), "Formica rufa": ("red and black", "pine woods"),
    "Myrmica rubra": ("red", "meadows"), "Messor barbarus": ("black", "dry grassland"),
    "Camponotus ligniperda": ("black and brown", "dead wood"), "Tetramorium caespitum": ("dark brown", "pavements"),
}
RULES = ["Answer in a word or two.", "You know ants.", "Be brief."]


def turn(draw):
    kind = draw.randrange(3)
    if kind == 0:
        a, b = draw.randrange(2, 60), draw.randrange(2, 60)
        return f"What is {a} + {b}?", str(a + b)
    name = draw.choice(sorted(ANTS))
    colour, place = ANTS[name]
    return (f"Colour of {name}?", colour) if kind == 1 else (f"Where is {name}?", f"In {place}.")


def conversation(number):
    draw = random.Random(number)
    messages = [{"role": "system", "content": draw.choice(RULES)}] if number % 3 == 0 else []
    for _ in range(1 + number % 2):
        question, answer = turn(draw)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


if __name__ == "__main__":
    out = pathlib.Path(__file__).with_name("tiny-chat.jsonl")
    out.write_text("".join(json.dumps(conversation(n)) + "\n" for n in range(200)), encoding="utf-8")

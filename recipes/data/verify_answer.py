#!/usr/bin/env python3
r"""Is an answer right? For distill.harvest.verify.command: reads one JSON object from standard input, exit status 0 keeps.

What is held against the reference is what the answer puts into its last \boxed{...}; without one its last number; without one all
of it. Numbers are equal by value (94, 94.0, 1,000), texts without regard to case, white space and a final stop. Standard library only.
"""
import json
import re
import sys
from fractions import Fraction

NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?"


def boxed(text):
    """What stands in the last \\boxed{...}, inner braces included; None: there is none."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len(r"\boxed{")
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at]
    return None


def number(text):
    """The value of a text that is one number; None: it is none."""
    word = text.strip().strip("$").rstrip(".").replace(",", "")
    try:
        return Fraction(word)
    except (ValueError, ZeroDivisionError):
        return None


def plain(text):
    return " ".join(text.lower().split()).rstrip(".")


def final_answer(text, reference):
    inside = boxed(text)
    if inside is not None:
        return inside
    numbers = re.findall(NUMBER, text)
    return numbers[-1] if numbers and number(reference) is not None else text


def is_right(answer, reference):
    found = final_answer(answer, reference)
    if number(found) is not None and number(reference) is not None:
        return number(found) == number(reference)
    return plain(found) == plain(reference)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    sys.exit(0 if is_right(asked["answer"], str(asked["reference"])) else 1)

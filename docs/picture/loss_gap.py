#!/usr/bin/env python3
"""The same run in several precisions: smoothed losses, and how far each is from bf16.

    docs/picture/loss_gap.py --fourmi build/bin/fourmi --faulty build/bin/faulty_fourmi --folder runs/loss-gap \\
        --record docs/picture/loss_gap.json --out docs/picture/loss_gap.svg

Each run has a directory in the folder and goes on from its newest checkpoint, so the script may be stopped and called
again. A run that has ended is written into the record (loss of each step in nats), and what the record has is not run.
The noise floor is bf16 again with the lowest bit of one weight in bf16 flipped before the first step; the last run has
output gradients in blocks of 128 x 128, with which DeepSeek-V3 saw a large model diverge. Exit status 1 if fp8-block
ends farther from bf16 than the larger of 0.25% and twice the noise floor.
"""

import argparse
import json
import pathlib
import subprocess
import sys

VARIANTS = [
    ("fp32", ["precision.compute=fp32"], False),
    ("bf16", ["precision.compute=bf16"], False),
    ("bf16, one bit flipped", ["precision.compute=bf16"], True),
    ("fp8-block", ["precision.compute=fp8-block"], False),
    ("fp8-tensor", ["precision.compute=fp8-tensor"], False),
    ("mxfp8", ["precision.compute=mxfp8"], False),
    ("fp8-block, gradients in 128 x 128", ["precision.compute=fp8-block", "precision.gradient_block=128x128"], False),
]
COLOURS = ["#3d405b", "#1b6ca8", "#7fb7e0", "#d1495b", "#edae49", "#66a182", "#8d5a97"]
WIDTH, LEFT, TOP, HEIGHT, GAP, ROW = 1000, 70, 40, 300, 60, 22
SMOOTHING = 0.98  # exponential, a horizon of 50 steps
BEGIN = 50  # of the curves
MOST = 4.0  # percent that are shown; curves end where they leave


def train(arguments, recipe, name, precision, flipped):
    directory = arguments.folder / name.replace(", ", "-").replace(" ", "-")
    overrides = [f"run.directory={directory}", f"run.steps={arguments.steps}", *precision]
    fresh = not (directory / "metrics.jsonl").exists()
    if flipped and fresh:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        command = [arguments.faulty, "flip_bit", "0", "forward", "1", arguments.folder, recipe, *overrides]
    else:
        command = [arguments.fourmi, "train", recipe, *overrides]
    with open(arguments.folder / "log", "a") as log:
        subprocess.run([str(word) for word in command], check=True, stdout=log, stderr=log)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "step_seconds" in line]


def smoothed(losses):
    curve, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean, weight = SMOOTHING * mean + (1 - SMOOTHING) * loss, SMOOTHING * weight + 1 - SMOOTHING
        curve.append(mean / weight)
    return curve


def axes(out, top, low, high, form):
    y = lambda value: top + HEIGHT * (high - value) / (high - low)
    for i in range(5):
        value = low + (high - low) * i / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{form(value)}</text>')
    return y


def picture(curves, steps):
    x = lambda i: LEFT + (WIDTH - LEFT - 20) * i / (steps - 1)
    total = TOP + 2 * HEIGHT + GAP + 60 + ROW * len(curves)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" font-family="sans-serif" '
           'font-size="13">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">Smoothed loss of one recipe in {len(curves)} precisions</text>']
    def draw(y, series):
        for colour, values in zip(COLOURS, series):
            shown = [(i, v) for i, v in enumerate(values) if i % 5 == 0 and i >= BEGIN and v is not None]
            points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in shown)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    shown = [v for curve in curves for v in curve[BEGIN:]]
    draw(axes(out, TOP, min(shown), max(shown), lambda v: f"{v:.2f}"), curves)
    base = curves[1]
    gaps = [[100 * (v / b - 1) for v, b in zip(curve, base)] for curve in curves]
    most = min(MOST, max(abs(v) for gap in gaps for v in gap[BEGIN:]))
    second = TOP + HEIGHT + GAP
    out.append(f'<text x="{LEFT}" y="{second - 14}" font-size="15">Distance to bf16, percent (up to {MOST:.0f})</text>')
    inside = [[v if abs(v) <= most else None for v in gap] for gap in gaps]
    draw(axes(out, second, -most, most, lambda v: f"{v:+.2f}"), inside)
    for i in range(0, steps + 1, 250):
        out.append(f'<text x="{x(min(i, steps - 1)):.1f}" y="{second + HEIGHT + 18}" text-anchor="middle">{i}</text>')
    for i, ((name, _, _), curve, gap) in enumerate(zip(VARIANTS, curves, gaps)):
        row = second + HEIGHT + 50 + ROW * i
        out.append(f'<line x1="{LEFT - 40}" x2="{LEFT - 8}" y1="{row - 4}" y2="{row - 4}" stroke="{COLOURS[i]}" '
                   f'stroke-width="3"/><text x="{LEFT}" y="{row}">{name}: {curve[-1]:.4f} ({gap[-1]:+.3f}%)</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--fourmi", "--faulty", "--folder", "--record", "--out"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    recipe = pathlib.Path(__file__).resolve().parent / "loss_gap.yaml"
    record = json.loads(arguments.record.read_text()) if arguments.record.exists() else {}
    curves = []
    for name, precision, flipped in VARIANTS:
        if name not in record:
            losses = train(arguments, recipe, name, precision, flipped)
            record[name] = [round(loss, 5) for loss in losses]
            arguments.record.write_text(json.dumps(record) + "\n")
        curves.append(smoothed(record[name]))
        print(f"{name}: smoothed loss {curves[-1][-1]:.5f} after {len(record[name])} steps", flush=True)
    arguments.out.write_text(picture(curves, arguments.steps))
    last = [curve[-1] for curve in curves]
    floor, gap = abs(last[2] / last[1] - 1), abs(last[3] / last[1] - 1)
    print(f"noise floor {100 * floor:.3f}%, fp8-block {100 * gap:.3f}% from bf16")
    if gap > max(0.0025, 2 * floor):
        sys.exit("loss_gap.py: fp8-block is too far from bf16")


main()

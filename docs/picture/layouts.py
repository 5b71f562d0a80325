#!/usr/bin/env python3
"""Eight layouts, one curve: trains the same recipe in each of them and draws what they wrote.

    docs/picture/layouts.py --fourmi build/bin/fourmi --out docs/picture/layouts.svg

Mode layout promises equal bits, so the eight curves lie on one line; under it the picture lists the bits of the last
step's loss and gradient norm and the checkpoint's root digest, as each layout's own run directory has them. Exit status 1
if any of them differ.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

LAYOUTS = [
    ("1 rank", 1, []),
    ("data 8, ZeRO 3", 8, ["parallel.zero=3"]),
    ("tensor 4 x data 2", 8, ["parallel.tensor=4"]),
    ("context 4 x tensor 2", 8, ["parallel.context=4", "parallel.tensor=2"]),
    ("pipeline 2 x data 4, zb-h1", 8, ["parallel.pipeline=2", "parallel.pipeline_schedule=zb-h1"]),
    ("expert 8, bound 1.25", 8, ["parallel.expert=8", "parallel.dispatch_bound=1.25"]),
    ("expert 2 x expert-tensor 4, tensor 2", 8,
     ["parallel.expert=2", "parallel.expert_tensor=4", "parallel.tensor=2"]),
    ("pipeline 2 x context 2 x tensor 2, expert 4, zb-v, ZeRO 2", 8,
     ["parallel.pipeline=2", "parallel.context=2", "parallel.tensor=2", "parallel.expert=4",
      "parallel.pipeline_schedule=zb-v", "parallel.zero=2"]),
]
COLOURS = ["#1b6ca8", "#d1495b", "#2e8b57", "#8d6a9f", "#e09f3e", "#3d405b", "#00798c", "#a44a3f"]
WIDTH, LEFT, TOP, HEIGHT, ROW = 1120, 60, 40, 300, 22


def train(top, fourmi, steps, ranks, overrides, directory):
    """The metrics of a run, and the root digest of its last checkpoint."""
    command = [top / "launch/mpirun", "-n", str(ranks), fourmi, "train", top / "tests/end_to_end/small.yaml",
               f"run.directory={directory}", f"run.steps={steps}", "run.reproducibility=layout",
               "precision.compute=bf16", "model.num_hidden_layers=4", "model.intermediate_size=64",
               "model.moe_intermediate_size=64", "logging.every=1", *overrides]
    subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    newest = sorted((directory / "checkpoints").glob("step-????????"))[-1]
    return lines, json.loads((newest / "manifest.json").read_text())["root"]


def picture(runs, steps):
    losses = [line["loss"] for lines, _ in runs for line in lines]
    low, high = min(losses), max(losses)
    x = lambda step: LEFT + (WIDTH - LEFT - 20) * (step - 1) / (steps - 1)
    y = lambda loss: TOP + HEIGHT * (high - loss) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + HEIGHT + 80 + ROW * len(runs)}" '
           'font-family="sans-serif" font-size="13">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">Loss of {len(runs)} layouts of one recipe (mode layout, bf16), '
           f'{steps} steps</text>']
    for i in range(5):
        loss = low + (high - low) * i / 4
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
    for step in range(10, steps + 1, 10):
        out.append(f'<text x="{x(step):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{step}</text>')
    # Dashes of one layout each, so that all of them are seen on the one line.
    dash = 8
    for i, (lines, _) in enumerate(runs):
        points = " ".join(f'{x(line["step"]):.1f},{y(line["loss"]):.1f}' for line in lines)
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[i]}" stroke-width="2.5" '
                   f'stroke-dasharray="{dash} {dash * (len(runs) - 1)}" stroke-dashoffset="{-dash * i}"/>')
    base = TOP + HEIGHT + 50
    for text, at in (("layout", LEFT), ("loss", 520), ("gradient norm", 660), ("root digest", 810)):
        out.append(f'<text x="{at}" y="{base}" fill="#666">{text}</text>')
    for i, ((name, ranks, _), (lines, root)) in enumerate(zip(LAYOUTS, runs)):
        row = base + ROW * (i + 1)
        out.append(f'<line x1="{LEFT - 40}" x2="{LEFT - 8}" y1="{row - 4}" y2="{row - 4}" stroke="{COLOURS[i]}" '
                   f'stroke-width="3"/><text x="{LEFT}" y="{row}">{name} ({ranks} rank{"s" if ranks > 1 else ""})</text>')
        for text, at in ((lines[-1]["loss_bits"], 520), (lines[-1]["grad_norm_bits"], 660), (root[:24] + "...", 810)):
            out.append(f'<text x="{at}" y="{row}" font-family="monospace">{text}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fourmi", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    top = pathlib.Path(__file__).resolve().parents[2]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, ranks, overrides) in enumerate(LAYOUTS):
            runs.append(train(top, arguments.fourmi.resolve(), arguments.steps, ranks, overrides,
                              pathlib.Path(folder) / str(i)))
            print(f"{name}: loss {runs[-1][0][-1]['loss_bits']}, root {runs[-1][1]}", flush=True)
    arguments.out.write_text(picture(runs, arguments.steps))
    bits = lambda run: ([(line["loss_bits"], line["grad_norm_bits"]) for line in run[0]], run[1])
    different = [name for (name, _, _), run in zip(LAYOUTS, runs) if bits(run) != bits(runs[0])]
    if different:
        sys.exit(f"layouts.py: other bits than on one rank: {', '.join(different)}")


main()

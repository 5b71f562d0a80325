#!/usr/bin/env python3
"""Reads a run's TensorBoard events with TensorBoard's own code and compares them with metrics.jsonl, evaluations.jsonl and expert_load.jsonl.

    tests/oracles/tensorboard_events.py RUN_DIRECTORY

Needs the package `tensorboard`. Exit status 0: every step is drawn once, with the value that the logs have (as a 32-bit float).
"""
import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def as_float(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(run):
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    metrics = lines(run / "metrics.jsonl")
    compared = 0

    def compare(tag, expected):
        nonlocal compared
        seen = {e.step: e.value for e in events.Scalars(tag)}
        assert len(seen) == len(events.Scalars(tag)), f"{tag}: a step is there twice"
        for step, value in expected.items():
            assert step in seen, f"{tag}: step {step} is missing"
            assert seen[step] == as_float(value), f"{tag}: step {step} is {seen[step]}, expected {value}"
            compared += 1
        return seen

    for key in ("loss", "loss_mtp", "loss_balance", "grad_norm", "learning_rate"):
        expected = {m["step"]: m[key] for m in metrics if m.get(key) is not None}
        if expected:
            seen = compare(f"train/{key}", expected)
            assert len(seen) == len(expected), f"train/{key}: {len(seen)} steps drawn, {len(expected)} logged"
    by_step = {m["step"]: m for m in metrics}
    for tag in (t for t in tags if t.startswith(("speed/", "time/"))):
        key = tag.split("/")[1] if tag.startswith("speed/") else "time_" + tag.split("/")[1]
        compare(tag, {e.step: by_step[e.step][key] for e in events.Scalars(tag)})
    for line in lines(run / "evaluations.jsonl"):
        compare("evaluation/loss", {line["step"]: line["loss"]})
    for line in lines(run / "expert_load.jsonl"):
        for layer in line["layers"]:
            for key in ("max_over_mean", "entropy", "dead", "bias_max", "bias_spread"):
                compare(f"experts/layer-{layer['layer']:02}/{key}", {line["step"]: layer[key]})
    print(f"{len(tags)} tags, {len(metrics)} steps, {compared} values equal")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

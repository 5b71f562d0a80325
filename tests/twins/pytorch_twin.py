#!/usr/bin/env python3
"""Trains the twin of each family in PyTorch with Hugging Face's own model, and writes the losses of its 100 steps.

    ninja -C build/cpu twin_export
    python tests/twins/pytorch_twin.py build/cpu/bin/twin_export [FAMILY ...]

Begins with the weights and reads the batches that twin_export wrote: nothing but the model, its gradient and AdamW is PyTorch's.
Needs torch, transformers, safetensors and PyYAML. Writes tests/twins/goldens/FAMILY.json.
"""
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
import yaml
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
FAMILIES = ["qwen2", "qwen3", "qwen3_moe", "llama", "mixtral", "deepseek_v3"]
# Keys of a recipe that are fourmi's defaults and that transformers' config does not know.
OURS = {"config", "scoring_func", "topk_method", "moe_layer_freq"}


def numbers(value):
    """PyYAML takes 1e-06 for text."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [numbers(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"[0-9.]+e[-+]?[0-9]+", value):
        return float(value)
    return value


def learning_rate(recipe, step):
    o, s = recipe["optimizer"], recipe["schedule"]
    base, warm, end = o["learning_rate"], s["warmup_steps"], s["decay_end_step"]
    if step < warm:
        return base * step / warm
    progress = min(1.0, (step - warm) / (end - warm))
    return base * (s["final_ratio"] + (1 - s["final_ratio"]) * 0.5 * (1 + math.cos(math.pi * progress)))


def load_model(folder, recipe):
    """Through config.json and safetensors under Hugging Face's names, as a released model would be."""
    config = {k: v for k, v in recipe["model"].items() if k not in OURS and (k, v) != ("layer_types", [])}
    config["architectures"] = None
    if not config.get("sliding_window"):
        config["sliding_window"] = None
    (folder / "config.json").write_text(json.dumps(config))
    tensors, at = {}, 0
    flat = np.fromfile(folder / "weights.bin", dtype=np.float32)
    for p in json.loads((folder / "weights.json").read_text()):
        size = math.prod(p["shape"])
        tensors[p["name"]] = torch.from_numpy(flat[at : at + size].reshape(p["shape"]).copy())
        assert p["decay"] == (len(p["shape"]) > 1) or "e_score_correction_bias" in p["name"], p
        at += size
    assert at == flat.size
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.train()


def train(folder):
    recipe = numbers(yaml.safe_load((folder / "recipe.yaml").read_text()))
    model = load_model(folder, recipe)
    o, d = recipe["optimizer"], recipe["data"]
    shape = (recipe["run"]["steps"], 2, d["global_batch_size"], d["sequence_length"])
    batches = torch.from_numpy(np.fromfile(folder / "batches.bin", dtype=np.int32).reshape(shape).astype(np.int64))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": o["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=tuple(o["betas"]), eps=o["epsilon"])
    losses = []
    for step in range(1, shape[0] + 1):
        tokens, targets = batches[step - 1]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        logits = model(input_ids=tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip_grad_norm"])
        optimizer.step()
        losses.append(round(float(loss), 6))
    return losses


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    export = sys.argv[1]
    for family in sys.argv[2:] or FAMILIES:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            subprocess.run([export, family, name], check=True)
            losses = train(folder)
        golden = {"torch": torch.__version__, "transformers": transformers.__version__, "losses": losses}
        (HERE / "goldens" / f"{family}.json").write_text(json.dumps(golden) + "\n")
        print(family, losses[0], losses[-1], flush=True)


main()

#!/usr/bin/env python3
"""Loads folders that fourmi exported in transformers and holds them against the golden models that they came from.

    build/bin/fourmi import tests/golden/NAME OUT/NAME && build/bin/fourmi export OUT/NAME HF_OUT/NAME
    .deps/golden/bin/python tests/golden/check.py HF_OUT [TOLERANCE]

For every NAME in HF_OUT that is a golden model's: no weight missing, none left over, logits as in golden.safetensors.
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

from make import masks_of


def check(folder, golden, tolerance):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager",
        experts_implementation="eager", dtype=torch.float32)
    left = {key: sorted(names) for key, names in info.items() if names}
    facts = json.loads((golden / "golden.json").read_text())
    tokens, positions, begin = (torch.tensor(facts[k]) for k in ("tokens", "positions", "key_begin"))
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=masks_of(model.config, begin), position_ids=positions,
                       use_cache=False).logits
    far = (logits - load_file(golden / "golden.safetensors")["logits"]).abs().max().item()
    good = not left and far <= tolerance
    print(f"{golden.name}: {'good' if good else 'BAD'}: logits differ by {far:.1e} at most, {type(model).__name__}",
          left or "")
    return good


if __name__ == "__main__":
    root, goldens = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 1e-6
    results = [check(f, goldens / f.name, limit) for f in sorted(root.iterdir()) if (goldens / f.name).is_dir()]
    sys.exit(0 if results and all(results) else 1)

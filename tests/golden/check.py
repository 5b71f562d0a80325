#!/usr/bin/env python3
"""Loads folders that fourmi exported in transformers and holds them against the golden models that they came from.

    build/bin/fourmi import tests/golden/NAME OUT/NAME && build/bin/fourmi export OUT/NAME HF_OUT/NAME
    .deps/golden/bin/python tests/golden/check.py HF_OUT [TOLERANCE]

For every NAME in HF_OUT that is a golden model's: no weight missing, none left over (but of a multi-token-prediction
layer, which transformers has not), logits as in golden.safetensors. Every other folder there is taken for the export of
a run: model, tokenizer and generation_config.json load, and say the same of the tokens that begin and end a document.
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

from make import masks_of


def left_over(config, info):
    mtp = f"model.layers.{config.num_hidden_layers}."
    names = {key: sorted(n for n in names if not n.startswith(mtp)) for key, names in info.items()}
    return {key: n for key, n in names.items() if n}


def check_run(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "Ameise, \u8682\u8681, fourmi \U0001f41c\n\t123"
    ids = tokenizer(text).input_ids
    left, config, generation = left_over(model.config, info), model.config, model.generation_config
    good = (not left and tokenizer.decode(ids) == text and max(ids) < config.vocab_size
            and config.eos_token_id == generation.eos_token_id == tokenizer.eos_token_id is not None
            and config.bos_token_id == generation.bos_token_id == tokenizer.bos_token_id)
    with torch.no_grad():
        out = model.generate(torch.tensor([[tokenizer.eos_token_id] + ids]), max_new_tokens=4, do_sample=False)
    good = good and out.shape[1] > len(ids) + 1
    print(f"{folder.name}: {'good' if good else 'BAD'}: {type(model).__name__} in {model.dtype}, {len(tokenizer)} tokens, "
          f"ends with {tokenizer.eos_token!r}", left or "")
    return good


def check(folder, golden, tolerance):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager",
        experts_implementation="eager", dtype=torch.float32)
    left = left_over(model.config, info)
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
    results = [check(f, goldens / f.name, limit) if (goldens / f.name).is_dir() else check_run(f)
               for f in sorted(root.iterdir())]
    sys.exit(0 if results and all(results) else 1)

#!/usr/bin/env python3
"""Exports models in FP8 blocks, loads them in transformers and holds them against fourmi's own reading of the bytes.

    .deps/golden/bin/pip install accelerate          # transformers asks for it before it reads FP8
    .deps/golden/bin/python tests/golden/check_fp8.py build/bin/fourmi

Two DeepSeek-V3: the golden model, whose maps are parts of one block, and a random one of several blocks. Of each:
- transformers (fine-grained FP8, dequantised as it loads, fp32) has every weight and none left over, and each is the
  number that fourmi reads from the same bytes (import, export in fp32), to the bit;
- its loss on a file of tokens is that of `fourmi eval`, to 1e-5 (not of the golden model: it has fewer tokens than bytes
  have, which an import without a tokenizer reads);
- its logits are those of the model before rounding within what e4m3 costs: a quarter of their spread.
transformers 5.23 takes a block's size to be the weight's over the number of scales. A last block that is not whole it
refuses (576 rows in 5 blocks, DeepSeek-V3's kv_a_proj_with_mqa) or, where that divides, reads wrongly (252 columns as
126 + 126, not 128 + 124). So here all blocks are whole, but for maps that are one block alone.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

import make

WINDOW, WINDOWS = 64, 4


def fourmi(program, *words):
    return subprocess.run([program, *map(str, words)], check=True, capture_output=True, text=True).stdout


def of_several_blocks(folder):
    torch.manual_seed(7)
    sizes = dict(make.LATENT, vocab_size=320, hidden_size=256, intermediate_size=384, moe_intermediate_size=128, kv_lora_rank=128,
                 qk_nope_head_dim=128, qk_rope_head_dim=128, v_head_dim=128)
    config = transformers.DeepseekV3Config(**sizes, q_lora_rank=128, n_group=4, topk_group=2, norm_topk_prob=True,
                                           num_nextn_predict_layers=0, **make.rope(rope_type="default"))
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for name, x in model.named_parameters():
            x.copy_(1 + 0.3 * torch.randn_like(x) if "norm" in name else torch.randn_like(x) / x.shape[-1] ** 0.5)
    model.save_pretrained(folder)


def load(folder, fp8):
    more = dict(quantization_config=transformers.FineGrainedFP8Config(dequantize=True)) if fp8 else {}
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", experts_implementation="eager",
        dtype=torch.float32, **more)
    left = {key: sorted(names) for key, names in info.items() if names}
    assert not left, left
    return model.float().eval()  # what is in bf16 beside the blocks is loaded so


def write_tokens(prefix, tokens):
    """One document in the indexed format (magic, version 1, type 4: int32, one sequence, one document)."""
    tokens.astype("<i4").tofile(prefix.with_suffix(".bin"))
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, 1, 2)
    prefix.with_suffix(".idx").write_bytes(head + struct.pack("<iqqq", len(tokens), 0, 0, 1))


def check(program, name, source, aside):
    fourmi(program, "import", source, aside / "run")
    fourmi(program, "export", aside / "run", aside / "fp8", "--dtype", "fp8-block")
    fourmi(program, "import", aside / "fp8", aside / "again")
    fourmi(program, "export", aside / "again", aside / "read", "--dtype", "fp32")
    config = json.loads((aside / "fp8/config.json").read_text())
    assert config["quantization_config"]["weight_block_size"] == [128, 128]
    theirs, ours, before = load(aside / "fp8", True), load(aside / "read", False), load(source, False)
    far = [k for (k, a), b in zip(theirs.state_dict().items(), ours.state_dict().values()) if not torch.equal(a, b)]
    changed = sum(not torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), before.state_dict().values()))

    tokens = np.random.default_rng(3).integers(0, min(256, config["vocab_size"]), WINDOW * WINDOWS - 1)
    write_tokens(aside / "tokens", tokens)
    end = min(256, config["vocab_size"] - 1)  # a document begins and ends with it
    tokens = torch.tensor([end, *tokens, end])
    rows, targets = tokens[:-1].view(WINDOWS, WINDOW), tokens[1:]
    with torch.no_grad():
        logits = [m(input_ids=rows, use_cache=False).logits for m in (theirs, before)]
    loss = torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), targets).item()
    said = {"loss": loss, "tokens": WINDOW * WINDOWS}
    if config["vocab_size"] > 256:
        fourmi(program, "import", aside / "read", aside / "evaluated")  # in fp32, as the folder is
        said = json.loads(fourmi(program, "eval", aside / "evaluated", "--data", aside / "tokens.bin", "--json"))
    rounding = ((logits[0] - logits[1]).std() / logits[1].std()).item()
    good = (not far and changed > 10 and said["tokens"] == WINDOW * WINDOWS and abs(said["loss"] - loss) <= 1e-5
            and rounding <= 0.25)
    print(f"{name}: {'good' if good else 'BAD'}: {changed} tensors rounded, {len(far)} read differently; loss {loss:.6f} "
          f"in transformers, {said['loss']:.6f} by fourmi; logits moved by {rounding:.3f} of their spread", far[:5])
    return good


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    good = True
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        of_several_blocks(root / "model")
        for title, source in (("deepseek-v3 (golden)", pathlib.Path(__file__).parent / "deepseek-v3"),
                              ("deepseek-v3 of several blocks", root / "model")):
            aside = root / title.replace(" ", "-")
            aside.mkdir()
            good = check(program, title, source, aside) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

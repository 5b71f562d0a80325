#!/usr/bin/env python3
"""Holds what fourmi would export against the layout of published repositories: names, shapes, types, config.json.

    .deps/golden/bin/python tests/oracles/published_layout.py build/bin/fourmi [NAME ...]

Needs torch and transformers (tests/golden/make.py says how), no network and no weights. What is published is derived:
names and shapes from transformers' own model of the published config.json, built without storage and renamed as
transformers saves it; what transformers drops (the multi-token-prediction layer of DeepSeek-V3) and the types of the
released files (FP8 blocks with scales, correction bias in F32) from their description in DeepSeek's repository. What
fourmi would write is `fourmi export RECIPE --dry-run`: a shipped recipe, or one that takes the published config.json.
config.json is compared twice: key by key with the published one, and by what transformers makes of both.
Exit status 1 if any tensor differs or transformers would build another model.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

TREE = pathlib.Path(__file__).parents[2]
CONFIGS = TREE / "tests/recipe/configs"

FP8 = dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128])
LATENT = dict(architectures=["DeepseekV3ForCausalLM"], attention_bias=False, attention_dropout=0.0, ep_size=1,
              hidden_act="silu", initializer_range=0.02, kv_lora_rank=512, model_type="deepseek_v3", moe_layer_freq=1,
              num_nextn_predict_layers=0, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, seq_aux=True,
              scoring_func="sigmoid", topk_method="noaux_tc", norm_topk_prob=True, pretraining_tp=1, use_cache=True,
              tie_word_embeddings=False, torch_dtype="bfloat16", aux_loss_alpha=0.001, rms_norm_eps=1e-06)
YARN = dict(beta_fast=32, beta_slow=1, factor=40, mscale=1.0, mscale_all_dim=1.0,
            original_max_position_embeddings=4096, type="yarn")
PUBLISHED = {
    "deepseek-v3": dict(
        LATENT, first_k_dense_replace=3, hidden_size=7168, intermediate_size=18432, max_position_embeddings=163840,
        moe_intermediate_size=2048, n_group=8, topk_group=4, n_routed_experts=256, n_shared_experts=1,
        num_attention_heads=128, num_key_value_heads=128, num_experts_per_tok=8, num_hidden_layers=61,
        num_nextn_predict_layers=1, q_lora_rank=1536, rope_theta=10000, routed_scaling_factor=2.5, vocab_size=129280,
        rope_scaling=YARN, quantization_config=FP8, bos_token_id=0, eos_token_id=1),
    "deepseek-v2-lite": dict(
        LATENT, architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", first_k_dense_replace=1,
        hidden_size=2048, intermediate_size=10944, max_position_embeddings=163840, moe_intermediate_size=1408,
        n_group=1, topk_group=1, n_routed_experts=64, n_shared_experts=2, num_attention_heads=16,
        num_key_value_heads=16, num_experts_per_tok=6, num_hidden_layers=27, q_lora_rank=None, rope_theta=10000,
        routed_scaling_factor=1.0, scoring_func="softmax", topk_method="greedy", norm_topk_prob=False,
        vocab_size=102400, rope_scaling=dict(YARN, mscale=0.707, mscale_all_dim=0.707), bos_token_id=100000,
        eos_token_id=100001),
    "moonlight-16b-a3b": dict(
        LATENT, first_k_dense_replace=1, hidden_size=2048, intermediate_size=11264, max_position_embeddings=8192,
        moe_intermediate_size=1408, n_group=1, topk_group=1, n_routed_experts=64, n_shared_experts=2,
        num_attention_heads=16, num_key_value_heads=16, num_experts_per_tok=6, num_hidden_layers=27, q_lora_rank=None,
        rms_norm_eps=1e-05, rope_theta=50000.0, routed_scaling_factor=2.446, vocab_size=163840, bos_token_id=163584,
        eos_token_id=163586),
    "kimi-k2": dict(
        LATENT, model_type="kimi_k2", first_k_dense_replace=1, hidden_size=7168, intermediate_size=18432,
        max_position_embeddings=131072, moe_intermediate_size=2048, n_group=1, topk_group=1, n_routed_experts=384,
        n_shared_experts=1, num_attention_heads=64, num_key_value_heads=64, num_experts_per_tok=8,
        num_hidden_layers=61, q_lora_rank=1536, rms_norm_eps=1e-05, rope_theta=50000.0, routed_scaling_factor=2.827,
        vocab_size=163840, rope_scaling=dict(YARN, beta_fast=1.0, beta_slow=1.0, factor=32.0), quantization_config=FP8,
        bos_token_id=163584, eos_token_id=163585),
}
FROM_CONFIGS = ["qwen3-30b-a3b", "llama-3.1-8b", "mixtral-8x7b", "qwen2.5-7b", "qwen3-0.6b"]
# Keys that say nothing of the architecture: other programs' notes, and what an export knows only with a tokenizer.
NOTES = {"auto_map", "transformers_version", "torch_dtype", "dtype", "use_cache", "ep_size", "aux_loss_alpha", "seq_aux",
         "pretraining_tp", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "output_router_logits",
         "router_aux_loss_coef", "router_jitter_noise", "_name_or_path", "use_mrope"}


def config_of(raw):
    # kimi_k2 is DeepSeek-V3 by another name, for which its repository brings code of its own.
    raw = {k: v for k, v in raw.items() if k != "quantization_config"}
    if raw["model_type"] == "kimi_k2":
        raw["model_type"] = "deepseek_v3"
    return transformers.AutoConfig.for_model(**raw)


def in_blocks(name):
    """The linear maps of a layer, without router and eh_proj."""
    parts = name.split(".")
    return (parts[-1] == "weight" and parts[-2].endswith("_proj") and parts[-2] != "eh_proj") or (
        parts[-2].endswith("_with_mqa") and parts[-1] == "weight")


def published_tensors(raw):
    config = config_of(raw)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    state = {k: v for k, v in model.state_dict().items()}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    shapes = {k: list(v.shape) for k, v in revert_weight_conversion(model, state).items() if k not in tied}
    layers, d, vocabulary = raw["num_hidden_layers"], raw["hidden_size"], raw["vocab_size"]
    for depth in range(raw.get("num_nextn_predict_layers", 0)):
        last, prefix = f"model.layers.{layers - 1}.", f"model.layers.{layers + depth}."
        shapes.update({prefix + k[len(last):]: v for k, v in shapes.items() if k.startswith(last)})
        for name in ("enorm", "hnorm", "shared_head.norm"):
            shapes[prefix + name + ".weight"] = [d]
        shapes[prefix + "eh_proj.weight"] = [d, 2 * d]
        shapes[prefix + "embed_tokens.weight"] = shapes[prefix + "shared_head.head.weight"] = [vocabulary, d]
    tensors = {}
    for name, shape in shapes.items():
        dtype = "F32" if name.endswith("e_score_correction_bias") else "BF16"
        if "quantization_config" in raw and in_blocks(name):
            dtype = "F8_E4M3"
            tensors[name + "_scale_inv"] = ("F32", [-(-n // 128) for n in shape])
        tensors[name] = (dtype, shape)
    return tensors


def ours_of(program, name, raw):
    with tempfile.TemporaryDirectory() as aside:
        recipe = TREE / "recipes" / f"{name}.yaml"
        if not recipe.exists():
            (pathlib.Path(aside) / "config.json").write_text(json.dumps(raw))
            recipe = pathlib.Path(aside) / "recipe.yaml"
            recipe.write_text("run: {name: a, steps: 1}\nmodel: {config: config.json}\n"
                              "data: {sequence_length: 32, global_batch_size: 1, "
                              "train: [{name: none, format: synthetic}]}\n")
        dtype = "fp8-block" if "quantization_config" in raw else "bf16"
        plan = json.loads(subprocess.run([program, "export", recipe, "--dry-run", "--json", "--dtype", dtype],
                                         check=True, capture_output=True, text=True).stdout)
    return {k: (t["dtype"], t["shape"]) for k, t in plan["tensors"].items()}, plan["config"], plan["bytes"]


def differences(theirs, ours):
    missing = [f"not written: {k}" for k in theirs if k not in ours]
    extra = [f"written, not published: {k}" for k in ours if k not in theirs]
    other = [f"{k}: published {theirs[k]}, written {ours[k]}" for k in theirs if k in ours and theirs[k] != ours[k]]
    return missing + extra + other


def meant(config):
    """What a configuration says of the architecture: defaults filled in, what nothing reads left out."""
    c = {k: v for k, v in config.to_dict().items() if k not in NOTES}
    if c.get("head_dim") is None and "hidden_size" in c:
        c["head_dim"] = c["hidden_size"] // c["num_attention_heads"]
    if not c.get("use_sliding_window"):
        c.pop("max_window_layers", None)
    c.pop("initializer_range", None)  # of a new run; recipes have what the reports say
    return c


def same_model(theirs, ours):
    """What transformers' configurations differ in, notes aside."""
    a, b = meant(config_of(theirs)), meant(config_of(ours))
    return [f"transformers reads {k}: {a.get(k)} as published, {b.get(k)} as written"
            for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]


def main():
    program, wanted = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    published = dict(PUBLISHED, **{n: json.loads((CONFIGS / f"{n}.json").read_text()) for n in FROM_CONFIGS})
    bad = False
    print(f"transformers {transformers.__version__}\n")
    print("| model | tensors | bytes | names, shapes, types that differ | config.json: published keys that are absent or "
          "differ, notes aside | transformers reads |")
    print("|---|---|---|---|---|---|")
    for name, raw in published.items():
        if wanted and name not in wanted:
            continue
        tensors, config, size = ours_of(program, name, raw)
        wrong = differences(published_tensors(raw), tensors)
        reads = same_model(raw, config)
        keys = [k for k, v in raw.items() if k not in NOTES and config.get(k, "absent") != v]
        print(f"| {name} | {len(tensors)} | {size} | {len(wrong)} | {', '.join(keys) or 'none'} | "
              f"{'the same model' if not reads else f'{len(reads)} differ'} |", flush=True)
        for line in (wrong + reads)[:12] + [f"{k}: published {raw[k]}, written {config.get(k, 'absent')}" for k in keys]:
            print(f"  {name}: {line}", file=sys.stderr)
        bad = bad or bool(wrong or reads)
    return bad


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Makes the golden models of tests/golden/<name>/: what transformers computes, for tests/interop to be held against.

    python3 -m venv .deps/golden && .deps/golden/bin/pip install torch transformers safetensors numpy
    .deps/golden/bin/python tests/golden/make.py [NAME ...]

Each folder is a tiny random model as transformers saves it (config.json, model.safetensors, fp32), and beside it
golden.json (a batch of two sequences: tokens, targets, positions, first visible key of each row; the mean loss;
versions) and golden.safetensors (logits [sequences, tokens, vocabulary]; "gradient.<name>" of that loss by every
parameter, under the names that the model is saved with). The first sequence holds two documents that do not see each
other, and some targets do not count. deepseek-v3-mtp has a multi-token-prediction layer as well, which is computed by
mtp.py: golden.json has its tokens, targets, mean loss and the weight with which its summed loss is added (both sums over
the number of main targets), golden.safetensors its logits ("logits_mtp").
"""
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

import mtp

SEQUENCES, TOKENS, VOCABULARY = 2, 16, 64
MTP_WEIGHT = 0.3
SEEDS = {"deepseek-v3-mtp": 16}  # others: by their names; of this one so that every expert is chosen
COMMON = dict(vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=64, initializer_range=0.2, attention_dropout=0.0, rms_norm_eps=1e-6,
              tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GROUPED = dict(COMMON, num_key_value_heads=2, head_dim=8, intermediate_size=20)
LATENT = dict(COMMON, num_key_value_heads=4, intermediate_size=20, moe_intermediate_size=12, kv_lora_rank=10,
              qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, n_routed_experts=8, n_shared_experts=1,
              num_experts_per_tok=3, first_k_dense_replace=1, routed_scaling_factor=1.7)


def rope(**kind):
    return dict(rope_parameters=dict(rope_theta=10000.0, **kind))


def families():
    t = transformers
    llama3 = rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=16)
    yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
    latent_yarn = dict(yarn, beta_fast=32.0, beta_slow=1.0, mscale=0.9, mscale_all_dim=0.7)
    return {
        "llama": t.LlamaConfig(**dict(GROUPED, attention_bias=True), **llama3),
        "llama-tied": t.LlamaConfig(**dict(GROUPED, tie_word_embeddings=True), **rope(rope_type="default")),
        "qwen2": t.Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=5, max_window_layers=1,
                               **rope(rope_type="default")),
        "qwen3": t.Qwen3Config(**dict(GROUPED, tie_word_embeddings=True), **rope(**yarn)),
        "qwen3-moe": t.Qwen3MoeConfig(**dict(GROUPED, num_hidden_layers=3), num_experts=6, num_experts_per_tok=2,
                                      moe_intermediate_size=10, norm_topk_prob=True, mlp_only_layers=[1],
                                      decoder_sparse_step=1, **rope(rope_type="default")),
        "mixtral": t.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2, sliding_window=6,
                                   **rope(rope_type="default")),
        "deepseek-v2": t.DeepseekV2Config(**LATENT, q_lora_rank=None, n_group=4, topk_group=2,
                                          topk_method="group_limited_greedy", norm_topk_prob=False,
                                          **rope(**latent_yarn)),
        "deepseek-v3": t.DeepseekV3Config(**LATENT, q_lora_rank=9, n_group=4, topk_group=2, norm_topk_prob=True,
                                          num_nextn_predict_layers=0, **rope(**latent_yarn)),
        "deepseek-v3-mtp": t.DeepseekV3Config(**LATENT, q_lora_rank=9, n_group=4, topk_group=2, norm_topk_prob=True,
                                              num_nextn_predict_layers=1, **rope(**latent_yarn)),
    }


def stir(model):
    """Norms away from one, biases and correction biases away from zero: mistakes cancel there."""
    for name, x in list(model.named_parameters()) + list(model.named_buffers()):
        if "inv_freq" in name:
            continue
        with torch.no_grad():
            if "norm" in name:
                x.copy_(1 + 0.3 * torch.randn_like(x))
            elif x.dim() == 1:
                x.copy_(0.2 * torch.randn_like(x))
            else:
                x.copy_(0.2 * torch.randn_like(x))


def masks_of(config, begin):
    """What eager attention adds to its scores: each row sees those of its document, and no more than a window."""
    row = torch.arange(begin.shape[1])
    seen = (row[None, None, :] <= row[None, :, None]) & (row[None, None, :] >= begin[:, :, None])
    far = row[None, :, None] - row[None, None, :]

    def mask(visible):
        return torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]

    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window and kinds and len(set(kinds)) > 1:
        return {"full_attention": mask(seen), "sliding_attention": mask(seen & (far < window))}
    if window and (not kinds or "sliding_attention" in kinds):
        return mask(seen & (far < window))
    return mask(seen)


def batch():
    tokens = torch.randint(0, VOCABULARY, (SEQUENCES, TOKENS))
    targets = torch.randint(0, VOCABULARY, (SEQUENCES, TOKENS))
    targets[:, 4::5] = -100
    begin = torch.zeros(SEQUENCES, TOKENS, dtype=torch.long)
    begin[0, 7:] = 7  # a second document
    return tokens, targets, torch.arange(TOKENS)[None] - begin, begin


def seen_of(begin):
    row = torch.arange(begin.shape[1])
    return (row[None, None, :] <= row[None, :, None]) & (row[None, None, :] >= begin[:, :, None])


def shifted(tokens, targets, begin):
    """What multi-token prediction reads and predicts: one further on, in the same document."""
    next_tokens, next_targets = torch.zeros_like(tokens), torch.full_like(targets, -100)
    same = begin[:, 1:] == begin[:, :-1]
    next_tokens[:, :-1][same] = tokens[:, 1:][same]
    next_targets[:, :-1][same] = targets[:, 1:][same]
    return next_tokens, next_targets


class MultiToken:
    """The layer after the last, its loss, and what it adds to the files."""

    def __init__(self, model):
        rotary = model.model.rotary_emb
        weights = mtp.make(model.config, torch.randn)
        self.prefix = f"model.layers.{model.config.num_hidden_layers}."
        self.layer = mtp.Layer(model.config, weights, rotary.inv_freq, rotary.attention_scaling)
        self.embedding, self.head = model.model.embed_tokens.weight, model.lm_head.weight
        self.hidden = None
        model.model.norm.register_forward_pre_hook(lambda _, arguments: setattr(self, "hidden", arguments[0]))

    def add_weights(self, file):
        tensors = load_file(file)
        tensors.update({self.prefix + name: x.detach().float() for name, x in self.layer.w.items()})
        tensors[self.prefix + "embed_tokens.weight"] = self.embedding.detach().clone()  # as it is released: once more
        tensors[self.prefix + "shared_head.head.weight"] = self.head.detach().clone()
        save_file(tensors, file, metadata={"format": "pt"})

    def loss(self, tokens, targets, positions, begin, facts, result):
        next_tokens, next_targets = shifted(tokens, targets, begin)
        logits = self.layer.logits(self.hidden, self.embedding, self.head, next_tokens, positions, seen_of(begin))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), next_targets.flatten(), ignore_index=-100)
        facts.update({"mtp_tokens": next_tokens.tolist(), "mtp_targets": next_targets.tolist(),
                      "loss_mtp": loss.item(), "mtp_weight": MTP_WEIGHT})
        result["logits_mtp"] = logits.detach().float().contiguous()
        return MTP_WEIGHT * loss * (next_targets >= 0).sum() / (targets >= 0).sum()

    def add_gradients(self, result):
        for name, x in self.layer.w.items():
            if x.requires_grad:
                result["gradient." + self.prefix + name] = x.grad.float().contiguous()


def make(name, config, root):
    torch.manual_seed(SEEDS.get(name, sum(map(ord, name))))
    torch.set_num_threads(1)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    stir(model)
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    more = MultiToken(model) if getattr(config, "num_nextn_predict_layers", 0) else None
    if more:
        more.add_weights(folder / "model.safetensors")
    (folder / "generation_config.json").unlink(missing_ok=True)

    tokens, targets, positions, begin = batch()
    logits = model(input_ids=tokens, attention_mask=masks_of(config, begin), position_ids=positions, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    result, facts = {"logits": logits.detach().contiguous()}, {}
    (loss + more.loss(tokens, targets, positions, begin, facts, result) if more else loss).backward()
    if more:
        more.add_gradients(result)
    with torch.no_grad(), tempfile.TemporaryDirectory() as aside:
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        model.save_pretrained(aside)
        for key, x in load_file(pathlib.Path(aside) / "model.safetensors").items():
            if "e_score_correction_bias" not in key:  # no parameter: it has no gradient
                result["gradient." + key] = x.contiguous()
    idle = [key for key, x in result.items() if key.startswith("gradient.") and not x.any()]
    assert not idle, f"{name}: no gradient: {idle}"
    save_file(result, folder / "golden.safetensors")
    facts = {
        **facts, "tokens": tokens.tolist(), "targets": targets.tolist(), "positions": positions.tolist(),
        "key_begin": begin.tolist(), "loss": loss.item(),
        "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
    }
    (folder / "golden.json").write_text(json.dumps(facts) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: loss {loss.item():.6f}, {sum(p.numel() for p in model.parameters())} parameters, {size} bytes")


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for name, config in families().items():
        if not wanted or name in wanted:
            make(name, config, pathlib.Path(__file__).parent)

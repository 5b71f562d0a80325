"""Multi-token prediction of DeepSeek-V3 in double precision, written from the report (arXiv 2412.19437, 2.1 and 2.2).

transformers drops this layer, so nothing of transformers' is used here but the model that it stands on: its hidden state
before the final norm, its embedding and its head. The released weights expect [embedding ; hidden state] in eh_proj.
Shapes: hidden [S, T, D], tokens [S, T], logits [S, T, V].
"""
import math

import torch


def make(config, randn):
    """Weights under the names that checkpoints are released with, without the layer's prefix."""
    d, heads = config.hidden_size, config.num_attention_heads
    nope, rope, v = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    shapes = {
        "enorm.weight": (d,), "hnorm.weight": (d,), "eh_proj.weight": (d, 2 * d), "shared_head.norm.weight": (d,),
        "input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,),
        "self_attn.q_a_proj.weight": (config.q_lora_rank, d),
        "self_attn.q_a_layernorm.weight": (config.q_lora_rank,),
        "self_attn.q_b_proj.weight": (heads * (nope + rope), config.q_lora_rank),
        "self_attn.kv_a_proj_with_mqa.weight": (config.kv_lora_rank + rope, d),
        "self_attn.kv_a_layernorm.weight": (config.kv_lora_rank,),
        "self_attn.kv_b_proj.weight": (heads * (nope + v), config.kv_lora_rank),
        "self_attn.o_proj.weight": (d, heads * v),
        "mlp.gate.weight": (config.n_routed_experts, d),
        "mlp.gate.e_score_correction_bias": (config.n_routed_experts,),
    }
    f = config.moe_intermediate_size
    for name, width in [(f"experts.{e}", f) for e in range(config.n_routed_experts)] + [
            ("shared_experts", f * config.n_shared_experts)]:
        shapes[f"mlp.{name}.gate_proj.weight"] = shapes[f"mlp.{name}.up_proj.weight"] = (width, d)
        shapes[f"mlp.{name}.down_proj.weight"] = (d, width)
    return {name: 1 + 0.3 * randn(shape) if "norm" in name else 0.2 * randn(shape) for name, shape in shapes.items()}


class Layer:
    def __init__(self, config, weights, frequencies, scaling):
        """frequencies: of each pair of rotary channels; scaling: of their cosines and sines."""
        self.c, self.scaling = config, scaling
        self.w = {name: x.double().requires_grad_("e_score_correction_bias" not in name) for name, x in weights.items()}
        self.frequencies = frequencies.double()

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c.rms_norm_eps) * self.w[name + ".weight"]

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T

    def rotate(self, x, positions):
        """x [S, T, heads, rope]: channels 2j and 2j + 1 turn together."""
        angle = (positions.double()[..., None] * self.frequencies)[:, :, None]
        turn = torch.polar(torch.full_like(angle, self.scaling), angle)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    def attention(self, x, positions, seen):
        c, (s, t, _) = self.c, x.shape
        nope, rope, v = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
        q = self.linear(self.norm(self.linear(x, "self_attn.q_a_proj"), "self_attn.q_a_layernorm"), "self_attn.q_b_proj")
        q = q.view(s, t, -1, nope + rope)
        latent, k_rope = self.linear(x, "self_attn.kv_a_proj_with_mqa").split([c.kv_lora_rank, rope], -1)
        kv = self.linear(self.norm(latent, "self_attn.kv_a_layernorm"), "self_attn.kv_b_proj").view(s, t, -1, nope + v)
        q_rope, k_rope = self.rotate(q[..., nope:], positions), self.rotate(k_rope[:, :, None], positions)
        scores = torch.einsum("sihd,sjhd->shij", q[..., :nope], kv[..., :nope])
        scores = scores + torch.einsum("sihd,sjd->shij", q_rope, k_rope[:, :, 0])
        kind = c.rope_parameters
        mscale = 0.1 * kind["mscale_all_dim"] * math.log(kind["factor"]) + 1
        scores = scores * (nope + rope) ** -0.5 * mscale ** 2
        share = scores.masked_fill(~seen[:, None], -math.inf).softmax(-1)
        return self.linear(torch.einsum("shij,sjhd->sihd", share, kv[..., nope:]).flatten(2), "self_attn.o_proj")

    def mlp(self, x, name):
        gate, up = self.linear(x, name + ".gate_proj"), self.linear(x, name + ".up_proj")
        return self.linear(torch.nn.functional.silu(gate) * up, name + ".down_proj")

    def experts(self, x):
        c, score = self.c, self.linear(x, "mlp.gate").sigmoid()
        biased = (score + self.w["mlp.gate.e_score_correction_bias"]).detach()
        groups = biased.view(*biased.shape[:-1], c.n_group, -1)
        best = groups.topk(2, -1).values.sum(-1).topk(c.topk_group, -1).indices
        kept = torch.zeros(groups.shape[:-1], dtype=torch.bool).scatter(-1, best, True)
        chosen = groups.masked_fill(~kept[..., None], -math.inf).flatten(-2).topk(c.num_experts_per_tok, -1).indices
        weight = score.gather(-1, chosen)
        if c.norm_topk_prob:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        weight = torch.zeros_like(score).scatter(-1, chosen, weight * c.routed_scaling_factor)
        routed = sum(weight[..., e, None] * self.mlp(x, f"mlp.experts.{e}") for e in range(c.n_routed_experts))
        return routed + self.mlp(x, "mlp.shared_experts")

    def logits(self, hidden, embedding, head, next_tokens, positions, seen):
        joined = torch.cat([self.norm(embedding.double()[next_tokens], "enorm"), self.norm(hidden.double(), "hnorm")], -1)
        x = self.linear(joined, "eh_proj")
        x = x + self.attention(self.norm(x, "input_layernorm"), positions, seen)
        x = x + self.experts(self.norm(x, "post_attention_layernorm"))
        return self.norm(x, "shared_head.norm") @ head.double().T

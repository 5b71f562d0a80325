#!/usr/bin/env python3
"""The same training step in fourmi and in PyTorch: same model, same weights, same threads, timed in turn.

    python3 -m venv .deps/oracles && .deps/oracles/bin/pip install -r tests/peers/requirements.txt
    .deps/oracles/bin/python tests/peers/pytorch_step.py tests/peers/moe-512.yaml --fourmi build/bin/fourmi

1. Proof: fourmi writes its initial weights (one step with learning rate 0 over a text of exactly one global batch) and
   the loss of that step; PyTorch loads these weights, sees the same windows, and must reach the same loss to 1e-2.
2. Timing: rounds of fourmi's `bench step` and of PyTorch's step (forward, backward, gradient clipping, AdamW) follow one
   another; the median of each and their ratio are printed.

The PyTorch step is written to be fast: fused projections, flash attention (values padded where the kernel wants equal
sizes), tokens sorted by expert and one matrix product an expert without padding (or torch's grouped one, --experts),
fused AdamW, autocast to bf16. `--compile` times torch.compile beside eager.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import h5py
import torch
import torch.nn.functional as F
import yaml


class Norm(torch.nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


def rotate(x, cos, sin):
    """x [..., T, rope], interleaved pairs."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def rotate_half(x, cos, sin):
    """x [..., T, head], pairs half a head apart."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)


class GroupedQueryAttention(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        D, self.H, self.G, self.Q = m["hidden_size"], m["num_attention_heads"], m["num_key_value_heads"], m["head_dim"]
        self.qkv = torch.nn.Linear(D, (self.H + 2 * self.G) * self.Q, bias=False)
        self.o = torch.nn.Linear(self.H * self.Q, D, bias=False)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, -1, self.Q).transpose(1, 2).split((self.H, self.G, self.G), 1)
        q, k = rotate_half(q, cos, sin), rotate_half(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.H != self.G)
        return self.o(y.transpose(1, 2).flatten(2))


class LatentAttention(torch.nn.Module):
    def __init__(self, m):
        super().__init__()
        D, H = m["hidden_size"], m["num_attention_heads"]
        self.H, self.nope, self.rope, self.V = H, m["qk_nope_head_dim"], m["qk_rope_head_dim"], m["v_head_dim"]
        self.q_rank, self.kv_rank = m["q_lora_rank"], m["kv_lora_rank"]
        self.down = torch.nn.Linear(D, self.q_rank + self.kv_rank + self.rope, bias=False)
        self.q_norm, self.kv_norm = Norm(self.q_rank, m["rms_norm_eps"]), Norm(self.kv_rank, m["rms_norm_eps"])
        self.q_b = torch.nn.Linear(self.q_rank, H * (self.nope + self.rope), bias=False)
        self.kv_b = torch.nn.Linear(self.kv_rank, H * (self.nope + self.V), bias=False)
        self.o = torch.nn.Linear(H * self.V, D, bias=False)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q, c, k_pe = self.down(x).split((self.q_rank, self.kv_rank, self.rope), -1)
        q = self.q_b(self.q_norm(q)).view(B, T, self.H, -1).transpose(1, 2)
        kv = self.kv_b(self.kv_norm(c)).view(B, T, self.H, -1).transpose(1, 2)
        q_nope, q_pe = q.split((self.nope, self.rope), -1)
        k_nope, v = kv.split((self.nope, self.V), -1)
        k_pe = rotate(k_pe.unsqueeze(1), cos, sin).expand(-1, self.H, -1, -1)
        q = torch.cat((q_nope, rotate(q_pe, cos, sin)), -1)
        k = torch.cat((k_nope, k_pe), -1)
        v = F.pad(v, (0, q.shape[-1] - self.V))  # the flash kernel wants equal sizes
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., : self.V]
        return self.o(y.transpose(1, 2).flatten(2))


class Mlp(torch.nn.Module):
    def __init__(self, D, I):
        super().__init__()
        self.gate_up, self.down = torch.nn.Linear(D, 2 * I, bias=False), torch.nn.Linear(I, D, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Moe(torch.nn.Module):
    def __init__(self, m, experts):
        super().__init__()
        D, I, self.E, self.K = m["hidden_size"], m["moe_intermediate_size"], m["n_routed_experts"], m["num_experts_per_tok"]
        self.factor, self.grouped = m["routed_scaling_factor"], experts == "grouped"
        self.router = torch.nn.Parameter(torch.empty(self.E, D))
        self.gate_up, self.down = torch.nn.Parameter(torch.empty(self.E, 2 * I, D)), torch.nn.Parameter(torch.empty(self.E, D, I))
        self.shared = Mlp(D, I * m["n_shared_experts"])

    def forward(self, x):
        shape = x.shape
        x = x.flatten(0, -2)
        with torch.autocast("cpu", enabled=False):
            scores = torch.sigmoid(F.linear(x.float(), self.router))
            chosen = torch.topk(scores.detach(), self.K, sorted=False).indices
            weights = scores.gather(1, chosen)
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * self.factor
        order = chosen.flatten().argsort(stable=True)
        token = order // self.K
        counts = torch.bincount(chosen.flatten(), minlength=self.E)
        rows = x[token]
        gate_up_w, down_w = self.gate_up.to(x.dtype), self.down.to(x.dtype)
        if self.grouped:
            ends = counts.cumsum(0).to(torch.int32)
            gate, up = F.grouped_mm(rows, gate_up_w.transpose(1, 2), offs=ends).chunk(2, -1)
            out = F.grouped_mm(F.silu(gate) * up, down_w.transpose(1, 2), offs=ends)
        else:
            parts = []
            for e, part in enumerate(rows.split(counts.tolist())):
                gate, up = F.linear(part, gate_up_w[e]).chunk(2, -1)
                parts.append(F.linear(F.silu(gate) * up, down_w[e]))
            out = torch.cat(parts)
        out = out * weights.flatten()[order, None].to(out.dtype)
        return (self.shared(x).index_add(0, token, out)).view(shape)


class Block(torch.nn.Module):
    def __init__(self, m, layer, experts):
        super().__init__()
        moe = m.get("n_routed_experts", 0) > 0 and layer >= m.get("first_k_dense_replace", 0)
        self.norm1, self.norm2 = Norm(m["hidden_size"], m["rms_norm_eps"]), Norm(m["hidden_size"], m["rms_norm_eps"])
        self.attention = LatentAttention(m) if m.get("kv_lora_rank") else GroupedQueryAttention(m)
        self.feed_forward = Moe(m, experts) if moe else Mlp(m["hidden_size"], m["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.feed_forward(self.norm2(x))


class Model(torch.nn.Module):
    def __init__(self, m, experts):
        super().__init__()
        self.embedding = torch.nn.Embedding(m["vocab_size"], m["hidden_size"])
        self.blocks = torch.nn.ModuleList(Block(m, l, experts) for l in range(m["num_hidden_layers"]))
        self.norm = Norm(m["hidden_size"], m["rms_norm_eps"])
        self.head = torch.nn.Linear(m["hidden_size"], m["vocab_size"], bias=False)
        half = m.get("qk_rope_head_dim", m.get("head_dim")) // 2
        frequency = m["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(m["max_position_embeddings"], dtype=torch.float64)[:, None] * frequency
        self.register_buffer("cos", angle.cos().float())
        self.register_buffer("sin", angle.sin().float())

    def forward(self, tokens, targets):
        T = tokens.shape[1]
        # The residual stream is bf16, as fourmi's: the faster choice.
        x = self.embedding(tokens).to(torch.bfloat16)
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T])
        logits = self.head(self.norm(x)).float().flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten().long(), reduction="sum")


def load_weights(model, path, m):
    """From a whole-tensor file (`fourmi checkpoint view`) of Hugging Face names."""
    with h5py.File(path) as f:
        root = f["model"] if "model" in f else f

        def get(name):
            # bf16 comes as its bits.
            x = root[name][()]
            if x.dtype == "uint16":
                return torch.from_numpy(x.astype("int32") << 16).view(torch.float32)
            return torch.from_numpy(x.astype("float32"))

        put = lambda parameter, *names: parameter.data.copy_(torch.cat([get(n) for n in names]).view(parameter.shape))
        put(model.embedding.weight, "model.embed_tokens.weight")
        put(model.norm.weight, "model.norm.weight")
        put(model.head.weight, "lm_head.weight")
        for l, block in enumerate(model.blocks):
            p, a, b = f"model.layers.{l}.", block.attention, block.feed_forward
            put(block.norm1.weight, p + "input_layernorm.weight")
            put(block.norm2.weight, p + "post_attention_layernorm.weight")
            if isinstance(a, LatentAttention):
                put(a.down.weight, p + "self_attn.q_a_proj.weight", p + "self_attn.kv_a_proj_with_mqa.weight")
                put(a.q_norm.weight, p + "self_attn.q_a_layernorm.weight")
                put(a.kv_norm.weight, p + "self_attn.kv_a_layernorm.weight")
                put(a.q_b.weight, p + "self_attn.q_b_proj.weight")
                put(a.kv_b.weight, p + "self_attn.kv_b_proj.weight")
            else:
                put(a.qkv.weight, *(f"{p}self_attn.{x}_proj.weight" for x in "qkv"))
            put(a.o.weight, p + "self_attn.o_proj.weight")
            dense = b if isinstance(b, Mlp) else b.shared
            s = p + ("mlp." if isinstance(b, Mlp) else "mlp.shared_experts.")
            put(dense.gate_up.weight, s + "gate_proj.weight", s + "up_proj.weight")
            put(dense.down.weight, s + "down_proj.weight")
            if isinstance(b, Moe):
                put(b.router, p + "mlp.gate.weight")
                for e in range(b.E):
                    x = f"{p}mlp.experts.{e}."
                    b.gate_up.data[e] = torch.cat((get(x + "gate_proj.weight"), get(x + "up_proj.weight")))
                    b.down.data[e] = get(x + "down_proj.weight")


def text_of(recipe):
    import gzip

    path = recipe["data"]["train"][0]["path"]
    with (gzip.open(path) if path.endswith((".dz", ".gz")) else open(path, "rb")) as f:
        return f.read(1 << 24)


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{result.stderr}")
    return result.stdout


def windows(text, count, T):
    data = torch.frombuffer(bytearray(text[: count * T + 1]), dtype=torch.uint8).int()
    return data[:-1].view(count, T), data[1:].view(count, T)


def prove(model, recipe, args, text):
    """fourmi's loss at its initial weights against PyTorch's. Returns both."""
    T, B = recipe["data"]["sequence_length"], recipe["data"]["global_batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text")
        with open(path, "wb") as f:
            f.write(text[: B * T - 1])  # with the end of document B windows exactly
        directory = os.path.join(folder, "run")
        run([args.fourmi, "train", args.recipe, f"run.directory={directory}", "run.steps=1", "optimizer.learning_rate=0",
             *(["loss.router_bias_rate=0", "loss.balance_weight=0"] if "loss" in recipe else []), f"data.train.0.path={path}", "checkpoint.resume=auto"])
        with open(os.path.join(directory, "metrics.jsonl")) as f:
            ours = json.loads(f.readline())
        assert ours["tokens"] == B * T - 1 or ours["tokens"] == B * T, ours["tokens"]
        whole = os.path.join(folder, "weights.h5")
        run([args.fourmi, "checkpoint", "view", directory, whole])
        load_weights(model, whole, recipe["model"])
    eod = 256
    body = torch.frombuffer(bytearray(text[: B * T - 1]), dtype=torch.uint8).int()
    stream = torch.cat((torch.tensor([eod], dtype=torch.int32), body, torch.tensor([eod], dtype=torch.int32)))
    tokens, targets = stream[:-1].view(B, T), stream[1:].view(B, T)
    total = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for i in range(B):
            total += model(tokens[i : i + 1], targets[i : i + 1]).item()
    return ours["loss"], total / (B * T)


class Step:
    """One optimizer step over `batch` sequences in micro-batches."""

    def __init__(self, model, forward, micro, optimizer):
        self.model, self.forward, self.micro, self.optimizer = model, forward, micro, optimizer

    def __call__(self, tokens, targets):
        begin = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        for i in range(0, len(tokens), self.micro):
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.forward(tokens[i : i + self.micro], targets[i : i + self.micro])
            (loss / tokens.numel()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--fourmi", default="build/bin/fourmi")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="turns of fourmi and PyTorch")
    parser.add_argument("--steps", type=int, default=2, help="timed steps a turn")
    parser.add_argument("--micro-batch", type=int, default=0, help="PyTorch's sequences at once; 0: the whole batch")
    parser.add_argument("--experts", choices=("loop", "grouped"), default="loop")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-proof", action="store_true")
    args = parser.parse_args()
    with open(args.recipe) as f:
        recipe = yaml.safe_load(f)
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    text = text_of(recipe)
    T, B = recipe["data"]["sequence_length"], recipe["data"]["global_batch_size"]
    model = Model(recipe["model"], args.experts)
    print(f"torch {torch.__version__}, {args.threads} threads, {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    if not args.no_proof:
        ours, theirs = prove(model, recipe, args, text)
        print(f"loss from the same weights: fourmi {ours:.4f}, PyTorch {theirs:.4f}, apart {abs(ours - theirs):.4f}", flush=True)
        if not abs(ours - theirs) <= 1e-2:
            raise SystemExit("the losses differ by more than 1e-2: not the same model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    micro = args.micro_batch or B
    steps = {"PyTorch eager": Step(model, model, micro, optimizer)}
    if args.compile:
        steps["PyTorch compiled"] = Step(model, torch.compile(model), micro, optimizer)
    at, seconds, figures = 0, {name: [] for name in ("fourmi", *steps)}, []
    for step in steps.values():  # warm-up, compilation
        step(*windows(text, B, T))
    for _ in range(args.rounds):
        figures.append(json.loads(run([args.fourmi, "bench", "step", args.recipe, f"run.threads={args.threads}",
                                       "--steps", str(args.steps), "--json"])))
        seconds["fourmi"] += figures[-1]["step_seconds"]
        for name, step in steps.items():
            for _ in range(args.steps):
                at = (at + B * T) % (len(text) - B * T - 1)
                seconds[name].append(step(*windows(text[at:], B, T)))
    limit, flops = max(f["limit_flops_bf16"] for f in figures), figures[0]["flops_per_step"]
    ours = statistics.median(seconds["fourmi"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<18} median {median:7.3f} s a step ({min(values):.3f} to {max(values):.3f}), {B * T / median:7.0f} tokens/s, "
              f"speed of light {flops / limit / median:5.1%}, fourmi is {median / ours:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()

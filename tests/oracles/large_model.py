#!/usr/bin/env python3
"""Memory of import and export of a large model: large_model.py FOURMI FOLDER [--gigabytes 4] [--ranks 1 2]

Makes a Llama of so many gigabytes in bf16 in FOLDER, in several files with an index: of each tensor 64 kB at either end
are numbers, the rest are holes that read as zeros and take no room. Imports it on each number of ranks, exports the
first import, and asks:
- that no process had more than 2 GiB and three times the largest tensor resident (ru_maxrss), nor more than MOST_RESIDENT,
  which does not grow with the model;
- that import read as many bytes as the files have (and their headers once more for each further rank), and export as
  many as the masters have;
- that all imports have one root digest, and that the exported tensors are those of the model, byte for byte.
Needs room for twice the model a kind of import (FP32 masters) and once for the export; removes all of it. Exit status 0:
all of it is so.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

MOST_RESIDENT = 160 << 20
HIDDEN, INTERMEDIATE, VOCABULARY, HEADS, KV_HEADS = 4096, 14336, 32000, 32, 8
EDGE = 64 << 10


def shapes(layers):
    kv = HIDDEN * KV_HEADS // HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(layers):
        at = f"model.layers.{i}."
        for name, shape in (("input_layernorm", (HIDDEN,)), ("post_attention_layernorm", (HIDDEN,)),
                            ("self_attn.q_proj", (HIDDEN, HIDDEN)), ("self_attn.k_proj", (kv, HIDDEN)),
                            ("self_attn.v_proj", (kv, HIDDEN)), ("self_attn.o_proj", (HIDDEN, HIDDEN)),
                            ("mlp.gate_proj", (INTERMEDIATE, HIDDEN)), ("mlp.up_proj", (INTERMEDIATE, HIDDEN)),
                            ("mlp.down_proj", (HIDDEN, INTERMEDIATE))):
            yield at + name + ".weight", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def bytes_of(shape):
    elements = 1
    for n in shape:
        elements *= n
    return 2 * elements


def make(folder, gigabytes, file_bytes=1 << 30):
    """The number of layers, and bytes of the largest tensor."""
    fixed, two = (sum(bytes_of(s) for _, s in shapes(n)) for n in (0, 1))
    layers = max(1, round((gigabytes * 1e9 - fixed) / (two - fixed)))
    files, index = [[]], {}
    for name, shape in shapes(layers):
        if files[-1] and sum(bytes_of(s) for _, s in files[-1]) + bytes_of(shape) > file_bytes:
            files.append([])
        files[-1].append((name, shape))
    numbers = random.Random(8)
    for i, tensors in enumerate(files):
        file = f"model-{i + 1:05}-of-{len(files):05}.safetensors"
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, shape in tensors:
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + bytes_of(shape)]}
            at += bytes_of(shape)
            index[name] = file
        text = json.dumps(header).encode()
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            begin = out.tell()
            out.truncate(begin + at)
            for name, shape in tensors:
                offset, size = header[name]["data_offsets"][0], bytes_of(shape)
                for place in {0, max(0, size - EDGE)}:
                    n = min(EDGE, size)
                    out.seek(begin + offset + place)
                    # Any mantissa, exponents around that of 1: no bf16 that is not a number.
                    out.write(b"".join(struct.pack("<H", numbers.getrandbits(7) | numbers.randint(100, 130) << 7 |
                                                   numbers.getrandbits(1) << 15) for _ in range(n // 2)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": layers,
        "intermediate_size": INTERMEDIATE, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": 128,
        "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False,
        "torch_dtype": "bfloat16"}))
    return layers, max(bytes_of(s) for _, s in shapes(layers))


def run(command):
    """What it said as JSON, the largest resident memory of a process of it, seconds."""
    begin = time.monotonic()
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: exit status {process.returncode}"
    return json.loads(said), usage.ru_maxrss * 1024, time.monotonic() - begin


def header_bytes(path):
    with open(path, "rb") as file:
        return 8 + struct.unpack("<Q", file.read(8))[0]


def tensors_of(folder):
    found = {}
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            for name, t in json.loads(file.read(length)).items():
                if name != "__metadata__":
                    found[name] = (t["dtype"], t["shape"], path, 8 + length + t["data_offsets"][0],
                                   t["data_offsets"][1] - t["data_offsets"][0])
    return found


def compare(a, b):
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, (dtype, shape, path, at, size) in ours.items():
        assert theirs[name][:2] == (dtype, shape), name
        with open(path, "rb") as one, open(theirs[name][2], "rb") as other:
            one.seek(at)
            other.seek(theirs[name][3])
            while size > 0:
                n = min(size, 16 << 20)
                assert one.read(n) == other.read(n), f"{name} differs"
                size -= n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fourmi")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    a = parser.parse_args()
    launcher = pathlib.Path(__file__).resolve().parents[2] / "launch/mpirun"
    work = pathlib.Path(tempfile.mkdtemp(prefix="large-model-", dir=a.folder))
    try:
        model = work / "model"
        model.mkdir()
        layers, largest = make(model, a.gigabytes)
        size = sum(p.stat().st_size for p in model.glob("*.safetensors"))
        headers = sum(header_bytes(p) for p in model.glob("*.safetensors"))
        needed = size * 2 * min(2, len(a.ranks)) + size
        free = shutil.disk_usage(work).free
        assert free > needed, f"{free} bytes are free in {a.folder}, {needed} are needed"
        print(f"{layers} layers, {size} bytes in {len(list(model.glob('*.safetensors')))} files, largest tensor {largest}")
        most = (2 << 30) + 3 * largest

        def check(what, resident, seconds):
            print(f"{what}: {resident / 1e6:.0f} MB resident at most, {seconds:.0f} s", flush=True)
            assert resident <= most, f"more than the {most} bytes that are promised"
            assert resident <= MOST_RESIDENT, f"more than {MOST_RESIDENT} bytes"

        roots = set()
        for i, ranks in enumerate(a.ranks):
            out = work / f"run-{ranks}"
            command = [a.fourmi, "import", model, out, "--json"]
            said, resident, seconds = run(command if ranks == 1 else [launcher, "-n", ranks, *command])
            check(f"import, {ranks} ranks", resident, seconds)
            assert said["bytes_stored"] == size and said["bytes_read"] == size + (ranks - 1) * headers, said
            roots.add(said["root"])
            parameters = said["parameters"]
            if i > 0:
                shutil.rmtree(out)
        assert len(roots) == 1, roots
        said, resident, seconds = run([a.fourmi, "export", work / f"run-{a.ranks[0]}", work / "out", "--json"])
        check("export", resident, seconds)
        assert said["bytes_read"] == said["bytes_stored"] == 4 * parameters, said
        compare(model, work / "out")
        print(f"all bytes read once, root {roots.pop()}, exported tensors equal")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())

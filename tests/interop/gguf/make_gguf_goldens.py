#!/usr/bin/env python3
"""Makes the GGUF files beside it, and what they hold, with PyPI's gguf, numpy, tokenizers and sentencepiece.

  bytes.gguf, characters.gguf   tiny Llamas of random weights in every type that is read, with a vocabulary of each kind
  <name>.json                   {"sha256": {Hugging Face's tensor name: of its f32 in Hugging Face's order, as gguf dequantises it},
                                 "texts": [...], "ids": [...]: tokenizers', sentencepiece's}
"""
import hashlib
import io
import json
import pathlib

import gguf
import numpy
import sentencepiece
from gguf import GGMLQuantizationType as Type
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers

here = pathlib.Path(__file__).parent
train = (here.parent.parent / "tokenizer" / "goldens" / "train.txt").read_text()
rng = numpy.random.default_rng(17)
HIDDEN, WIDE, HEADS, KEY_VALUE_HEADS, LAYERS = 64, 96, 4, 2, 2
TEXTS = train.splitlines(keepends=True)[:40] + [" ", "   a", "", "don't 12345", "\u65e5\u672c\U0001f41c \u00e9", "x" * 70, "\n\n\ttab"]


def permuted(weight, heads):
    """As convert_hf_to_gguf stores attn_q and attn_k."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write(name, vocabulary, num_tokens, types):
    writer = gguf.GGUFWriter(here / (name + ".gguf"), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary(writer)
    sums = {}

    def put(stored, ours, shape, type, heads=0):
        weight = rng.standard_normal(shape, dtype=numpy.float32)
        data = gguf.quants.quantize(permuted(weight, heads) if heads else weight, type)
        writer.add_tensor(stored, data, raw_dtype=type)
        back = gguf.quants.dequantize(data, type).reshape(shape)
        if heads:
            half = shape[0] // heads // 2
            back = back.reshape(heads, half, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        sums[ours] = hashlib.sha256(numpy.ascontiguousarray(back, dtype=numpy.float32).tobytes()).hexdigest()

    head_dim = HIDDEN // HEADS
    put("token_embd.weight", "model.embed_tokens.weight", (num_tokens, HIDDEN), types[0])
    put("output_norm.weight", "model.norm.weight", (HIDDEN,), Type.F32)
    if len(types) > 1:
        put("output.weight", "lm_head.weight", (num_tokens, HIDDEN), types[1])
    for layer in range(LAYERS):
        kind = lambda i: types[(layer + i) % len(types)]
        a, b = f"blk.{layer}.", f"model.layers.{layer}."
        put(a + "attn_norm.weight", b + "input_layernorm.weight", (HIDDEN,), Type.F32)
        put(a + "ffn_norm.weight", b + "post_attention_layernorm.weight", (HIDDEN,), Type.F32)
        put(a + "attn_q.weight", b + "self_attn.q_proj.weight", (HIDDEN, HIDDEN), kind(0), HEADS)
        put(a + "attn_k.weight", b + "self_attn.k_proj.weight", (KEY_VALUE_HEADS * head_dim, HIDDEN), kind(1), KEY_VALUE_HEADS)
        put(a + "attn_v.weight", b + "self_attn.v_proj.weight", (KEY_VALUE_HEADS * head_dim, HIDDEN), kind(2))
        put(a + "attn_output.weight", b + "self_attn.o_proj.weight", (HIDDEN, HIDDEN), kind(3))
        put(a + "ffn_gate.weight", b + "mlp.gate_proj.weight", (WIDE, HIDDEN), kind(4))
        put(a + "ffn_up.weight", b + "mlp.up_proj.weight", (WIDE, HIDDEN), kind(5))
        put(a + "ffn_down.weight", b + "mlp.down_proj.weight", (HIDDEN, WIDE), kind(6))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sums


def of_bytes():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([train], trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>", "<|im_start|>"],
                                                               initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)

    def vocabulary(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([3 if t.startswith("<|") else 1 for t in tokens])
        writer.add_token_merges([" ".join(m) for m in model["merges"]])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(0)
        writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")

    return vocabulary, len(tokens), lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def of_characters():
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(train.splitlines()), model_writer=made, model_type="bpe", vocab_size=500, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True,
        character_coverage=0.99, minloglevel=2)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    all_ids = range(pieces.vocab_size())
    kind = lambda i: 2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1

    def vocabulary(writer):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list([pieces.id_to_piece(i) for i in all_ids])
        writer.add_token_scores([pieces.get_score(i) for i in all_ids])
        writer.add_token_types([kind(i) for i in all_ids])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)

    return vocabulary, pieces.vocab_size(), lambda text: pieces.encode(text)


for name, (vocabulary, num_tokens, encode), types in [("bytes", of_bytes(), [Type.Q8_0, Type.Q4_1, Type.BF16, Type.F16, Type.F32]),
                                                      ("characters", of_characters(), [Type.Q8_0])]:
    sums = write(name, vocabulary, num_tokens, types)
    (here / (name + ".json")).write_text(json.dumps(
        {"sha256": sums, "texts": TEXTS, "ids": [encode(t) for t in TEXTS]}, ensure_ascii=False, separators=(",", ":")) + "\n")

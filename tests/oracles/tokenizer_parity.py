#!/usr/bin/env python3
"""Every id of at least 10 MB of mixed text, fourmi's beside those of Hugging Face's tokenizers, with both speeds.

    tests/oracles/tokenizer_parity.py FOURMI FOLDER [VOCABULARY...]

Needs the packages `tokenizers` and `numpy`, for a SentencePiece model `sentencepiece` and `protobuf` too. The text is of this machine: a
dictionary, code, translations into some eighty languages, emoji, characters of all of Unicode, and broken UTF-8 (as U+FFFD, which is all
that tokenizers can be given). FOLDER takes it, and two vocabularies of 32,000 tokens that are learnt from it: of bytes, as Llama 3 has them,
and of characters, as Llama 2 has them. VOCABULARY: further ones, a tokenizer.json or a SentencePiece model (*.model*, BPE).
Exit status 0: all ids are equal.
"""
import glob
import gzip
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import unicodedata

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

MEGABYTES = 12
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def catalog(path):
    """The translations in a gettext catalog."""
    raw = pathlib.Path(path).read_bytes()
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(raw[:4])
    if order is None:
        return ""
    _, count, _, table = struct.unpack(order + "4I", raw[4:20])
    entries = [struct.unpack_from(order + "2I", raw, table + 8 * i) for i in range(count)]
    return "\n".join(raw[at:at + length].decode("utf-8", "replace") for length, at in entries)


def mixed_text():
    rng = random.Random(8)
    share = MEGABYTES * 1_000_000 // 6

    def cut(parts):
        out, size = [], 0
        for part in parts:
            out.append(part)
            size += len(part.encode("utf-8", "replace"))
            if size > share:
                break
        return out

    def shuffled(pattern):
        files = sorted(glob.glob(pattern, recursive=True))
        rng.shuffle(files)
        return files

    pieces = []
    with gzip.open("/usr/share/dictd/gcide.dict.dz", "rt", encoding="utf-8", errors="replace") as file:
        pieces += cut([file.read(share)])
    code = shuffled(sys.base_prefix + "/lib/python3*/**/*.py") + shuffled("/usr/include/**/*.h")
    pieces += cut(pathlib.Path(f).read_text("utf-8", "replace") for f in code)
    pieces += cut(catalog(f) for f in shuffled("/usr/share/**/LC_MESSAGES/*.mo"))
    known = [chr(c) for c in range(0x20, 0x30000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co", "Cc")]
    emoji = [chr(c) for c in [*range(0x1F300, 0x1F600), 0x200D, 0xFE0F, 0x1F3FB, 0x1F1E6, 0x1F1E7]]
    near = lambda alphabet, span: (lambda at: "".join(rng.choice(alphabet[at:at + span]) for _ in range(rng.randint(1, 12))))(
        rng.randrange(len(alphabet)))
    words = lambda: " ".join(near(emoji if rng.random() < 0.2 else known, 60) for _ in range(40))
    pieces += cut(words() + rng.choice(["\n", "  ", "\r\n\n", "\t"]) for _ in range(1 << 30))
    broken = lambda: bytes(rng.choice([rng.randrange(256), rng.randrange(32, 127), 0x20]) for _ in range(300)).decode("utf-8", "replace")
    pieces += cut(broken() for _ in range(1 << 30))
    blank = lambda: rng.choice([" ", "\n", "\t", "\u2581", "<s>", "</s>", "0", "a"]) * rng.randint(1, 90)
    pieces += [blank() + words()[:50] for _ in range(share // 300)]
    rng.shuffle(pieces)
    return "".join(pieces)


def of_bytes(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K), "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=32000, special_tokens=["<|end_of_text|>"], show_progress=False,
                                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tokenizer.to_str())


def like_llama_2(vocab, merges):
    token = lambda content: {"id": vocab[content], "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                             "normalized": False, "special": True}
    string = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [token(t) for t in ["<unk>", "<s>", "</s>"]],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, string(" ", "\u2581")]},
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [string("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab, "merges": merges}}


def of_characters(text):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=32000, special_tokens=special, limit_alphabet=4000,
                                                            show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    return like_llama_2(model["vocab"], model["merges"])


def of_sentencepiece(path):
    """Its pieces have scores; every way to cut a piece into two is a merge, those of the best score first."""
    import sentencepiece
    pieces = sentencepiece.SentencePieceProcessor(model_file=path)
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    ways = [(-pieces.get_score(i), vocab[piece[:k]], vocab[piece[k:]], piece[:k], piece[k:]) for piece, i in vocab.items()
            for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab and not pieces.is_control(i)]
    return like_llama_2(vocab, [[left, right] for *_, left, right in sorted(ways)])


def main(fourmi, folder, others):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = mixed_text()
    (folder / "text").write_bytes(text.encode())
    learn_from = [text[i:i + 4096] for i in range(0, len(text), 4096 * 4)]
    files = [folder / "bytes.json", folder / "characters.json"]
    for file, make in zip(files, [of_bytes, of_characters]):
        if not file.exists():
            file.write_text(json.dumps(make(learn_from)))
    for other in others:
        if re.search(r"\.model", other):
            files.append(folder / (pathlib.Path(other).name + ".json"))
            files[-1].write_text(json.dumps(of_sentencepiece(other)))
        else:
            files.append(pathlib.Path(other))
    compare = pathlib.Path(__file__).parent.parent / "tokenizer" / "compare_with_hf.py"
    good = True
    for file in files:
        print(file, flush=True)
        good = subprocess.run([sys.executable, compare, fourmi, file, folder / "text"]).returncode == 0 and good
    return 0 if good else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

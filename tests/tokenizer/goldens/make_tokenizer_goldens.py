#!/usr/bin/env python3
"""Makes the files beside it with Hugging Face's tokenizers (pip install tokenizers): small byte-level BPE tokenizers of
every kind that is read, hostile texts, and the ids that tokenizers gives for them. Made with tokenizers 0.23.3.

  train.txt         the text that the vocabularies were learnt from: made up here
  <name>.json       a tokenizer.json
  cases.json        {"texts": [...], "ids": {name: [[...], ...]}}
"""
import json
import os
import random
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

here = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(20)

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = CL100K.replace("{1,3}", "")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+"]


def made_up_text():
    syllables = [a + b for a in ["", "b", "d", "g", "k", "l", "m", "n", "r", "s", "t", "th", "st"] for b in "aeiou"]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(400)]
    words += ["l'été", "Größe", "naïve", "мир", "слово", "日本語", "漢字", "かな", "한국어", "don't", "WE'LL", "x = y + 1;"]
    lines = []
    for _ in range(700):
        line = " ".join(words[min(int(rng.paretovariate(0.6)), len(words)) - 1] if rng.random() < 0.85 else
                        rng.choice([str(rng.randint(0, 99999)), rng.choice(words).upper(), rng.choice(words[-12:])])
                        for _ in range(rng.randint(2, 14)))
        lines.append(rng.choice(["", "", "  ", "\t"]) + line + rng.choice([".", "!", " ...", ";", "", "  "]))
    return "\n".join(lines) + "\n\n"


def assigned(lo, hi):
    """Characters assigned since Unicode 12 at the latest: newer ones differ among libraries."""
    while True:
        c = chr(rng.randint(lo, hi))
        if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co"):
            return c


def hostile_texts():
    texts = ["", " ", "  ", "\n", "\r\n\r\n", "\t \n", "a", " a", "a ", "  a  b   c    ", "don't DON'T don'\u017f i'LL we're I'm",
             "123 1234567 1a2b ١٢٣٤ Ⅷ ½ ²", "x" * 300, "ab" * 150, " " * 100, "\n" * 50 + "x", "\u00a0\u2003\u3000 \u0085\u2028x",
             "a\u180eb \u200b c\ufeff", "e\u0301 \u00e9 A\u030a \u1100\u1161\u11a8 \ufb01 \u212b \u0344", "日本語のテキスト、漢字とかな。",
             "👩‍👩‍👧‍👦 🇩🇪 👍🏽", "\x00\x01\x7f", "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|endoftext|> <|endoftext|>",
             "<|endof<|endoftext|>text|>", "<|end|> <|en", "x <mask> y", "x  <mask>  y <mask>", "<mask>\n\n z", "NAMED xNAMED NAMEDx NAMED",
             "Å<nfc\u00e9> <nfce\u0301>", "tab\tseparated\t\tvalues", "a.b,c;d:e!f?g", "C:\\path\\to http://x.y/z?a=b&c=d#e",
             "def f(x):\n    return x**2  # squared\n\n\nprint(f(3))\n", "é" * 50, "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก"]
    alphabets = [" a", "ab \n", " \t\r\n", "a1 ", "'sStTlLdD ", "<|endoftx> ", "\u0301aeE\u0327\u1100\u1161 ", "日本ひカ a1"]
    for alphabet in alphabets:
        for length in (3, 7, 30):
            texts.append("".join(rng.choice(alphabet) for _ in range(length)))
    for lo, hi in [(0, 0x2ff), (0x300, 0x58f), (0x590, 0x1fff), (0x2000, 0x33ff), (0x3400, 0xfffd), (0x10000, 0x1ffff)]:
        texts += ["".join(assigned(lo, hi) for _ in range(25)) for _ in range(3)]
    texts.append("".join(rng.choice([assigned(0, 0x1ffff), " ", "\n", "a", "9", "."]) for _ in range(200)))
    return texts


def trained(text, vocab_size, pre_tokenizer, normalizer=None, special=("<|endoftext|>",)):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def of_characters(text, vocab_size, pre_tokenizer=None, normalizer=None, decoder=None):
    """As SentencePiece learns it: characters, with their bytes to fall back to."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    # Learnt word by word: the models of this kind have no token with a space inside.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(text.splitlines(), trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=special, show_progress=False, limit_alphabet=100))
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    document["normalizer"] = json.loads(normalizer) if normalizer else None
    document["pre_tokenizer"] = json.loads(pre_tokenizer) if pre_tokenizer else None
    document["decoder"] = json.loads(decoder or LLAMA_DECODER)
    return document


LLAMA_NORMALIZER = """{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},
  {"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}"""
LLAMA_DECODER = """{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},
  {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"""


def metaspace(scheme, split):
    return json.dumps({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split})


def splits(*patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] +
                                   [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def write(name, document):
    with open(os.path.join(here, name + ".json"), "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False, indent=None if name == "cases" else 0, separators=(",", ":"))
        file.write("\n")


def main():
    text = made_up_text()
    with open(os.path.join(here, "train.txt"), "w", encoding="utf-8", newline="") as file:
        file.write(text)
    byte_level = pre_tokenizers.ByteLevel
    made = {
        "gpt2": trained(text, 700, byte_level(add_prefix_space=False)),
        "cl100k": trained(text, 600, splits(CL100K)),
        "qwen2": trained(text, 500, splits(QWEN2), normalizers.NFC()),
        "deepseek": trained(text, 500, splits(*DEEPSEEK), special=("<｜end▁of▁sentence｜>",)),
        "prefix": trained(text, 450, pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level(add_prefix_space=True)])),
        "string": trained(text, 420, pre_tokenizers.Sequence([
            pre_tokenizers.Split("e", "merged_with_previous"), pre_tokenizers.Split(Regex(r"\s"), "merged_with_next"),
            pre_tokenizers.Split(Regex(r"[aeiou]"), "contiguous"), byte_level(add_prefix_space=False, use_regex=False)])),
    }
    made["cl100k"].add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, special=True, normalized=False),
                                       AddedToken("<|end|>", special=True, normalized=False)])
    made["cl100k"].add_tokens([AddedToken("NAMED", single_word=True, normalized=False)])
    made["qwen2"].add_tokens([AddedToken("<nfc\u00e9>", normalized=True), AddedToken("NAMED", normalized=True, lstrip=True)])
    made["dollar"] = trained(text, 420, splits(r"\s+$", r"^\s?[a-z]+", r"[\p{L}\p{N}&&[^\p{Han}]&&[^a-e]]+|[\s&&[^x]]+|."))
    made["forms"] = trained(text, 420, splits(CL100K), normalizers.Sequence([
        normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[aeiou]{2,}"), "ae"), normalizers.Strip()]))
    documents = {name: json.loads(t.to_str()) for name, t in made.items()}
    # The older spelling of merges.
    documents["gpt2"]["model"]["merges"] = [" ".join(m) for m in documents["gpt2"]["model"]["merges"]]
    # Words that are tokens although no merge makes them.
    ignoring = documents["ignoring"] = json.loads(json.dumps(documents["cl100k"]))
    ignoring["model"]["ignore_merges"] = True
    ignoring["model"]["merges"] = ignoring["model"]["merges"][::2]
    documents["llama"] = of_characters(text, 800, normalizer=LLAMA_NORMALIZER)
    documents["llama"]["model"]["merges"] = [" ".join(m) for m in documents["llama"]["model"]["merges"]]
    documents["mistral"] = of_characters(text, 700, metaspace("first", False))
    documents["metaspace"] = of_characters(text, 600, metaspace("always", True), '{"type":"NFKC"}')
    # A vocabulary with a token that has a space inside: then merging crosses words.
    crossing = documents["crossing"] = of_characters(text, 600, metaspace("never", False))
    crossing["decoder"]["decoders"].pop()  # no space is put before a text
    for left, right in [("a", "\u2581"), ("a\u2581", "s"), ("\u2581", "\u2581"), ("\u2581\u2581", "\u2581\u2581")]:
        if left + right not in crossing["model"]["vocab"]:
            crossing["model"]["vocab"][left + right] = len(crossing["model"]["vocab"])
        crossing["model"]["merges"].insert(0, [left, right])
    crossing["model"]["merges"].sort(key=lambda m: m != ["a", "\u2581"])
    for name, document in documents.items():
        write(name, document)
    texts = hostile_texts() + text.splitlines(keepends=True)[:60]
    ids = {}
    for name in documents:
        tokenizer = Tokenizer.from_file(os.path.join(here, name + ".json"))
        ids[name] = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
    write("cases", {"texts": texts, "ids": ids})


if __name__ == "__main__":
    main()

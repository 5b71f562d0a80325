"""What smollm2.py asks of `fourmi serve`: conversations through OpenAI's client, log-likelihoods through lm_eval."""
import contextlib
import json
import subprocess

import openai

SYSTEM = {"role": "system", "content": "You are a patient teacher."}
CONVERSATIONS = [[{"role": "user", "content": "What is the capital of France?"}],
                 [SYSTEM, {"role": "user", "content": "Which animal barks?"}, {"role": "assistant", "content": "The dog."},
                  {"role": "user", "content": "And which one says meow?"}],
                 [SYSTEM, {"role": "user", "content": "Tell me how ants find their way home, step by step."}]]
TOKENS = 40
SCORED = [("The capital of France is", " Paris"), ("The capital of France is", " a city of ants"),
          ("2 + 2 =", " 4"), ("Water boils at a temperature of one hundred", " degrees Celsius, as everybody knows."),
          ("def add(a, b):\n    return", " a + b\n"), ("Die Ameise ist", " ein Insekt.")]
NATS_A_TOKEN = 1e-3  # between log-likelihoods in fp32


@contextlib.contextmanager
def serving(fourmi, model):
    """The base address of a server, and the model's name there."""
    command = [fourmi, "serve", str(model), "--port", "0", "--context", "512", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(server.stdout.readline())
        yield f"http://127.0.0.1:{said['port']}/v1", said["model"]
    finally:
        server.terminate()
        status = server.wait(60)
    assert status == 0, status


def chat(s, say, chat_ids, log_probabilities, most_gap):
    model, tokenizer = s.reference()
    with serving(s.fourmi, s.imported) as (address, name):
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=600)
        for number, messages in enumerate(CONVERSATIONS, 1):
            ask = dict(model=name, messages=messages, max_tokens=TOKENS, temperature=0)
            whole = client.chat.completions.create(**ask)
            streamed = "".join(p.choices[0].delta.content or "" for p in client.chat.completions.create(**ask, stream=True)
                               if p.choices)
            (s.work / "messages.json").write_text(json.dumps(messages))
            alone = s.ask_json("generate", s.imported, "--messages", s.work / "messages.json", "--max-tokens", TOKENS,
                               "--temperature", 0)
            answer = whole.choices[0].message.content
            say(f"answer {number} of serve", f"whole {answer!r}, streamed {streamed!r}", f"generate's {alone['text']!r}",
                answer == streamed == alone["text"] != "")
            prompt = chat_ids(tokenizer, messages)
            say(f"tokens of prompt {number}", f"serve {whole.usage.prompt_tokens}, generate {alone['prompt_tokens']}",
                len(prompt), whole.usage.prompt_tokens == alone["prompt_tokens"] == len(prompt))
            beside_greedy(say, number, model, tokenizer, log_probabilities, prompt, alone, most_gap)


def beside_greedy(say, number, model, tokenizer, log_probabilities, prompt, alone, most_gap):
    """transformers writes the same text as far as near ties allow: behind fourmi's own words its choice is fourmi's, or
    hardly likelier."""
    import torch
    with torch.no_grad():
        theirs = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                                max_new_tokens=TOKENS, do_sample=False)[0].tolist()[len(prompt):]
    ours = tokenizer(alone["text"], add_special_tokens=False)["input_ids"]
    if alone["finish_reason"] == "stop":
        ours.append(tokenizer.eos_token_id)
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    rows = log_probabilities(model, prompt + ours)[len(prompt) - 1:-1]
    gaps = rows.max(-1).values - rows.gather(1, torch.tensor(ours).unsqueeze(1)).squeeze(1)
    say(f"answer {number} beside transformers' generate",
        f"first {same} of {len(ours)} tokens equal, {int((gaps == 0).sum())} its likeliest, worst {gaps.max():.3f} nats below",
        f"all equal or within {most_gap} nats", len(ours) > 3 and same > 0 and gaps.max().item() < most_gap)


def score(s, say, losses, log_probabilities):
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    model, tokenizer = s.reference()
    with serving(s.fourmi, s.fp32) as (address, name):
        harness = LocalCompletionsAPI(base_url=f"{address}/completions", model=name, tokenizer=str(s.fp32),
                                      tokenizer_backend="huggingface", num_concurrent=2, max_retries=1, batch_size=1)
        found = harness.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(SCORED)],
                                      disable_tqdm=True)
    for (context, continuation), (likelihood, greedy) in zip(SCORED, found):
        before = tokenizer(context, add_special_tokens=False)["input_ids"]
        ids = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
        assert ids[:len(before)] == before
        expected = -losses(model, ids)[len(before) - 1:].sum().item()
        chosen = log_probabilities(model, ids)[len(before) - 1:-1].argmax(-1).tolist() == ids[len(before):]
        say(f"lm_eval's {context + '|' + continuation!r}", f"{likelihood:.5f}, greedy {greedy}",
            f"{expected:.5f}, greedy {chosen}",
            abs(likelihood - expected) < NATS_A_TOKEN * (len(ids) - len(before)) and greedy == chosen)

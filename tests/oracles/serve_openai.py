#!/usr/bin/env python3
"""fourmi serve, asked by OpenAI's own client: serve_openai.py FOURMI MODEL

MODEL is a run directory or a checkpoint. Needs `pip install openai`. Asks for texts whole, streamed and scored, for what
is refused, and measures: 16 clients of 64 tokens beside one, and when a late request has its first token. Exit status 0:
all of it is as it should be.
"""
import json
import subprocess
import sys
import threading
import time

import openai


def main(program, model):
    server = subprocess.Popen([program, "serve", model, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(server.stdout.readline())
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{said['port']}/v1", api_key="none", max_retries=0)
        name = client.models.list().data[0].id
        assert name == said["model"]
        answers(client, name)
        refusals(client, name)
        measure(client, name)
    finally:
        server.terminate()
        status = server.wait(60)
    assert status == 0, status
    print("ok")


def answers(client, name):
    ask = dict(model=name, prompt="the ", max_tokens=20, temperature=0)
    whole = client.completions.create(**ask)
    text = whole.choices[0].text
    pieces = [p.choices[0].text for p in client.completions.create(**ask, stream=True) if p.choices]
    assert "".join(pieces) == text, (pieces, text)
    scored = client.completions.create(model=name, prompt="the ", max_tokens=0, echo=True, logprobs=2)
    told = scored.choices[0].logprobs
    assert scored.choices[0].text == "the " and len(told.tokens) == len(told.token_logprobs) == 4
    by_ids = client.completions.create(model=name, prompt=[list(b"the "), list(b"an ")], max_tokens=1, echo=True, logprobs=1,
                                       temperature=0)
    assert by_ids.choices[0].logprobs.token_logprobs[0] is None and len(by_ids.choices) == 2
    seeds = [client.completions.create(model=name, prompt="the ", max_tokens=20, seed=s).choices[0].text for s in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2], seeds


def refusals(client, name):
    for kind, more in ((openai.BadRequestError, dict(n=2)), (openai.BadRequestError, dict(max_tokens=10**7)),
                       (openai.NotFoundError, dict(model="another"))):
        try:
            client.completions.create(**{"model": name, "prompt": "a", **more})
        except kind:
            continue
        raise AssertionError(f"{more} was not refused")
    try:
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hello"}], max_tokens=4)
    except openai.BadRequestError as e:
        assert "template" in str(e), e  # of a model without one


def measure(client, name):
    def write(tokens=64):
        # A text may end by itself: what counts are the tokens that came.
        return client.completions.create(model=name, prompt="the ", max_tokens=tokens, temperature=1).usage.completion_tokens

    write()
    begin = time.time()
    alone = sum(write() for _ in range(4)) / (time.time() - begin)
    written = []
    begin = time.time()
    clients = [threading.Thread(target=lambda: written.append(write())) for _ in range(16)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    together = sum(written) / (time.time() - begin)
    print(f"one client {alone:.0f} tokens/s, 16 clients {together:.0f} tokens/s: {together / alone:.2f} times")

    stream = client.completions.create(model=name, prompt="the ", max_tokens=100, temperature=1, stream=True)
    next(iter(stream))
    begin = time.time()
    next(iter(client.completions.create(model=name, prompt="an ", max_tokens=4, stream=True)))
    print(f"first token of a late request after {time.time() - begin:.3f} s")
    assert together > alone, "many texts at once are slower than one after the other"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

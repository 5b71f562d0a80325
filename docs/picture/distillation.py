#!/usr/bin/env python3
"""Does a teacher pay? distillation.py FOURMI FOLDER [--results FILE] [--scale S] [--seeds N]

Trains a teacher in FOLDER, then students of an eighth of its parameters or less on four million tokens: from the text
alone, beside the teacher (online), from a cache of its 64 likeliest tokens (offline), from a cache of samples, and on
what the student writes itself. Each way gets its learning rate by the same search, one seed at an eighth of the tokens,
then so many seeds (on-policy one). Held-out loss is cross-entropy on text that neither model has read.

What is done is in RESULTS, run by run: the same command goes on. The table and the picture are made of that file alone
(--only-report). --scale 0.02 tries everything in minutes. Needs nothing but Python's own library.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
STUDENT_STEPS, TEACHER_STEPS, TOKENS_A_STEP = 976, 2000, 32 * 128
RATES = (2e-3, 4e-3, 8e-3)
WAYS = ("text", "online", "top-k", "sampled", "on-policy")


class Experiment:
    def __init__(self, a):
        self.a, self.folder = a, pathlib.Path(a.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = pathlib.Path(a.results)
        self.done = json.loads(self.path.read_text()) if self.path.exists() else {"scale": a.scale, "runs": {}}
        if self.done["scale"] != a.scale:
            sys.exit(f"{self.path}: found results at scale {self.done['scale']}, expected {a.scale}: name another file")

    def steps(self, n):
        return max(8, round(n * self.a.scale))

    def fourmi(self, *words):
        print("+", " ".join(map(str, words)), file=sys.stderr, flush=True)
        begun = time.time()
        r = subprocess.run([self.a.fourmi, *map(str, words)], stdout=subprocess.PIPE, text=True)
        if r.returncode != 0:
            sys.exit(f"exit status {r.returncode}")
        return r.stdout, time.time() - begun

    def keep(self, key, value):
        self.done["runs"][key] = value
        aside = self.path.with_suffix(".partial")
        aside.write_text(json.dumps(self.done, indent=1) + "\n")
        aside.replace(self.path)

    def schedule(self, steps):
        return [f"run.steps={steps}", f"schedule.warmup_steps={max(2, round(0.03 * steps))}",
                f"schedule.decay_start_step={round(0.6 * steps)}", f"schedule.decay_end_step={steps}",
                f"evaluation.every={max(2, steps // 16)}", f"checkpoint.every={steps}"]

    def train(self, recipe, name, *words):
        directory = self.folder / name
        _, seconds = self.fourmi("train", HERE / recipe, f"run.directory={directory}", f"run.name={name}", *words)
        curve = [[e["tokens"], e["loss"]] for e in map(json.loads, open(directory / "evaluations.jsonl"))]
        return {"seconds": round(seconds, 1), "curve": curve, "loss": curve[-1][1]}

    def count(self, recipe):
        out, _ = self.fourmi("train", HERE / recipe, "--dry-run", "--json", "--ranks=1")
        j = json.loads(out)
        return {"parameters": j["parameters_active"], "flops_per_token": j["flops_per_token"]}

    def way(self, way):
        teacher = [f"distill.teacher.from={self.folder / 'teacher'}", "distill.teacher.name=teacher",
                   "distill.teacher.license=GPL-2.0-or-later", "distill.teacher.terms.allows=[distill]"]
        cache = {"top-k": ["distill.top_k=64"], "sampled": ["distill.samples=11"]}
        if way == "text":
            return []
        if way in cache:
            return ["distill.mode=offline", f"distill.cache={self.folder / ('cache-' + way)}", *cache[way], *teacher]
        own = ["distill.objective=reverse-kl", "distill.on_policy.rate=0.5"] if way == "on-policy" else []
        return [f"distill.mode={way}", *own, *teacher]

    def student(self, way, rate, seed, steps):
        words = [*self.schedule(steps), *self.way(way), f"optimizer.learning_rate={rate}", f"run.seed={seed}"]
        return self.train("distillation_student.yaml", f"{way}-{rate}-{seed}-{steps}", *words)

    def capture(self, way, steps, seed):
        key = f"capture {way} {seed}"
        if key in self.done["runs"] and (self.folder / f"cache-{way}").exists():
            return
        out, seconds = self.fourmi("teacher", "capture", HERE / "distillation_student.yaml", "--json", *self.schedule(steps),
                                   *self.way(way), f"run.seed={seed}")
        made = json.loads(out)
        self.keep(key, {"seconds": round(seconds, 1), "rows": made["rows_now"], "bytes": made["bytes"]})

    def run(self):
        runs, whole = self.done["runs"], self.steps(STUDENT_STEPS)
        if "counts" not in runs:
            self.keep("counts", {"teacher": self.count("distillation_teacher.yaml"), "student": self.count("distillation_student.yaml")})
        # Its weights do not outlive the machine: they are made again, alike, where students are still to learn of them.
        if "teacher" not in runs or not (self.folder / "teacher").exists():
            self.keep("teacher", self.train("distillation_teacher.yaml", "teacher", *self.schedule(self.steps(TEACHER_STEPS))))
        for way in WAYS:
            for rate in RATES:
                key = f"search {way} {rate}"
                if key in runs:
                    continue
                if way in ("top-k", "sampled"):
                    self.capture(way, whole, 1)
                self.keep(key, self.student(way, rate, 1, max(8, whole // 8)))
            best = min(RATES, key=lambda rate: runs[f"search {way} {rate}"]["loss"])
            for seed in range(1, (1 if way == "on-policy" else self.a.seeds) + 1):
                key = f"student {way} {seed}"
                if key in runs:
                    continue
                if way in ("top-k", "sampled"):
                    self.capture(way, whole, seed)  # adds what another order reads
                self.keep(key, {"rate": best, **self.student(way, best, seed, whole)})
                self.report()

    def tokens_to(self, curve, loss):
        """Of a curve, where it first is as low: between two points on a line."""
        before = None
        for tokens, value in curve:
            if value <= loss:
                if before is None or before[1] == value:
                    return tokens
                return before[0] + (tokens - before[0]) * (before[1] - loss) / (before[1] - value)
            before = (tokens, value)
        return None

    def report(self):
        runs = self.done["runs"]
        of = {w: [r for k, r in runs.items() if k.startswith(f"student {w} ")] for w in WAYS}
        if not of["text"]:
            return
        plain = statistics.mean(r["loss"] for r in of["text"])
        tokens = of["text"][0]["curve"][-1][0]
        counts = runs["counts"]
        print(f"teacher {counts['teacher']['parameters']:,} active parameters, held-out loss {runs['teacher']['loss']:.4f}; "
              f"student {counts['student']['parameters']:,}; {tokens:,} tokens")
        print("| way | learning rate | seeds | held-out loss | spread | tokens to the plain student's loss | teacher's FLOP over the student's | seconds |")
        print("|---|---|---|---|---|---|---|---|")
        for way in WAYS:
            rs = of[way]
            if not rs:
                continue
            losses = [r["loss"] for r in rs]
            reached = [self.tokens_to(r["curve"], plain) for r in rs]
            share = f"{statistics.mean(reached) / tokens:.0%}" if None not in reached else "not reached"
            # Forward is a third; each token once for a cache, and so in every online run.
            teacher = counts["teacher"]["flops_per_token"] / 3 / counts["student"]["flops_per_token"] if way != "text" else 0
            print(f"| {way} | {rs[0]['rate']} | {len(rs)} | {statistics.mean(losses):.4f} | {max(losses) - min(losses):.4f} "
                  f"| {share} | {teacher:.2f} | {statistics.mean(r['seconds'] for r in rs):.0f} |")
        self.draw(of, plain)

    def draw(self, of, plain):
        w, h, left, below = 640, 360, 56, 40
        curves = {k: v for k, v in of.items() if v}
        points = [p for v in curves.values() for r in v for p in r["curve"][1:]]
        if len(points) < 2:
            return
        most, low, high = max(p[0] for p in points), min(p[1] for p in points), max(p[1] for p in points)
        x = lambda t: left + (w - left - 10) * t / most
        y = lambda v: 10 + (h - below - 10) * (high - v) / max(1e-9, high - low)
        colours = dict(zip(WAYS, ("#444444", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd")))
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" font-family="sans-serif" font-size="12">',
               f'<rect width="{w}" height="{h}" fill="white"/>',
               f'<line x1="{left}" y1="{y(plain):.1f}" x2="{w - 10}" y2="{y(plain):.1f}" stroke="#444444" stroke-dasharray="4 4"/>']
        for i, (way, rs) in enumerate(curves.items()):
            for r in rs:
                line = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in r["curve"][1:])
                out.append(f'<polyline points="{line}" fill="none" stroke="{colours[way]}" stroke-width="1.5" opacity="0.8"/>')
            out.append(f'<text x="{w - 120}" y="{28 + 16 * i}" fill="{colours[way]}">{way}</text>')
        for k in range(5):
            t, v = most * k / 4, low + (high - low) * k / 4
            out.append(f'<text x="{x(t):.0f}" y="{h - 22}" text-anchor="middle">{t / 1e6:.1f}M</text>')
            out.append(f'<text x="{left - 6}" y="{y(v) + 4:.0f}" text-anchor="end">{v:.2f}</text>')
        out.append(f'<text x="{(w + left) / 2}" y="{h - 6}" text-anchor="middle">tokens; held-out cross-entropy, nats a byte</text></svg>')
        self.path.with_suffix(".svg").write_text("\n".join(out) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("fourmi")
    p.add_argument("folder")
    p.add_argument("--results", default=str(HERE / "distillation.json"))
    p.add_argument("--scale", type=float, default=1.0)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--only-report", action="store_true")
    e = Experiment(p.parse_args())
    if not e.a.only_report:
        e.run()
    e.report()


if __name__ == "__main__":
    main()

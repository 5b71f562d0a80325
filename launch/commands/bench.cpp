// fourmi bench kernels|step|comm: figures with the machine's limits measured in the same run.
#include "launch/bench/bench.h"

#include "framework/run/machine.h"
#include "launch/commands.h"

namespace fourmi {

void add_bench(CLI::App& app, ExitStatus& status) {
  CLI::App* bench = app.add_subcommand("bench", "speeds, beside what the machine could do, measured in the same run");
  bench->require_subcommand(1);

  auto k = std::make_shared<bench::KernelOptions>();
  k->threads = usable_cores();
  CLI::App* kernels = bench->add_subcommand("kernels", "each operation of a step on its own");
  kernels->add_option("--only", k->only, "operations whose name contains this");
  kernels->add_option("--seconds", k->seconds, "time for each operation")
      ->check(CLI::Range(0.001, 600.0))
      ->capture_default_str();
  kernels->add_option("--threads", k->threads, "threads of the pool")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  kernels->add_flag("--json", k->json, "one JSON object");
  kernels->callback([k, &status] {
    bench::run_kernels(*k);
    status = ExitStatus::ok;
  });

  auto s = std::make_shared<bench::StepOptions>();
  CLI::App* step = bench->add_subcommand("step", "training steps of a recipe, without a run directory");
  step->add_option("RECIPE", s->recipe, "a recipe file")->required();
  step->add_option("OVERRIDES", s->overrides, "section.key=value, as in the recipe");
  step->add_option("--steps", s->steps, "steps that are timed")->check(CLI::Range(1, 1000000))->capture_default_str();
  step->add_option("--warm-up", s->warm_up, "steps before them")->check(CLI::Range(0, 1000000))->capture_default_str();
  step->add_flag("--json", s->json, "one JSON object");
  step->callback([s, &status] {
    bench::run_step(*s);
    status = ExitStatus::ok;
  });

  auto c = std::make_shared<bench::CommOptions>();
  CLI::App* comm = bench->add_subcommand("comm", "what ranks move, under launch/mpirun; beside a copy in memory");
  comm->add_option("--seconds", c->seconds, "time for each operation and size")
      ->check(CLI::Range(0.001, 600.0))
      ->capture_default_str();
  comm->add_flag("--json", c->json, "one JSON object");
  comm->callback([c, &status] {
    bench::run_comm(*c);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi

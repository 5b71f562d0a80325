// A harvest as a process of its own, for a test to kill: URL FOLDER. Prompts are FOLDER/prompts.jsonl, the output is
// FOLDER/out; a request costs at most 92 millionths; the budget is one EUR.
#include <fmt/format.h>

#include "framework/harvest/harvest.h"
#include "kernels/runtime/error.h"

int main(int argc, char** argv) {
  using namespace fourmi;
  if (argc != 3) return 2;
  Recipe recipe;
  recipe.distill.teacher.name = recipe.distill.teacher.model = "oracle";
  recipe.distill.teacher.endpoint = argv[1];
  HarvestSection& h = recipe.distill.harvest;
  h.prompts.resize(1);
  h.prompts[0].name = "maths";
  h.prompts[0].path = fmt::format("{}/prompts.jsonl", argv[2]);
  h.prompts[0].field = "problem";
  h.output = fmt::format("{}/out", argv[2]);
  h.concurrency = 4;
  h.max_tokens = 10;
  h.price_input = 1, h.price_output = 2, h.cost = 1, h.currency = "EUR";
  try {
    harvest::Plan plan = harvest::make_plan(recipe);
    plan.backoff = {std::chrono::milliseconds(2), std::chrono::milliseconds(10)};
    return harvest::run_harvest(plan, {}).end == harvest::End::complete ? 0 : 1;
  } catch (const Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return static_cast<int>(e.status());
  }
}

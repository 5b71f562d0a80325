#include <fmt/format.h>

#include "launch/gpu_check/table.h"

namespace fourmi::gpu_check {

namespace {

/// Moonlight's layers, as many as fit beside their optimizer on a card of 80 GB, 32,768 tokens a step.
const std::vector<std::string> sizes = {"model.num_hidden_layers=4", "data.sequence_length=4096",
                                        "data.global_batch_size=8", "data.micro_batch_size=4",
                                        "precision.moments=bf16"};

}  // namespace

std::vector<std::string> training_speed_words(const Places& places, const std::string& compute,
                                              const std::string& device) {
  std::vector<std::string> words{
      places.program, "bench", "step", places.recipes / "moonlight-16b-a3b.yaml", "--json", "--warm-up", "2",
      "--steps",      "6"};
  words.insert(words.end(), sizes.begin(), sizes.end());
  words.push_back("precision.compute=" + compute);
  words.push_back("run.device=" + device);
  return words;
}

Outcome check_training_speed(const Job& job, const Places& places) {
  if (places.recipes.empty()) return {Verdict::absent, "no recipes were found", {}};
  Outcome outcome{Verdict::passed, "", {}};
  double seconds_of_bf16 = 0;
  const double half = job.left() / 2;
  for (const char* compute : {"bf16", "fp8-block"}) {
    const ChildEnd end = job.run(training_speed_words(places, compute, "cuda"), {.seconds = half});
    const ordered_json figures = ordered_json::parse(end.output, nullptr, false);
    ordered_json& mine = outcome.figures[compute];
    outcome.text += outcome.text.empty() ? "" : "; ";
    if (!end.well() || !figures.is_object() || !figures.contains("median_seconds")) {
      mine = {{"end", describe(end)}, {"said", last_words(end, 4000)}};
      const bool hung = end.how == ChildEnd::How::hung || end.how == ChildEnd::How::stuck;
      if (outcome.verdict != Verdict::hung) outcome.verdict = hung ? Verdict::hung : Verdict::failed;
      outcome.text += fmt::format("{} {}: {}", compute, describe(end), last_words(end, 160));
      continue;
    }
    mine = figures;
    const double seconds = figures["median_seconds"];
    outcome.text +=
        fmt::format("{} {:.3f} s a step, {:.0f} tokens/s", compute, seconds, figures.value("tokens_per_second", 0.0));
    if (seconds_of_bf16 > 0) {
      mine["times_bf16"] = seconds_of_bf16 / seconds;
      outcome.text += fmt::format(", {:.2f} times bf16", seconds_of_bf16 / seconds);
    } else {
      seconds_of_bf16 = seconds;
    }
  }
  return outcome;
}

}  // namespace fourmi::gpu_check

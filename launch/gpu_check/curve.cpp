#include "launch/gpu_check/curve.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "kernels/runtime/error.h"
#include "launch/gpu_check/table.h"

namespace fourmi::gpu_check {

namespace fs = std::filesystem;

namespace {

double mean_of_last(const std::vector<double>& values, std::size_t count) {
  return std::accumulate(values.end() - static_cast<std::ptrdiff_t>(count), values.end(), 0.0) /
         static_cast<double>(count);
}

/// Removed with all that is in it.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "fourmi-gpu-check-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      throw Error(ExitStatus::environment, name, "no folder could be made, one was expected");
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

std::vector<double> losses_of(const std::string& metrics_file) {
  std::vector<double> losses;
  std::ifstream file(metrics_file);
  for (std::string line; std::getline(file, line);) {
    const ordered_json step = ordered_json::parse(line, nullptr, false);
    if (!step.is_object() || !step.contains("loss")) break;
    losses.push_back(step["loss"].is_number() ? step["loss"].get<double>() : std::nan(""));
  }
  return losses;
}

Outcome compare_curves(const std::vector<double>& gpu, const std::vector<double>& cpu, const CurveLimits& limits) {
  Outcome outcome{
      Verdict::failed, "", {{"gpu", gpu}, {"cpu", cpu}, {"limit_first", limits.first}, {"limit_last", limits.last}}};
  if (gpu.size() != limits.steps || cpu.size() != limits.steps) {
    outcome.text =
        fmt::format("{} steps on the GPU and {} on the CPU, {} were expected", gpu.size(), cpu.size(), limits.steps);
    return outcome;
  }
  const std::size_t quarter = std::max<std::size_t>(1, limits.steps / 4);
  const double first = std::abs(gpu[0] - cpu[0]), g = mean_of_last(gpu, quarter), c = mean_of_last(cpu, quarter);
  outcome.figures["difference_first"] = first;
  outcome.figures["difference_last"] = std::abs(g - c);
  outcome.text =
      fmt::format("first losses {:.4f} and {:.4f}; means of the last {} steps {:.4f} on the GPU, {:.4f} on the CPU",
                  gpu[0], cpu[0], quarter, g, c);
  bool finite = true;
  for (std::size_t i = 0; i < limits.steps; ++i) finite = finite && std::isfinite(gpu[i]) && std::isfinite(cpu[i]);
  if (finite && first <= limits.first && std::abs(g - c) <= limits.last) outcome.verdict = Verdict::passed;
  return outcome;
}

std::vector<std::string> curve_words(const Places& places, const std::string& device, const std::string& directory,
                                     std::size_t steps) {
  std::vector<std::string> words{places.program,
                                 "train",
                                 places.recipes / "tiny.yaml",
                                 fmt::format("run.steps={}", steps),
                                 "run.device=" + device,
                                 "run.directory=" + directory,
                                 "evaluation.every=1000000",
                                 "evaluation.at_end=false",
                                 "checkpoint.every=1000000"};
  if (!places.text.empty()) words.push_back("data.train.gcide.path=" + places.text.string());
  return words;
}

/// Both at once: the CPU's is the longer one.
Outcome check_curve(const Job& job, const Places& places) {
  if (places.recipes.empty()) return {Verdict::absent, "no recipes were found", {}};
  const CurveLimits limits;
  const Scratch scratch;
  const std::string on_gpu = scratch.path() / "gpu", on_cpu = scratch.path() / "cpu";
  Child cpu(curve_words(places, "cpu", on_cpu, limits.steps));
  const ChildEnd gpu_end = job.run(curve_words(places, "cuda", on_gpu, limits.steps), {.seconds = job.left()});
  if (!gpu_end.well()) {
    const bool hung = gpu_end.how == ChildEnd::How::hung || gpu_end.how == ChildEnd::How::stuck;
    return {hung ? Verdict::hung : Verdict::failed,
            fmt::format("training on the GPU {}: {}", describe(gpu_end), last_words(gpu_end, 160)),
            {{"said", last_words(gpu_end, 4000)}, {"gpu", losses_of(on_gpu + "/metrics.jsonl")}}};
  }
  const ChildEnd cpu_end = cpu.wait({.seconds = job.left()});
  // What the CPU has no time for is compared as far as it came.
  std::vector<double> gpu_losses = losses_of(on_gpu + "/metrics.jsonl"),
                      cpu_losses = losses_of(on_cpu + "/metrics.jsonl");
  const bool cut = !cpu_end.well() && cpu_end.how == ChildEnd::How::hung && cpu_losses.size() >= limits.steps / 4;
  CurveLimits of_these = limits;
  if (cut) {
    of_these.steps = cpu_losses.size();
    gpu_losses.resize(std::min(gpu_losses.size(), of_these.steps));
  }
  Outcome outcome = compare_curves(gpu_losses, cpu_losses, of_these);
  if (cut) {
    outcome.text += fmt::format("; the CPU had time for {} of {} steps", cpu_losses.size(), limits.steps);
    if (outcome.verdict == Verdict::passed) outcome.verdict = Verdict::no_time;
  } else if (!cpu_end.well()) {
    outcome.text += fmt::format("; training on the CPU {}: {}", describe(cpu_end), last_words(cpu_end, 160));
  }
  return outcome;
}

}  // namespace fourmi::gpu_check

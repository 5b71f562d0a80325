#include "launch/gpu_check/nccl.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "launch/in_path.h"

namespace fourmi::gpu_check {

namespace {

/// NCCL's own words where it is asked for two ranks on one GPU and does not want to.
std::string refusal_in(const std::string& errors) {
  std::istringstream lines(errors);
  for (std::string line; std::getline(lines, line);)
    for (const char* words : {"Duplicate GPU detected", "Multiple Ranks are using the same GPU"})
      if (const auto at = line.find(words); at != std::string::npos) return line.substr(at, 200);
  return {};
}

std::string speeds_in(const Figures& figures) {
  std::string text;
  for (const ordered_json& f : figures.lines)
    if (f.contains("bytes_per_second"))
      text += fmt::format("{}{} {:.1f} GB/s", text.empty() ? "" : ", ", f.value("name", "?"),
                          f.value("bytes_per_second", 0.0) * 1e-9);
  return text;
}

/// Numbers of ranks, one after the other: of a GPU that they share, or one on each.
std::vector<int> ranks_for(int gpus) {
  if (gpus <= 1) return {2, 4};
  return gpus == 2 ? std::vector<int>{2} : std::vector<int>{2, std::min(gpus, 8)};
}

std::string find_mpirun(const Places& places) {
  const std::string bundled = places.beside / "mpirun";
  return ::access(bundled.c_str(), X_OK) == 0 ? bundled : in_path("mpirun");
}

}  // namespace

std::vector<std::string> nccl_words(const std::string& mpirun, const std::string& program, int ranks, bool shared) {
  // As launch/mpirun has them: one machine, more ranks than cores perhaps.
  std::vector<std::string> words{mpirun,
                                 "-q",
                                 "--allow-run-as-root",
                                 "--oversubscribe",
                                 "--bind-to",
                                 "none",
                                 "--mca",
                                 "pml",
                                 "ob1",
                                 "--mca",
                                 "btl",
                                 "self,vader",
                                 "--mca",
                                 "btl_vader_single_copy_mechanism",
                                 "none",
                                 "--mca",
                                 "mpi_yield_when_idle",
                                 "1",
                                 "--mca",
                                 "odls_base_sigkill_timeout",
                                 "1"};
  const auto give = [&](const char* variable) { words.insert(words.end(), {"-x", variable}); };
  give("NCCL_DEBUG=WARN");  // why it refuses
  if (shared) {
    give("NCCL_MULTI_RANK_GPU_ENABLE=1");
    give("NCCL_NVLS_ENABLE=0");
    give("NCCL_MAX_CTAS=2");  // all ranks' kernels wait for each other, so all have to find room
  }
  words.insert(words.end(), {"-n", std::to_string(ranks), program, "gpu-check", "--part", "nccl"});
  return words;
}

Outcome judge_nccl(const ChildEnd& end, int ranks, bool shared) {
  using How = ChildEnd::How;
  const Figures figures = read_figures(end.output, end.how != How::exited);
  Outcome outcome{Verdict::failed, "", {{"ranks", ranks}, {"shared", shared}, {"figures", figures.lines}}};
  const auto ended = [&](Verdict verdict, const std::string& why) {
    outcome.verdict = verdict;
    outcome.text = fmt::format("{} ranks{}: {}", ranks, shared ? " on one GPU" : ", one a GPU", why);
    if (verdict != Verdict::passed) outcome.figures["said"] = last_words(end, 4000);
    return outcome;
  };
  const std::string at = figures.begun.empty() ? "" : " at " + figures.begun;
  if (end.how == How::hung || end.how == How::stuck) return ended(Verdict::hung, describe(end) + at);
  if (end.how == How::late) return ended(Verdict::no_time, describe(end) + at);
  std::string errors;
  for (const ordered_json& f : figures.lines)
    if (f.contains("error"))
      errors += fmt::format("{}{}: {}", errors.empty() ? "" : ", ", f.value("name", "?"), f.value("error", "?"));
  // Before the first step has its end: later NCCL has taken the ranks.
  const bool formed = std::any_of(figures.lines.begin(), figures.lines.end(),
                                  [](const ordered_json& f) { return f.value("name", "") == nccl_steps().front(); });
  const std::string refusal = shared && !formed ? refusal_in(end.errors) : "";
  if (end.how == How::exited && end.status != 0 && !refusal.empty()) return ended(Verdict::absent, refusal);
  if (!end.well()) return ended(Verdict::failed, fmt::format("{}{}: {}", describe(end), at, last_words(end, 200)));
  if (!errors.empty()) return ended(Verdict::failed, errors);
  if (!figures.trouble.empty()) return ended(Verdict::failed, "printed what is no figure: " + figures.trouble);
  if (figures.lines.size() == 1 && figures.lines[0].contains("absent"))
    return ended(Verdict::absent, figures.lines[0].value("absent", ""));
  for (const std::string& step : nccl_steps())
    if (std::none_of(figures.lines.begin(), figures.lines.end(),
                     [&](const ordered_json& f) { return f.value("name", "") == step; }))
      return ended(Verdict::failed, "told nothing of " + step);
  return ended(Verdict::passed, speeds_in(figures));
}

Outcome check_nccl(const Job& job, const Places& places, double silence) {
  const std::string mpirun = find_mpirun(places);
  if (mpirun.empty()) return {Verdict::absent, "no mpirun on this machine", {}};
  const ChildEnd probe = job.run({places.program, "gpu-check", "--part", "probe"}, {.seconds = silence});
  const Figures found = read_figures(probe.output, probe.how != ChildEnd::How::exited);
  if (!probe.well() || found.lines.empty())
    return {Verdict::failed, fmt::format("counting GPUs {}: {}", describe(probe), last_words(probe, 200)), {}};
  const int gpus = found.lines.front().value("count", 0);
  const bool shared = gpus < 2;
  Outcome outcome{Verdict::absent, "", {{"gpus", gpus}, {"runs", ordered_json::array()}}};
  for (const int ranks : ranks_for(gpus)) {
    if (!outcome.text.empty() && job.left() < 5) {
      outcome.text += fmt::format("; {} ranks had no time", ranks);
      break;
    }
    const ChildEnd end = job.run(nccl_words(mpirun, places.program, ranks, shared), {job.left(), silence});
    const Outcome one = judge_nccl(end, ranks, shared);
    outcome.text += (outcome.text.empty() ? "" : "; ") + one.text;
    outcome.figures["runs"].push_back(one.figures);
    // More of them than NCCL takes is no failure of those that it took.
    if (outcome.verdict != Verdict::passed || one.verdict != Verdict::absent) outcome.verdict = one.verdict;
    if (one.verdict != Verdict::passed) break;
  }
  return outcome;
}

}  // namespace fourmi::gpu_check

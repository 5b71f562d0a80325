#include "framework/capture/coverage.h"

#include <algorithm>

namespace fourmi {

std::vector<std::vector<std::int64_t>> windows_of_run(const Recipe& recipe, const Loader& loader) {
  const RunSection& run = recipe.run;
  std::vector<std::vector<bool>> read;
  std::int64_t left = 0;
  for (std::int64_t s = 0; s < loader.num_sources(); ++s) {
    const bool counts = loader.share(s) > 0;
    read.emplace_back(static_cast<std::size_t>(loader.samples_per_epoch(s)), false);
    if (counts) left += loader.samples_per_epoch(s);
  }
  const bool ends = run.steps || run.tokens || run.epochs;
  if (!ends) {
    for (std::size_t s = 0; s < read.size(); ++s)
      if (loader.share(static_cast<std::int64_t>(s)) > 0) read[s].assign(read[s].size(), true);
    left = 0;
  }
  StepPlan plan;
  Position position = loader.start();
  for (std::int64_t step = 0; left > 0; ++step) {
    if (run.steps && step >= *run.steps) break;
    if (run.tokens && static_cast<double>(position.tokens) >= *run.tokens) break;
    if (run.epochs && loader.finished(position, *run.epochs)) break;
    loader.plan_step(position, plan, run.epochs);
    for (const Sample& sample : plan.samples) {
      if (sample.source < 0) continue;
      auto seen = read[static_cast<std::size_t>(sample.source)][static_cast<std::size_t>(sample.window)];
      if (!seen) seen = true, --left;
    }
    position = plan.next;
  }
  std::vector<std::vector<std::int64_t>> windows(read.size());
  for (std::size_t s = 0; s < read.size(); ++s)
    for (std::size_t w = 0; w < read[s].size(); ++w)
      if (read[s][w]) windows[s].push_back(static_cast<std::int64_t>(w));
  return windows;
}

void check_covered(const CacheReader& cache, const Recipe& recipe, const Loader& loader, const CaptureHeader& wanted,
                   const std::string& place) {
  const auto windows = windows_of_run(recipe, loader);
  const std::vector<std::size_t> sources = match_sources(cache.manifest().header, wanted, place);
  for (std::size_t s = 0; s < windows.size(); ++s) {
    const auto of_cache = static_cast<std::int64_t>(sources[s]);
    const auto lacks = std::count_if(windows[s].begin(), windows[s].end(), [&](std::int64_t w) {
      return !cache.has(of_cache, loader.first_token({static_cast<std::int32_t>(s), 0, w}));
    });
    if (lacks > 0)
      throw Error(ExitStatus::input, place,
                  fmt::format("found a cache without {} of the {} windows of the source `{}` that this run reads, "
                              "expected all of them",
                              lacks, windows[s].size(), wanted.sources[s].name),
                  "Capture what it lacks (fourmi teacher capture RECIPE adds to the cache), or end the run earlier");
  }
}

}  // namespace fourmi

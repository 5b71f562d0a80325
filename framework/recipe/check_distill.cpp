// What must hold between the keys of a teacher whose logits are learned from.
#include <utility>

#include "framework/recipe/reading.h"

namespace fourmi::recipe {
namespace {

class DistillChecks {
 public:
  DistillChecks(const Reading& reading, Issues& issues)
      : reading_(reading), d_(reading.recipe.distill), issues_(issues) {}

  void run() {
    if (!reading_.given("distill") || !good("distill") || !good("distill.mode") || !good("distill.teacher")) return;
    check_on_policy(reading_, issues_);
    // What a run recorded names every key, so only another value than the default says something.
    const DistillSection defaults;
    const TeacherSection& t = d_.teacher;
    check_cache();
    if (!d_.learns_logits()) {
      const std::pair<const char*, bool> meant[] = {
          {"distill.objective", d_.objective != defaults.objective},
          {"distill.beta", d_.beta != defaults.beta},
          {"distill.temperature", d_.temperature != defaults.temperature},
          {"distill.weight", d_.weight != defaults.weight},
          {"distill.teacher.from", !t.from.empty()},
          {"distill.teacher.precision", t.compute.has_value()},
          {"distill.teacher.micro_batch_size", t.micro_batch_size.has_value()},
          {"distill.teacher.parallel", t.parallel != ParallelSection{}}};
      for (const auto& [key, is_meant] : meant)
        if (is_meant && good(key))
          refuse(key, fmt::format("found `{}` without a teacher in this job", key),
                 "expected `distill.mode: online` (or on-policy, offline) beside it");
      return;
    }
    if (d_.online() && d_.teacher.from.empty() && good("distill.teacher.from"))
      refuse("distill.mode", fmt::format("found `{}` without a teacher", d_.mode),
             "expected `distill.teacher.from`: a run, a checkpoint, a "
             "Hugging Face folder or a GGUF file");
    if (d_.harvest != HarvestSection{})
      refuse("distill.harvest", fmt::format("found a harvest in mode {}", d_.mode),
             "expected `distill.mode: text` for it", "Harvest by a recipe of its own");
    if (d_.beta != defaults.beta && d_.objective != DistillObjective::jensen_shannon)
      refuse("distill.beta", "found `distill.beta` with another objective", "expected `distill.objective: jsd`");
    if (good("distill.beta") && d_.beta >= 1)
      refuse("distill.beta", fmt::format("found {}", d_.beta), "expected a share above 0 and below 1",
             "At the ends nothing is learned; forward-kl and reverse-kl are the limits");
  }

 private:
  void check_cache() {
    const std::pair<const char*, bool> meant[] = {{"distill.cache", !d_.cache.empty()},
                                                  {"distill.top_k", d_.top_k.has_value()},
                                                  {"distill.samples", d_.samples.has_value()}};
    if (!d_.offline()) {
      for (const auto& [key, is_meant] : meant)
        if (is_meant && good(key))
          refuse(key, fmt::format("found `{}` without a cache to learn from", key),
                 "expected `distill.mode: offline` beside it");
      return;
    }
    if (d_.cache.empty() && good("distill.cache"))
      refuse("distill.mode", "found `offline` without a cache", "expected `distill.cache`: its folder");
    if (d_.top_k && d_.samples && good("distill.top_k") && good("distill.samples"))
      refuse("distill.samples", "found `distill.samples` beside `distill.top_k`", "expected one of them");
    if (d_.objective != DistillObjective::forward_kl && good("distill.objective"))
      refuse("distill.objective", "found another objective than forward-kl in mode offline",
             "expected `forward-kl`: a cache does not have what the others need of all tokens",
             "Learn the others with `distill.mode: online`");
  }
  bool good(const std::string& key) const { return reading_.good(key); }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place(key), std::move(found), std::move(expected), std::move(remedy));
  }

  const Reading& reading_;
  const DistillSection& d_;
  Issues& issues_;
};

}  // namespace

void check_distill(const Reading& reading, Issues& issues) {
  DistillChecks(reading, issues).run();
}

}  // namespace fourmi::recipe

// A twin's run: one rank, the recipe's steps, from its seed.
#pragma once

#include <memory>
#include <vector>

#include "framework/recipe/read.h"
#include "framework/train/engine.h"

namespace fourmi {

inline Recipe twin_recipe(const std::string& family) {
  return load_recipe(std::string(FOURMI_SOURCE_DIR) + "/tests/twins/" + family + ".yaml");
}

/// The text of all twins, read once.
inline const std::vector<LoadedSource>& twin_text(const Recipe& r) {
  static const std::vector<LoadedSource> sources = load_sources(r.data.train, "data.train");
  return sources;
}

class TwinRun {
 public:
  explicit TwinRun(const Recipe& recipe)
      : recipe_(recipe),
        loader_(recipe_.data, twin_text(recipe_), recipe_.run.seed, recipe_.model.vocab_size),
        engine_(recipe_, ranks_, stream_),
        position_(loader_.start()) {
    engine_.initialise();
  }
  StepResult step() {
    const StepPlan plan = loader_.plan_step(position_);
    const StepResult result = engine_.step(loader_, plan, ++step_, tokens_, [](Phase, std::int64_t) {});
    tokens_ += static_cast<double>(plan.num_targets);
    position_ = plan.next;
    return result;
  }
  const Loader& loader() const { return loader_; }
  Engine& engine() { return engine_; }
  Group& group() { return *group_; }
  /// Where a run that begins from a checkpoint stands.
  void go_on_from(TwinRun& other) {
    engine_.state_loaded();
    position_ = other.position_, tokens_ = other.tokens_, step_ = other.step_;
  }

 private:
  Recipe recipe_;
  std::unique_ptr<Group> group_ = make_self_group("data");
  RankGroups ranks_{*group_};
  ThreadPool pool_{1};
  Stream stream_{pool_};
  Loader loader_;
  Engine engine_;
  Position position_;
  double tokens_ = 0;
  std::int64_t step_ = 0;
};

}  // namespace fourmi

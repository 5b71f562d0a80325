#include "framework/train/beginning.h"

#include <cmath>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/recipe/compare.h"
#include "framework/recipe/read.h"
#include "framework/run/failures.h"
#include "framework/run/status.h"
#include "framework/train/origin.h"
#include "framework/train/schedule.h"

namespace fourmi {

StartDecision agree_start(Recipe& recipe, Group& group, bool accept_changes, std::unique_ptr<Lease>& lease,
                          std::int64_t& launch, const std::function<void()>& launch_known) {
  StartDecision decision;
  agreed(group, [&] {
    if (group.rank() != 0) return;
    // First what is refused without touching anything, then the lease, then once more under it.
    const StartWish wish{recipe.run.directory, recipe.checkpoint.resume, accept_changes};
    const auto compare_with = [&](const std::filesystem::path& recorded) {
      const Recipe before = load_recipe(recorded);
      keep_horizon(before.schedule, recipe.schedule);
      return compare(before, recipe);
    };
    lease = Lease::acquire(recipe.run.directory);
    decision = decide_start(wish, compare_with);
    refuse_repeated_failure(recipe.run.directory, accept_changes || !decision.changes.empty());
    launch = next_launch(recipe.run.directory);
    launch_known();
    clean_leftovers(real_disk(), std::filesystem::path(recipe.run.directory) / "checkpoints");
  });
  std::int64_t facts[3] = {static_cast<std::int64_t>(decision.kind), launch, recipe.schedule.horizon_steps.value_or(0)};
  group.broadcast(std::as_writable_bytes(std::span(facts)), 0);
  decision.kind = static_cast<StartDecision::Kind>(facts[0]);
  launch = facts[1];
  if (facts[2] > 0) recipe.schedule.horizon_steps = facts[2];
  std::string from = decision.branch_from.string();
  broadcast_text(group, from, 0);
  decision.branch_from = from;
  return decision;
}

std::optional<Checkpoint> choose_checkpoint(const Recipe& recipe, Group& group, const StartDecision& decision,
                                            std::vector<std::string>& messages) {
  if (decision.kind == StartDecision::Kind::go_on) {
    CheckpointChoice own = choose_newest(group, std::filesystem::path(recipe.run.directory) / "checkpoints", true);
    messages.insert(messages.end(), own.messages.begin(), own.messages.end());
    if (own.checkpoint || decision.branch_from.empty()) return own.checkpoint;
  }
  if (decision.branch_from.empty()) return std::nullopt;
  CheckpointChoice other = open_model(group, decision.branch_from);
  messages.insert(messages.end(), other.messages.begin(), other.messages.end());
  return other.checkpoint;
}

void load_state(Engine& engine, const Recipe& recipe, Group& group, const std::optional<Checkpoint>& checkpoint,
                const Loader& loader, bool accept_changes, Beginning& b) {
  if (!checkpoint) {
    engine.initialise();
    b.state.position = loader.start();
    if (!recipe.model.from.empty()) {
      b.origin = open_origin(group, recipe, engine.table(), b.messages);
      take_weights(engine, group, *b.origin);
    }
    return;
  }
  const std::vector<Box> boxes = engine.boxes();
  load_boxes(group, *checkpoint, boxes);
  prove_live_state(group, *checkpoint, boxes);
  engine.state_loaded();
  const CheckpointState& state = checkpoint->manifest.state;
  b.step = state.step;
  b.tokens = state.tokens;
  b.checkpoint = checkpoint->folder;
  agreed(group, [&] {
    b.state = training_state_from_json(state.training, checkpoint->folder / "manifest.json");
    b.state.position = loader.resume(b.state.position, accept_changes);
  });
}

void tell_of_the_dead(const std::filesystem::path& directory, std::int64_t launch, std::vector<std::string>& messages) {
  const std::optional<StatusView> last = read_status(directory);
  if (last && last->state == "running" && last->launches < launch)
    messages.push_back(fmt::format(
        "launch {} ended without a word after step {}, in phase {}, on {} (killed, or the machine went down)",
        last->launches, last->step, last->phase, last->host));
}

}  // namespace fourmi

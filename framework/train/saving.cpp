#include "framework/train/saving.h"

#include "framework/checkpoint/agree.h"
#include "framework/recipe/write.h"
#include "framework/train/non_finite.h"

namespace fourmi {

Saving::Saving(const RunContext& context, Narrator& narrator, Reporting& reporting, StatusFile& status, Lease* lease,
               Engine& engine, Provenance& provenance, std::int64_t saved_step)
    : context_(context),
      narrator_(narrator),
      reporting_(reporting),
      status_(status),
      lease_(lease),
      engine_(engine),
      provenance_(provenance),
      saver_(context.group, context.directory / "checkpoints",
             SaveOptions{.keep_last = context.recipe.checkpoint.keep_last,
                         .keep_every_steps = context.recipe.checkpoint.keep_every_steps,
                         .seal = [&provenance](const Manifest& manifest) { return provenance.seal(manifest); }}),
      saved_step_(saved_step) {}

void Saving::reserve() {
  const CheckpointSection& c = context_.recipe.checkpoint;
  if (c.every_steps <= 0 && c.every_seconds <= 0) return;
  agreed(context_.group, [&] { saver_.reserve(engine_.boxes()); });
}

bool Saving::due(const Progress& progress) {
  const CheckpointSection& c = context_.recipe.checkpoint;
  if (progress.due(c.every_steps)) return true;
  if (c.every_seconds <= 0) return false;
  std::int64_t late = seconds_since(last_save_) >= c.every_seconds;  // rank 0's clock decides for all
  context_.group.broadcast(std::as_writable_bytes(std::span(&late, 1)), 0);
  return late != 0;
}

void Saving::start(const Progress& progress) {
  settle_pending(progress);
  agreed(context_.group, [&] {
    if (!context_.first()) return;
    lease_->check();
    reporting_.sync();  // what is in the logs at a commit is what a resume finds
  });
  CheckpointState state;
  state.step = progress.step;
  state.tokens = progress.tokens;
  state.training = to_json(progress.state);
  state.recipe = to_yaml(context_.recipe);
  state.info = fmt::format("{{\"ranks\":{},\"launch\":{}}}", context_.group.size(), progress.launch);
  const std::vector<Box> boxes = engine_.boxes();
  provenance_.snapshot();
  require_finite(context_.stream, context_.group, boxes, progress.step);
  saver_.start(boxes, state);
  last_save_ = Clock::now();
}

void Saving::poll(const Progress& progress) {
  if (std::optional<SaveOutcome> done = saver_.poll()) settle(*done, progress);
}

void Saving::settle_pending(const Progress& progress) {
  if (saver_.pending()) settle(saver_.finish(), progress);
}

void Saving::finish(const Progress& progress) {
  settle_pending(progress);
  if (saved_step_ == progress.step) return;
  start(progress);
  settle(saver_.finish(), progress);
}

void Saving::settle(const SaveOutcome& outcome, const Progress& progress) {
  for (const std::string& w : outcome.warnings) narrator_.warn(w);
  provenance_.settle(outcome.committed());
  if (outcome.committed()) {
    saved_step_ = outcome.step;
    status_.set_checkpoint(outcome.path.string());
    narrator_.note(fmt::format("checkpoint {} root {} ({} bytes, stall {:.3f} s, write {:.3f} s)",
                               outcome.path.string(), outcome.root, outcome.bytes, outcome.stall_seconds,
                               outcome.write_seconds));
    return;
  }
  const bool bug = outcome.error->status() == ExitStatus::bug;
  if (bug || context_.recipe.checkpoint.stop_on_failure || progress.done()) throw Error(*outcome.error);
  narrator_.warn(
      fmt::format("the checkpoint of step {} was not saved: {}; training goes on, the older checkpoint stays",
                  outcome.step, outcome.error->what()));
}

}  // namespace fourmi

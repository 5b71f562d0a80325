// How a run begins on its directory, agreed on by all ranks: fresh, going on, or branching; and the state that it
// begins with.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/ledger/facts.h"
#include "framework/run/lease.h"
#include "framework/run/start.h"
#include "framework/train/engine.h"
#include "framework/train/training_state.h"

namespace fourmi {

struct Beginning {
  StartDecision decision;
  std::int64_t launch = 1;
  std::int64_t step = 0;    ///< steps that are complete
  std::int64_t tokens = 0;  ///< input positions of those
  TrainingState state;
  std::filesystem::path checkpoint;      ///< what the state came from; empty: a new run's
  std::optional<Checkpoint> origin;      ///< of a new run: what its weights came from (model.from)
  std::optional<RollbackFact> rollback;  ///< the last one to this checkpoint, after which the state goes on
  std::vector<std::string> messages;     ///< to be said loudly: damaged checkpoints, changed keys
};

/// Collective. Takes the lease (rank 0) and decides; throws the contract's errors on all ranks alike. `launch_known` is
/// called on rank 0 as soon as the launch has its number, before the other ranks are heard of. The recipe takes the
/// schedule's horizon of the run that it goes on with.
StartDecision agree_start(Recipe& recipe, Group& group, bool accept_changes, std::unique_ptr<Lease>& lease,
                          std::int64_t& launch, const std::function<void()>& launch_known);

/// Collective. The checkpoint that the decision leads to, proven; nothing for a new run.
std::optional<Checkpoint> choose_checkpoint(const Recipe& recipe, Group& group, const StartDecision& decision,
                                            std::vector<std::string>& messages);

/// Collective. Loads the engine's state and proves it against the checkpoint; or initialises it, with the weights of
/// model.from if the recipe names one.
void load_state(Engine& engine, const Recipe& recipe, Group& group, const std::optional<Checkpoint>& checkpoint,
                const Loader& loader, bool accept_changes, Beginning& beginning);

/// A launch whose ranks were all killed at once could not write how it ended: this one, of number `launch`, says it.
void tell_of_the_dead(const std::filesystem::path& directory, std::int64_t launch, std::vector<std::string>& messages);

}  // namespace fourmi

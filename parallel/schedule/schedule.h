// A pipeline schedule is data: for each rank the list of what it does, in order. Generators make it, one simulator
// gives it times and proves it, one drawing shows it, one executor runs it.
//
// A model is cut into stages along its depth. A rank holds one or more of them as its chunks 0, 1, ... (its own
// numbering). A route says who holds each stage, from the first to the last; a micro-batch goes forward along its route
// and backward against it. All schedules have one route but DualPipe, whose second one runs in the opposite direction
// over copies of the same stages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

enum class Verb : std::uint8_t {
  forward,
  backward,         ///< both halves at once
  backward_input,   ///< the half that the stage before waits for
  backward_weight,  ///< the half that nobody waits for; any time after backward_input
  pair,  ///< the forward of one micro-batch and the whole backward of another, so that one computes while the other
         ///< sends
};

/// One chunk of one rank with one micro-batch.
struct Pass {
  int chunk = 0, micro_batch = 0;
  bool operator==(const Pass&) const = default;
};

struct Action {
  Verb verb = Verb::forward;
  Pass pass;    ///< pair: of the forward
  Pass behind;  ///< pair: of the backward; else unused
  bool operator==(const Action&) const = default;
};

/// Where a stage is held.
struct StagePlace {
  int rank = 0, chunk = 0;
  bool operator==(const StagePlace&) const = default;
};

struct Schedule {
  std::string name;
  int num_ranks = 1, num_chunks = 1, num_micro_batches = 1;  ///< chunks a rank
  std::vector<std::vector<StagePlace>> routes;               ///< [route][stage]
  std::vector<std::vector<Action>> actions;                  ///< [rank], in order

  /// The route of a micro-batch: all on one, or the first half on each of two.
  int route_of(int micro_batch) const {
    return routes.size() == 1 ? 0 : micro_batch / (num_micro_batches / static_cast<int>(routes.size()));
  }
  int num_stages() const { return static_cast<int>(routes.front().size()); }
};

/// What the recipe calls parallel.pipeline_schedule.
std::vector<std::string_view> schedule_names();

/// `chunks` is parallel.virtual_stages: how many stages a rank holds, for `interleaved` (the V shapes and DualPipe hold
/// two, the others one, and take 1 as "as the schedule wants it"). Throws Error(usage) for an unknown name and for
/// sizes that the schedule cannot have, naming the next ones that it can. `paired`: of `interleaved`, whether its
/// forwards and backwards go in pairs, which takes the activations of one stage more a rank; DualPipe's always do, the
/// others' never.
Schedule make_schedule(std::string_view name, int num_ranks, int chunks, int num_micro_batches, bool paired = false);

/// Throws Error(bug) unless each rank's list does, for every micro-batch and each of its chunks on that route, one
/// forward and then one whole backward (at once, or as its two halves in order), and nothing else; the backward of a
/// pair is of a forward before that pair.
void check_complete(const Schedule& schedule);

/// "F 3", "I 1.2" (chunk 1, micro-batch 2), "[F 0.4 B 1.2]": for messages and tests.
std::string to_string(const Action& action, int num_chunks);

}  // namespace fourmi

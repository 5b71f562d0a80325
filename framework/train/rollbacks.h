// rollbacks.jsonl: every return of a run to a checkpoint, and the training state with which it went on from there. A
// launch that loads this checkpoint again (after a kill) goes on with that state too, so the data that was left out
// stays left out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/train/run_context.h"

namespace fourmi {

struct Rollback {
  std::int64_t launch = 0;
  std::int64_t bad_step = 0;  ///< the step that was not good
  std::int64_t step = 0;      ///< the step gone back to, 0: the beginning
  std::string root;           ///< of its checkpoint; empty: the beginning, without one
  std::string why;
  std::string state;  ///< the training state after it, JSON
};

class Rollbacks {
 public:
  /// Collective. Throws Error(input) if the file is damaged.
  explicit Rollbacks(const RunContext& context);

  std::int64_t count() const { return std::ssize(all_); }
  /// Of the last rollback to this checkpoint (root digest; empty: the beginning); null if there was none.
  const Rollback* last_to(const std::string& root) const;
  /// Collective. Written, for good, before it returns.
  void add(Rollback rollback);

 private:
  const RunContext& context_;
  std::vector<Rollback> all_;
};

}  // namespace fourmi

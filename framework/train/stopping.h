// Whether a run is to stop before its target, agreed on by all ranks at each step's end: a signal, run.time,
// the budget.
#pragma once

#include <string>

#include "framework/train/run_context.h"
#include "kernels/runtime/error.h"

namespace fourmi {

class Stopping {
 public:
  explicit Stopping(const RunContext& context) : context_(context) {}

  struct Wish {
    ExitStatus status = ExitStatus::ok;  ///< ok: go on
    std::string why;                     ///< "SIGUSR1", "run.time", "budget.cost: ..."
    explicit operator bool() const { return status != ExitStatus::ok; }
  };
  /// Collective: is the budget spent?
  Wish budget() const;
  /// Collective: the strongest wish of any rank, equal on all.
  Wish agreed(const Progress& progress) const;

 private:
  std::string why_spent() const;
  const RunContext& context_;
  Clock::time_point launched_ = Clock::now();
};

}  // namespace fourmi

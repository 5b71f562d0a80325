// What `fourmi gpu-check` is made of: parts, each done by child processes within a time, so that the check itself
// cannot hang.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/gpu_check/child.h"

namespace fourmi::gpu_check {

using nlohmann::ordered_json;

enum class Verdict {
  passed,
  failed,
  hung,
  absent,  ///< a program or tool that it needs is not on this machine
  no_time  ///< its turn came too late
};
std::string_view name_of(Verdict verdict);

struct Outcome {
  Verdict verdict = Verdict::failed;
  std::string text;  ///< one line for the table
  ordered_json figures = ordered_json::object();
};

/// What a part has: a time, and a way to run programs that keeps to it.
class Job {
 public:
  explicit Job(double deadline) : deadline_(deadline) {}
  /// Seconds until the part's end.
  double left() const;
  /// Within what is left, if that is less.
  ChildEnd run(const std::vector<std::string>& words, ChildLimits limits) const;

 private:
  double deadline_;  // of the steady clock
};

struct Part {
  std::string name, what;
  double limit = 60;                           ///< seconds
  std::function<Outcome(const Job& job)> how;  ///< on the host alone: whatever may hang is a child's
};

struct Row {
  std::string name;
  Outcome outcome;
  double seconds = 0;
};

/// Throws Error(usage) for a name that is no part's.
void require_names(const std::vector<Part>& parts, const std::vector<std::string>& only);

/// Runs the parts in turn; ends within `seconds` whatever they do. `only`: names of parts; empty: all.
/// `told` hears of each as it ends.
std::vector<Row> run_parts(const std::vector<Part>& parts, double seconds, const std::vector<std::string>& only,
                           const std::function<void(const Row&)>& told);

/// Did all that ran end well, and did all run that were asked for?
bool all_fine(const std::vector<Row>& rows);
std::string row_text(const Row& row);
ordered_json rows_json(const std::vector<Row>& rows);

}  // namespace fourmi::gpu_check

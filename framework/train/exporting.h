// The run's own exports (section `export`): which of its checkpoints are to be folders of Hugging Face's, and are not
// yet. What is exported is a committed checkpoint, proven again, never the live state; so a launch after any end finds
// what is missing by looking, and a failed export costs the run nothing but its exit status.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/train/narrator.h"
#include "framework/train/run_context.h"

namespace fourmi {

class Exporting {
 public:
  Exporting(const RunContext& context, Narrator& narrator) : context_(context), narrator_(narrator) {}

  /// Collective, before the first step. Throws Error(usage) where something lies that is no export of this run; says
  /// so where there is too little room.
  void begin();
  /// Has a checkpoint been committed since the last after_save()? At first yes. `saved_step`: the newest one's.
  bool is_due(std::int64_t saved_step) const { return wants(ExportWhen::checkpoints) && saved_step != seen_; }
  /// Collective. With `when: checkpoints`: every kept checkpoint that has no export gets one. A failure is warned of,
  /// and tried again next time, unless checkpoint.on_failure is stop.
  void after_save(std::int64_t saved_step);
  /// Collective, when the target is reached; `newest`: the last state's checkpoint. Throws what failed, with what is
  /// safe and how to go on.
  void finish(const std::filesystem::path& newest);

 private:
  bool wants(ExportWhen when) const { return context_.recipe.export_.when == when; }
  std::filesystem::path folder_of(std::int64_t step) const;
  void make_missing();
  void make(const std::filesystem::path& checkpoint, const std::filesystem::path& to);

  const RunContext& context_;
  Narrator& narrator_;
  std::int64_t seen_ = -1;
};

/// A folder that is to take so many bytes, for what.
struct RoomNeeded {
  std::filesystem::path folder;
  double bytes = 0;
  std::string what;
};
/// What file systems have too little room for, as sentences; folders of one file system are added up.
std::vector<std::string> lacking_room(const std::vector<RoomNeeded>& needs);

/// Bytes that the exports of a whole run of `steps` take together; unknown steps, or checkpoints by the clock: of one.
double export_bytes_of_run(const Recipe& recipe, std::optional<std::int64_t> steps);

}  // namespace fourmi

#include "framework/run/start.h"

#include <algorithm>
#include <iterator>

#include "framework/run/files.h"
#include "framework/run/step_log.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace fs = std::filesystem;
using Kind = StartDecision::Kind;

namespace {

constexpr const char* recipe_name = "recipe.yaml";

/// Recorded keys against the new ones. A recorded recipe that cannot be read is a damaged input, not a wrong recipe of
/// the user's.
std::vector<ChangedKey> compare_with(const fs::path& recorded, const CompareWithRecorded& compare) {
  try {
    return compare(recorded);
  } catch (const Error& error) {
    if (error.status() != ExitStatus::usage) throw;
    throw Error(ExitStatus::input, recorded.string(),
                fmt::format("the recorded recipe cannot be read ({}), expected what a launch wrote", error.what()),
                "Take it from the newest file of launches/, or use another run.directory");
  }
}

/// Throws if any change is of this class.
void refuse(const std::vector<ChangedKey>& changes, recipe::KeyClass key_class, const fs::path& recorded,
            const std::string& remedy) {
  std::vector<ChangedKey> refused;
  std::copy_if(changes.begin(), changes.end(), std::back_inserter(refused),
               [&](const ChangedKey& change) { return change.key_class == key_class; });
  if (refused.empty()) return;
  const char* kind = key_class == recipe::KeyClass::fixed ? "fixed" : "asked";
  if (refused.size() == 1) {
    throw Error(ExitStatus::usage, refused[0].key,
                fmt::format("found {}, expected {} as in {} (a key of class {})", refused[0].after, refused[0].before,
                            recorded.string(), kind),
                remedy);
  }
  constexpr std::size_t most = 8;
  std::string list;
  for (std::size_t i = 0; i < std::min(refused.size(), most); ++i) {
    list += (i == 0 ? "" : "; ") + to_string(refused[i]);
  }
  if (refused.size() > most) list += fmt::format("; and {} more", refused.size() - most);
  throw Error(ExitStatus::usage, "recipe",
              fmt::format("found {} changed keys of class {} ({}), expected the values of {}", refused.size(), kind,
                          list, recorded.string()),
              remedy);
}

bool same_place(const fs::path& a, const fs::path& b) {
  std::error_code error;
  const fs::path left = fs::weakly_canonical(a, error), right = fs::weakly_canonical(b, error);
  return !a.empty() && !b.empty() && left == right;
}

bool holds_checkpoints(const fs::path& directory) {
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(directory / "checkpoints", absent)) {
    if (entry.path().filename().string().starts_with("step-")) return true;
  }
  return false;
}

StartDecision branch(const StartWish& wish, const CompareWithRecorded& compare) {
  StartDecision decision{Kind::branch, wish.resume, {}};
  if (!fs::exists(decision.branch_from)) {
    throw Error(ExitStatus::input, "checkpoint.resume",
                fmt::format("found no {}, expected a checkpoint there", wish.resume),
                "Name a folder <run.directory>/checkpoints/step-...");
  }
  const fs::path run = run_of(decision.branch_from);
  if (run.empty()) return decision;
  decision.changes = compare_with(run / recipe_name, compare);
  refuse(decision.changes, recipe::KeyClass::fixed, run / recipe_name,
         "What was learned means something else under another value: keep the old one, or start a run without "
         "checkpoint.resume");
  return decision;
}

StartDecision go_on(const StartWish& wish, const CompareWithRecorded& compare) {
  const std::string directory = wish.directory.string();
  StartDecision decision{Kind::go_on, branched_from(wish.directory), {}};
  if (wish.resume == "never") {
    throw Error(ExitStatus::usage, "checkpoint.resume",
                fmt::format("found never and a run in {}, expected a directory without a run", directory),
                "Use another run.directory, or checkpoint.resume: auto to go on");
  }
  if (wish.resume != "auto" && !same_place(wish.resume, decision.branch_from)) {
    throw Error(ExitStatus::usage, "checkpoint.resume",
                fmt::format("found {} and a run in {} that did not begin there, expected a directory without a run",
                            wish.resume, directory),
                "Use another run.directory to branch, or checkpoint.resume: auto to go on");
  }
  const fs::path recorded = wish.directory / recipe_name;
  decision.changes = compare_with(recorded, compare);
  refuse(decision.changes, recipe::KeyClass::fixed, recorded,
         "It can never change during a run: keep the old value, or use another run.directory");
  if (!wish.accept_changes) {
    refuse(decision.changes, recipe::KeyClass::asked, recorded,
           "Add --accept-changes to go on with the new value, or use another run.directory");
  }
  return decision;
}

}  // namespace

std::string to_string(const ChangedKey& change) {
  return fmt::format("{}: {} -> {}", change.key, change.before, change.after);
}

StartDecision decide_start(const StartWish& wish, const CompareWithRecorded& compare) {
  if (holds_run(wish.directory)) return go_on(wish, compare);
  if (holds_checkpoints(wish.directory)) {
    throw Error(ExitStatus::input, wish.directory.string(),
                "found checkpoints without recipe.yaml, expected both or none",
                "Take recipe.yaml from the newest file of launches/, or use another run.directory");
  }
  if (wish.resume != "auto" && wish.resume != "never") return branch(wish, compare);
  return {};
}

void record_start(const fs::path& directory, const StartDecision& decision, LaunchRecord record) {
  files::make_folder(directory);
  if (decision.kind == Kind::branch) {
    const fs::path run = run_of(decision.branch_from);
    for (const char* log : {"metrics", "evaluations", "expert_load", "precision"}) {
      if (!run.empty()) copy_steps(run, directory, log, record.step);
    }
  }
  record.started_as = decision.kind == Kind::fresh ? "fresh" : decision.kind == Kind::go_on ? "go on" : "branch";
  record.branched_from = decision.branch_from.empty() ? "" : fs::absolute(decision.branch_from).string();
  record.changes.clear();
  for (const ChangedKey& change : decision.changes) record.changes.push_back(to_string(change));
  write_launch(directory, record);
  files::replace(directory / recipe_name, record.recipe);
}

bool holds_run(const fs::path& directory) {
  return fs::exists(directory / recipe_name);
}

fs::path run_of(const fs::path& checkpoint_or_run) {
  if (holds_run(checkpoint_or_run)) return checkpoint_or_run;
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(checkpoint_or_run, error);
  if (!error && whole.parent_path().filename() == "checkpoints" && holds_run(whole.parent_path().parent_path())) {
    return whole.parent_path().parent_path();
  }
  return {};
}

}  // namespace fourmi

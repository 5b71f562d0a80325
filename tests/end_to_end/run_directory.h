// What a run left in its directory, as a user's script would read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace fourmi::testing {

/// One line of metrics.jsonl.
struct StepLine {
  std::int64_t step = 0, launch = 0, tokens = 0;
  std::string loss_bits, grad_norm_bits;
  double learning_rate = 0;

  /// What is promised to be equal after a resume.
  friend bool same_bits(const StepLine& a, const StepLine& b) {
    return a.step == b.step && a.tokens == b.tokens && a.loss_bits == b.loss_bits &&
           a.grad_norm_bits == b.grad_norm_bits;
  }
};

/// Lines of `<run>/<name>.jsonl`; a line that is no JSON object with these keys is an exception, a file that is absent
/// has none.
std::vector<StepLine> step_lines(const std::filesystem::path& run, const std::string& name = "metrics");

struct Status {
  std::string state, host, cause, place, remedy, phase, checkpoint;
  std::optional<int> exit_status, rank;
  std::int64_t step = -1, launches = 0;
};
/// Throws if status.json is absent or lacks a key of the contract.
Status status_of(const std::filesystem::path& run);

/// Names in `<run>/checkpoints`, sorted, `latest` aside.
std::vector<std::string> checkpoint_names(const std::filesystem::path& run);
std::filesystem::path newest_checkpoint(const std::filesystem::path& run);
/// Root digest of a checkpoint, from its manifest.
std::string root_of(const std::filesystem::path& checkpoint);

/// Is metrics.jsonl steps 1 to `last`, each once, in order?
void expect_each_step_once(const std::filesystem::path& run, std::int64_t last);
/// The same losses, gradient norms and newest checkpoint's root, to the bit.
void expect_same_run(const std::filesystem::path& run, const std::filesystem::path& reference);

}  // namespace fourmi::testing

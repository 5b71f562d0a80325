#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "kernels/runtime/error.h"
#include "launch/gpu_check/part.h"

namespace fourmi::gpu_check {

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A part is not begun with less: starting a program and CUDA takes that long.
constexpr double least_time = 2;

}  // namespace

std::string_view name_of(Verdict verdict) {
  constexpr std::string_view names[] = {"passed", "FAILED", "HUNG", "not there", "not run (time)"};
  return names[static_cast<std::size_t>(verdict)];
}

void require_names(const std::vector<Part>& parts, const std::vector<std::string>& only) {
  std::string names;
  for (const Part& part : parts) names += (names.empty() ? "" : ", ") + part.name;
  for (const std::string& name : only)
    if (std::none_of(parts.begin(), parts.end(), [&](const Part& p) { return p.name == name; }))
      throw Error(ExitStatus::usage, "--only", fmt::format("found {}, expected some of {}", name, names));
}

double Job::left() const {
  return std::max(0.0, deadline_ - now());
}

ChildEnd Job::run(const std::vector<std::string>& words, ChildLimits limits) const {
  limits.seconds = std::min(limits.seconds, left());
  return run_child(words, limits);
}

std::vector<Row> run_parts(const std::vector<Part>& parts, double seconds, const std::vector<std::string>& only,
                           const std::function<void(const Row&)>& told) {
  // What is kept back: the last child's death, and printing.
  const double end = now() + seconds - std::min(10.0, 0.1 * seconds);
  std::vector<Row> rows;
  for (const Part& part : parts) {
    if (!only.empty() && std::find(only.begin(), only.end(), part.name) == only.end()) continue;
    Row row{part.name, {}, 0};
    const double begin = now();
    if (end - begin < std::min(least_time, 0.1 * seconds)) {
      row.outcome = {Verdict::no_time, "", {}};
    } else {
      try {
        row.outcome = part.how(Job(std::min(end, begin + part.limit)));
      } catch (const std::exception& error) {
        row.outcome = {Verdict::failed, error.what(), {}};
      }
    }
    row.seconds = now() - begin;
    told(row);
    rows.push_back(std::move(row));
  }
  return rows;
}

bool all_fine(const std::vector<Row>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](const Row& r) {
    return r.outcome.verdict == Verdict::passed || r.outcome.verdict == Verdict::absent;
  });
}

std::string row_text(const Row& row) {
  std::string text = fmt::format("{:<10} {:<14} {:>6.1f} s  {}", row.name, name_of(row.outcome.verdict), row.seconds,
                                 row.outcome.text);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

ordered_json rows_json(const std::vector<Row>& rows) {
  ordered_json list = ordered_json::array();
  for (const Row& r : rows)
    list.push_back({{"name", r.name},
                    {"verdict", name_of(r.outcome.verdict)},
                    {"seconds", r.seconds},
                    {"text", r.outcome.text},
                    {"figures", r.outcome.figures}});
  return list;
}

}  // namespace fourmi::gpu_check

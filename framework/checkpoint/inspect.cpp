#include "framework/checkpoint/inspect.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"

namespace fourmi {

using nlohmann::ordered_json;

namespace {

CheckpointReport inspect_one(const std::filesystem::path& folder, Proof proof) {
  CheckpointReport report{folder, {}, {}, {}, 0};
  const auto begin = std::chrono::steady_clock::now();
  try {
    const Manifest m = read_manifest(real_disk(), folder);
    if (proof == Proof::full)
      for (std::size_t f = 0; f < m.files.size(); ++f) {
        prove_file(real_disk(), folder, m, f);
        prove_contents(real_disk(), folder, m, f);
      }
    report.extra = extra_entries(folder, m);
    report.manifest = m;
  } catch (const DamageError& e) {
    report.problem = e;
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

std::string size_text(std::int64_t bytes) {
  constexpr const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(units)) value /= 1000, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.3g} {}", value, units[unit]);
}

ordered_json summary(const CheckpointReport& r) {
  ordered_json j = {{"path", r.folder.string()}, {"ok", r.good()}};
  if (r.problem) j["problem"] = r.problem->what();
  if (!r.manifest) return j;
  const Manifest& m = *r.manifest;
  j["step"] = m.state.step;
  j["tokens"] = m.state.tokens;
  j["root"] = m.root;
  j["tensors"] = m.tensors.size();
  j["ranks"] = m.files.size();
  j["bytes"] = m.bytes();
  j["extra_entries"] = r.extra;
  return j;
}

std::string one_line(const CheckpointReport& r, std::size_t width) {
  const std::string name = r.folder.filename().string();
  if (!r.manifest) return fmt::format("{:<{}}  DAMAGED: {}\n", name, width, r.problem->what());
  const Manifest& m = *r.manifest;
  return fmt::format("{:<{}}  {:>14}  {:>7}  {:>5}  {:>8}  {}\n", name, width, m.state.tokens, m.tensors.size(),
                     m.files.size(), size_text(m.bytes()), m.root);
}

std::size_t name_width(const std::vector<CheckpointReport>& reports) {
  std::size_t width = 10;
  for (const CheckpointReport& r : reports) width = std::max(width, r.folder.filename().string().size());
  return width;
}

}  // namespace

std::vector<CheckpointReport> inspect(const std::filesystem::path& model, Proof proof) {
  const ModelPath found = find_model(model);
  std::vector<CheckpointReport> reports;
  if (found.single)
    reports.push_back(inspect_one(found.folder, proof));
  else
    for (std::int64_t step : list_steps(found.folder))
      reports.push_back(inspect_one(found.folder / step_name(step), proof));
  return reports;
}

std::string list_text(const std::vector<CheckpointReport>& reports) {
  const std::size_t width = name_width(reports);
  std::string text = fmt::format("{:<{}}  {:>14}  {:>7}  {:>5}  {:>8}  {}\n", "checkpoint", width, "tokens", "tensors",
                                 "ranks", "size", "root digest");
  for (const CheckpointReport& r : reports) text += one_line(r, width);
  return text;
}

std::string verify_text(const std::vector<CheckpointReport>& reports) {
  const std::size_t width = name_width(reports);
  std::string text;
  for (const CheckpointReport& r : reports) {
    if (!r.good()) {
      text += one_line(r, width);
      continue;
    }
    const auto rate = static_cast<std::int64_t>(static_cast<double>(r.manifest->bytes()) / r.seconds);
    text += fmt::format("{:<{}}  proven: {} tensors, {} files, {}, root {} ({:.2g} s, {}/s)\n",
                        r.folder.filename().string(), width, r.manifest->tensors.size(), r.manifest->files.size(),
                        size_text(r.manifest->bytes()), r.manifest->root, r.seconds, size_text(rate));
    for (const std::string& e : r.extra) text += fmt::format("{:<{}}  not part of it: {}\n", "", width, e);
  }
  return text;
}

std::string list_json(const std::vector<CheckpointReport>& reports, Proof proof) {
  ordered_json list = ordered_json::array();
  for (const CheckpointReport& r : reports) list.push_back(summary(r));
  const bool good = std::all_of(reports.begin(), reports.end(), [](const auto& r) { return r.good(); });
  const ordered_json j = {{"ok", good}, {"proof", proof == Proof::full ? "full" : "listing"}, {"checkpoints", list}};
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string show_text(const CheckpointReport& r, const std::string& remarks) {
  const Manifest& m = *r.manifest;
  std::string text = fmt::format("{}\nstep {}, {} tokens, {} in {} files\nroot {}\ntraining state {}\ninfo {}\n{}\n",
                                 r.folder.string(), m.state.step, m.state.tokens, size_text(m.bytes()), m.files.size(),
                                 m.root, m.state.training, m.state.info, remarks);
  std::size_t width = 6;
  for (const TensorEntry& t : m.tensors) width = std::max(width, t.name.size());
  text += fmt::format("{:<{}}  {:<5}  {:>8}  {:>5}  shape\n", "tensor", width, "dtype", "size", "boxes");
  for (const TensorEntry& t : m.tensors) {
    text += fmt::format("{:<{}}  {:<5}  {:>8}  {:>5}  {}\n", t.name, width, name_of(t.dtype),
                        size_text(*checked_bytes(t.shape, t.dtype)), t.boxes.size(), to_string(t.shape));
    if (!t.alias.empty()) text += fmt::format("  also {}\n", t.alias);
  }
  return text;
}

std::string show_json(const CheckpointReport& r) {
  const Manifest& m = *r.manifest;
  ordered_json j = summary(r);
  j["training"] = ordered_json::parse(m.state.training);
  j["info"] = ordered_json::parse(m.state.info);
  j["recipe"] = m.state.recipe;
  j["files"] = ordered_json::array();
  for (const FileEntry& f : m.files) j["files"].push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  j["tensors"] = ordered_json::array();
  for (const TensorEntry& t : m.tensors) {
    const std::vector<std::int64_t> shape(t.shape.dims.begin(), t.shape.dims.begin() + t.shape.rank);
    j["tensors"].push_back({{"name", t.name},
                            {"alias", t.alias},
                            {"dtype", name_of(t.dtype)},
                            {"shape", shape},
                            {"boxes", t.boxes.size()}});
  }
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace fourmi

#include "framework/interop/export_mark.h"

#include <nlohmann/json.hpp>

#include "framework/checkpoint/disk.h"
#include "framework/digest/sha256.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

std::string run_identity(const fs::path& run_directory) {
  return sha256(fs::weakly_canonical(run_directory).lexically_normal().string());
}

std::string to_json(const ExportMark& mark) {
  nlohmann::ordered_json j;
  j["run"] = mark.run;
  j["step"] = mark.step;
  j["tokens"] = mark.tokens;
  j["root"] = mark.root;
  j["dtype"] = mark.dtype;
  j["ledger_head"] = mark.ledger_head;
  return j.dump(2) + "\n";
}

Found look_for_export(const fs::path& at, const ExportMark& wanted) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(at, ignored))) return Found::nothing;
  if (!fs::is_directory(at, ignored)) return Found::other;
  if (fs::is_empty(at, ignored)) return Found::nothing;
  if (!fs::is_regular_file(at / mark_name, ignored)) return Found::other;
  const json j = json::parse(read_text(real_disk(), at / mark_name, 1 << 20), nullptr, false);
  if (!j.is_object() || wanted.run.empty() || j.value("run", json()) != wanted.run) return Found::other;
  return j.value("root", json()) == wanted.root && j.value("dtype", json()) == wanted.dtype ? Found::same
                                                                                            : Found::earlier;
}

void refuse_others(const fs::path& at, const ExportMark& wanted, bool replace_own) {
  const Found found = look_for_export(at, wanted);
  if (found == Found::other || (found != Found::nothing && !replace_own))
    throw Error(ExitStatus::usage, at.string(), "found something there, expected a folder that is not there yet",
                "Name another, or remove it");
}

}  // namespace fourmi::interop

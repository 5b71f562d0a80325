#include "framework/interop/export_ledger.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/digest/file_digest.h"
#include "framework/interop/export_mark.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

/// Ledger and mark, and signatures of its head, which are made after it.
bool is_own(const std::string& name) {
  return name == export_ledger_name || name == mark_name ||
         (name.starts_with("fourmi_ledger.") && name.ends_with(".sig"));
}

/// Exports have no folders in them; one that somebody put there is a name too.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  for (fs::directory_iterator at(folder, failure), end; !failure && at != end; at.increment(failure))
    names.push_back(at->path().filename().string());
  if (failure)
    throw Error(ExitStatus::input, folder.string(),
                fmt::format("reading the folder failed: {}, expected its files", failure.message()));
  std::erase_if(names, is_own);
  std::sort(names.begin(), names.end());
  return names;
}

KnownLineage unrecorded(const Checkpoint& checkpoint, std::string problem) {
  const CheckpointState& state = checkpoint.manifest.state;
  KnownLineage known;
  known.problem = std::move(problem);
  const std::string now = utc_now();
  known.entries.push_back(make_entry(nullptr, UnrecordedFact::type,
                                     to_payload(UnrecordedFact{state.step, state.tokens, known.problem}), now));
  known.entries.push_back(make_entry(&known.entries.back(), CheckpointFact::type,
                                     to_payload(CheckpointFact{state.step, state.tokens, checkpoint.manifest.root}),
                                     now));
  return known;
}

}  // namespace

KnownLineage lineage_of(const Checkpoint& checkpoint, const fs::path& run) {
  const std::string& head = checkpoint.manifest.state.ledger_head;
  if (head.empty() || run.empty()) return unrecorded(checkpoint, "the checkpoint has no ledger");
  const std::string place = "ledger.jsonl";
  try {
    const LedgerFile ledger = read_ledger(run / place);
    KnownLineage known;
    known.trace = trace(ledger, head, place);
    if (known.trace.checkpoint.root != checkpoint.manifest.root)
      return unrecorded(checkpoint, "the ledger tells of another checkpoint");
    for (const LedgerEntry* e : ledger.lineage(head, place)) known.entries.push_back(*e);
    return known;
  } catch (const Error&) {
    return unrecorded(checkpoint, "the ledger could not be read");
  }
}

std::vector<DataFile> files_in(const fs::path& folder, const std::vector<DataFile>& known) {
  std::vector<DataFile> files;
  for (const std::string& name : names_in(folder)) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const DataFile& f) { return f.path == name; });
    if (found != known.end()) {
      files.push_back(*found);
      continue;
    }
    const FileDigest digest = digest_file(folder / name);
    files.push_back({name, digest.bytes, digest.sha256});
  }
  return files;
}

std::string export_ledger_text(const KnownLineage& lineage, const ExportFact& fact, std::string& head) {
  std::string text;
  for (const LedgerEntry& e : lineage.entries) text += to_line(e) + "\n";
  const LedgerEntry entry = make_entry(&lineage.entries.back(), ExportFact::type, to_payload(fact), utc_now());
  head = entry.sha256;
  return text + to_line(entry) + "\n";
}

bool has_export_ledger(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) && fs::exists(folder / export_ledger_name, ignored);
}

ExportedLedger read_export_ledger(const fs::path& folder) {
  const fs::path path = folder / export_ledger_name, mark = folder / mark_name;
  const char* remedy = "Export it again, or take the folder from where it came";
  const auto fail = [&](const fs::path& place, const std::string& found) {
    throw Error(ExitStatus::input, place.string(), found, remedy);
  };
  std::error_code ignored;
  if (!fs::is_regular_file(mark, ignored)) fail(mark, "found no such file, expected it beside " + path.string());
  const std::string text = read_text(real_disk(), mark, 1 << 20);
  const nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
  ExportedLedger e;
  e.folder = folder;
  if (j.is_object() && j.contains("ledger_head") && j["ledger_head"].is_string())
    e.head = j["ledger_head"].get<std::string>();
  if (!is_sha256(e.head)) fail(mark, "found no `ledger_head`, expected the ledger's entry of this export");
  e.ledger = read_ledger(path);
  e.trace = trace(e.ledger, e.head, path.string());
  if (!e.ledger.damage().empty())
    fail(fmt::format("{}:{}", path.string(), e.ledger.damage().front().line), e.ledger.damage().front().what);
  const LedgerEntry& last = e.ledger.entries().back();
  if (last.sha256 != e.head || e.ledger.torn_bytes() > 0 || e.ledger.needs_line_break())
    fail(path, fmt::format("found more after {}, or less, expected that as the last line", short_digest(e.head)));
  if (std::ssize(e.ledger.entries()) != last.index + 1)
    fail(path, fmt::format("found {} entries, expected only the {} that led to the export", e.ledger.entries().size(),
                           last.index + 1));
  if (last.type != ExportFact::type) fail(path, fmt::format("{} is the head, expected an export", name_of(last)));
  e.fact = export_fact(last, path.string());
  const ExportMark expected{.run = e.fact.run,
                            .root = e.fact.root,
                            .dtype = e.fact.dtype,
                            .step = e.fact.step,
                            .tokens = e.fact.tokens,
                            .ledger_head = e.head};
  if (text != to_json(expected))
    fail(mark, fmt::format("found other words than {} says, expected just those", name_of(last)));
  return e;
}

void prove_files(const fs::path& folder, const std::vector<DataFile>& files) {
  for (const DataFile& f : files) {
    const FileDigest now = digest_file(folder / f.path);
    if (now.sha256 != f.sha256 || now.bytes != f.bytes)
      throw Error(ExitStatus::input, (folder / f.path).string(),
                  fmt::format("found {} bytes with SHA-256 {}, expected {} with {} as it was exported", now.bytes,
                              now.sha256, f.bytes, f.sha256),
                  "Export it again, or take the file from where it came");
  }
}

std::vector<std::string> others_in(const ExportedLedger& exported) {
  std::vector<std::string> names = names_in(exported.folder);
  std::erase_if(names, [&](const std::string& name) {
    return std::any_of(exported.fact.files.begin(), exported.fact.files.end(),
                       [&](const DataFile& f) { return f.path == name; });
  });
  return names;
}

}  // namespace fourmi::interop

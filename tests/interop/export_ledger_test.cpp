// An exported folder tells where it comes from and proves itself wherever it lies; what is imported from it goes on
// from there.
#include "framework/interop/export_ledger.h"

#include <gtest/gtest.h>

#include "framework/checkpoint/reader.h"
#include "framework/interop/export.h"
#include "framework/interop/export_mark.h"
#include "framework/interop/import.h"
#include "framework/ledger/lineage.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

void put(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

ExportReport export_from(const fs::path& run, const fs::path& to, const ExportOptions& options = {}) {
  const auto group = make_self_group("export");
  return export_model(*group, run, to, options);
}
ImportReport import_from(const fs::path& from, const fs::path& to) {
  const auto group = make_self_group("import");
  return import_model(*group, from, to);
}

/// What proving the whole folder says; empty: nothing is wrong.
std::string problem(const fs::path& folder) {
  try {
    const ExportedLedger e = read_export_ledger(folder);
    prove_files(folder, e.fact.files);
    return others_in(e).empty() ? "" : "others";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::input) << error.what();
    return error.what();
  }
}

TEST(ExportLedger, TellsTheLineageAndEveryFile) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  export_from(f.path / "run", f.path / "out", {.type = ExportType::bf16, .file_bytes = 20000});
  fs::rename(f.path / "out", f.path / "moved");
  fs::remove_all(f.path / "run");
  EXPECT_EQ(problem(f.path / "moved"), "");
  const ExportedLedger e = read_export_ledger(f.path / "moved");
  EXPECT_EQ(e.fact.name, "out");
  EXPECT_EQ(e.fact.dtype, "bf16");
  EXPECT_EQ(e.fact.root, e.trace.checkpoint.root);
  EXPECT_EQ(e.trace.imports.size(), 1u);
  std::set<std::string> told, there;
  for (const DataFile& file : e.fact.files) told.insert(file.path);
  for (const auto& entry : fs::directory_iterator(f.path / "moved")) there.insert(entry.path().filename().string());
  told.insert({export_ledger_name, mark_name});
  EXPECT_EQ(told, there);
  EXPECT_GT(told.size(), 6u);
  put(f.path / "moved/extra.txt", "more");
  EXPECT_EQ(problem(f.path / "moved"), "others");
}

TEST(ExportLedger, AnyChangedByteIsFoundAndItsFileNamed) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  export_from(f.path / "run", f.path / "out");
  std::size_t tried = 0;
  for (const auto& entry : fs::directory_iterator(f.path / "out")) {
    const std::string good = content(entry.path());
    // Every byte of what is small and decides what is believed; of the others one in so many.
    const bool all = entry.path().filename() == mark_name || entry.path().filename() == export_ledger_name;
    const std::size_t every = all ? 1 : good.size() / 40 + 1;
    for (std::size_t i = 0; i < good.size(); i += every, ++tried) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
      put(entry.path(), bad);
      const std::string said = problem(f.path / "out");
      ASSERT_NE(said, "") << entry.path() << " byte " << i;
      if (!all) {
        ASSERT_NE(said.find(entry.path().filename().string()), std::string::npos) << said;
      }
    }
    put(entry.path(), good);
    ASSERT_EQ(problem(f.path / "out"), "");
    fs::rename(entry.path(), f.path / "aside");
    EXPECT_NE(problem(f.path / "out"), "") << "without " << entry.path();
    fs::rename(f.path / "aside", entry.path());
  }
  EXPECT_GT(tried, 2000u);
}

TEST(ExportLedger, MoreOrLessThanTheLineageIsFound) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  export_from(f.path / "run", f.path / "out");
  const fs::path path = f.path / "out" / export_ledger_name;
  const std::string good = content(path);
  const ExportedLedger e = read_export_ledger(f.path / "out");
  const LedgerEntry more = make_entry(&e.ledger.entries().back(), "note", "{}", utc_now());
  const LedgerEntry beside = make_entry(&e.ledger.entries().front(), "note", "{}", utc_now());
  put(path, good + to_line(more) + "\n");
  EXPECT_NE(problem(f.path / "out").find("found more"), std::string::npos);
  put(path, to_line(e.ledger.entries().front()) + "\n" + to_line(beside) + "\n" + good.substr(good.find('\n') + 1));
  EXPECT_NE(problem(f.path / "out"), "");
  put(path, good.substr(0, good.size() - 1));
  EXPECT_NE(problem(f.path / "out"), "");
  put(path, good + "{\"ind");
  EXPECT_NE(problem(f.path / "out"), "");
}

TEST(ExportLedger, AnImportOfItKeepsTheLineage) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  export_from(f.path / "run", f.path / "out", {.type = ExportType::fp32});
  const ImportReport again = import_from(f.path / "out", f.path / "again");
  for (const std::string& warning : again.warnings)
    EXPECT_EQ(warning.find("changed since"), std::string::npos) << warning;
  const CheckpointReader reader(f.path / "again");
  const Trace t = trace(read_ledger(f.path / "again/ledger.jsonl"), reader.manifest().state.ledger_head, "ledger");
  EXPECT_EQ(t.checkpoint.root, reader.manifest().root);
  ASSERT_EQ(t.exports.size(), 1u);
  EXPECT_EQ(t.exports[0].name, "out");
  ASSERT_EQ(t.imports.size(), 1u);  // of the first import alone
  EXPECT_EQ(t.imports[0].path, (golden_folder() / "llama").string());
  EXPECT_EQ(t.runs.size(), 2u);
  // And out again.
  export_from(f.path / "again", f.path / "third", {.type = ExportType::fp32});
  EXPECT_EQ(read_export_ledger(f.path / "third").trace.exports.size(), 2u);
  EXPECT_EQ(content(f.path / "third/model.safetensors"), content(f.path / "out/model.safetensors"));
}

TEST(ExportLedger, OtherWeightsAreNotImportedUnderItsLineage) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  export_from(f.path / "run", f.path / "out");
  const fs::path weights = f.path / "out/model.safetensors";
  std::string text = content(weights);
  text.back() ^= 1;
  put(weights, text);
  const auto refusal = [&](const std::string& to) {
    try {
      import_from(f.path / "out", f.path / to);
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      return std::string(e.what());
    }
    return std::string();
  };
  const std::string said = refusal("again");
  EXPECT_NE(said.find("model.safetensors"), std::string::npos) << said;
  EXPECT_NE(said.find(export_ledger_name), std::string::npos) << said;
  EXPECT_FALSE(fs::exists(f.path / "again/checkpoints"));
  // Without the ledger it is another program's model.
  fs::remove(f.path / "out" / export_ledger_name);
  EXPECT_EQ(refusal("again"), "");
  const CheckpointReader reader(f.path / "again");
  const Trace t = trace(read_ledger(f.path / "again/ledger.jsonl"), reader.manifest().state.ledger_head, "ledger");
  EXPECT_TRUE(t.exports.empty());
  EXPECT_EQ(t.imports.at(0).path, (f.path / "out").string());
}

TEST(ExportLedger, ACheckpointWithoutALedgerIsSaidToBeUnrecorded) {
  Folder f;
  import_from(golden_folder() / "llama", f.path / "run");
  fs::remove(f.path / "run/ledger.jsonl");
  export_from(f.path / "run", f.path / "out");
  EXPECT_EQ(problem(f.path / "out"), "");
  const ExportedLedger e = read_export_ledger(f.path / "out");
  EXPECT_EQ(e.ledger.entries().front().type, UnrecordedFact::type);
  EXPECT_NE(content(f.path / "out/README.md").find("What it was trained on is not recorded"), std::string::npos);
}

}  // namespace
}  // namespace fourmi::interop

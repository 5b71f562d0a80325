// `fourmi ledger verify` of a run directory: any byte of its ledger, of the manifest that names the head, or of a data
// file that is another one is found, and said where.
#include "framework/train/model_ledger.h"

#include "framework/interop/import.h"
#include "framework/train/provenance.h"
#include "parallel/group.h"
#include "tests/ledger/support.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using testing::Folder;
using testing::read_file;
using testing::write_file;

/// What `verify --data` says; empty: nothing is wrong.
std::string problem(const fs::path& model) {
  try {
    const ModelLedger m = open_ledger(model);
    const Trace t = verify_ledger(m);
    verify_files(m);
    verify_data(t);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input) << e.what();
    return e.what();
  }
  return "";
}

/// A run directory with one checkpoint.
void make_run(const fs::path& run) {
  const auto group = make_self_group("import");
  interop::import_model(*group, fs::path(FOURMI_SOURCE_DIR) / "tests/golden/llama", run);
}

void expect_each_flip_named(const fs::path& run, const fs::path& file) {
  const std::string good = read_file(file);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write_file(file, bad);
    const std::string said = problem(run);
    ASSERT_NE(said, "") << file << " byte " << i;
    ASSERT_TRUE(said.find(file.filename().string()) != std::string::npos ||
                said.find(run.string()) != std::string::npos)
        << said;
  }
  write_file(file, good);
  EXPECT_EQ(problem(run), "");
}

TEST(ModelLedger, AnyByteOfTheLedgerIsFound) {
  const Folder folder;
  make_run(folder / "run");
  ASSERT_EQ(problem(folder / "run"), "");
  expect_each_flip_named(folder / "run", ledger_path(folder / "run"));
}

TEST(ModelLedger, AnyByteOfTheManifestThatNamesTheHeadIsFound) {
  const Folder folder;
  make_run(folder / "run");
  expect_each_flip_named(folder / "run", open_ledger(folder / "run").checkpoint / "manifest.json");
}

TEST(ModelLedger, ADamagedNewerCheckpointIsNotPassedOver) {
  const Folder folder;
  make_run(folder / "run");
  const fs::path newer = folder / "run/checkpoints/step-00000005";
  fs::copy(open_ledger(folder / "run").checkpoint, newer);
  std::string text = read_file(newer / "manifest.json");
  text[text.size() / 2] ^= 1;
  write_file(newer / "manifest.json", text);
  EXPECT_NE(problem(folder / "run").find("step-00000005"), std::string::npos) << problem(folder / "run");
  fs::remove_all(newer);
  EXPECT_EQ(problem(folder / "run"), "");
}

TEST(ModelLedger, AnyByteOfADataFileIsFound) {
  const Folder folder;
  write_file(folder / "web", "what was read, byte by byte\n");
  DatasetFact web{"web", "text", "MIT", "", {}, "", "reading"};
  const FileDigest digest = digest_file(folder / "web");
  web.files = {{(folder / "web").string(), digest.bytes, digest.sha256}};
  web.sha256 = digest_of(web.files);
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({web});
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  const std::string good = read_file(folder / "web");
  verify_data(t);
  const auto refused = [&] {
    try {
      verify_data(t);
      return false;
    } catch (const Error& e) {
      return e.status() == ExitStatus::input && e.place() == (folder / "web").string();
    }
  };
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    write_file(folder / "web", bad);
    EXPECT_TRUE(refused()) << "byte " << i;
  }
  write_file(folder / "web", good + "x");
  EXPECT_TRUE(refused());
  fs::remove(folder / "web");
  EXPECT_TRUE(refused());
}

TEST(ModelLedger, AModelOfAnotherProgramHasNone) {
  try {
    open_ledger(fs::path(FOURMI_SOURCE_DIR) / "tests/golden/llama");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    EXPECT_NE(std::string(e.what()).find("fourmi_ledger.jsonl"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace fourmi

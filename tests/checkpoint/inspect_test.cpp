#include "framework/checkpoint/inspect.h"

#include <nlohmann/json.hpp>

#include "framework/checkpoint/manifest.h"
#include "framework/checkpoint/prove.h"
#include "framework/digest/sha256.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

using nlohmann::json;

TEST(Inspect, ListsAndProves) {
  const TemporaryFolder run;
  save_sample(2, run.path() / "checkpoints", 10);
  save_sample(4, run.path() / "checkpoints", 20);
  write_file(run.path() / "checkpoints/step-00000010/notes.txt", "mine");
  for (const Proof proof : {Proof::listing, Proof::full}) {
    const auto reports = inspect(run.path(), proof);
    ASSERT_EQ(reports.size(), 2u);
    const json j = json::parse(list_json(reports, proof));
    EXPECT_TRUE(j["ok"]);
    EXPECT_EQ(j["checkpoints"][0]["step"], 20);
    EXPECT_EQ(j["checkpoints"][0]["ranks"], 4);
    EXPECT_EQ(j["checkpoints"][1]["tensors"], sample_tensors().size());
    EXPECT_EQ(j["checkpoints"][1]["extra_entries"], json::array({"notes.txt"}));
    EXPECT_NE(list_text(reports).find(reports[1].manifest->root), std::string::npos);
    EXPECT_NE(verify_text(reports).find("notes.txt"), std::string::npos);
  }
  const auto one = inspect(run.path() / "checkpoints/step-00000010", Proof::listing);
  ASSERT_EQ(one.size(), 1u);
  const json shown = json::parse(show_json(one[0]));
  EXPECT_EQ(shown["training"]["position"]["gcide"], 77);
  EXPECT_EQ(shown["tensors"][0]["shape"], json::array({37, 11}));
  for (const TensorSpec& t : sample_tensors()) EXPECT_NE(show_text(one[0]).find(t.name), std::string::npos);
}

TEST(Inspect, ReportsEveryDamagedOneAndGoesOn) {
  const TemporaryFolder run;
  for (std::int64_t step : {10, 20, 30}) save_sample(2, run.path() / "checkpoints", step);
  const auto file = run.path() / "checkpoints/step-00000020/rank-00000.h5";
  std::string bytes = read_file(file);
  const auto reports = inspect(run.path(), Proof::full);
  const Manifest m = *reports[1].manifest;
  const TensorEntry& t = m.tensors[0];
  bytes[static_cast<std::size_t>(t.boxes[0].offset)] ^= 1;
  write_file(file, bytes);
  std::filesystem::remove(run.path() / "checkpoints/step-00000030/rank-00001.h5");
  EXPECT_TRUE(inspect(run.path(), Proof::listing)[1].good()) << "listing proves no contents";
  const auto found = inspect(run.path(), Proof::full);
  const json j = json::parse(list_json(found, Proof::full));
  EXPECT_FALSE(j["ok"]);
  EXPECT_NE(j["checkpoints"][0]["problem"].get<std::string>().find("rank-00001.h5"), std::string::npos);
  EXPECT_NE(j["checkpoints"][1]["problem"].get<std::string>().find(t.name), std::string::npos);
  EXPECT_TRUE(j["checkpoints"][2]["ok"]);
  EXPECT_EQ(found[1].problem->status(), ExitStatus::input);
  EXPECT_NE(verify_text(found).find("DAMAGED"), std::string::npos);
}

/// Makes the manifest and the file agree on bytes that HDF5 sees otherwise: only `verify` opens the file as HDF5.
TEST(Inspect, FindsAFileThatHdf5SeesOtherwise) {
  const TemporaryFolder run;
  const auto folder = run.path() / "step-00000010";
  const auto change = [&](const std::string& from, const std::string& to) {
    std::filesystem::remove_all(folder);
    save_sample(1, run.path(), 10);
    Manifest m = read_manifest(real_disk(), folder);
    std::string bytes = read_file(folder / "rank-00000.h5");
    const std::size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos);
    bytes.replace(at, from.size(), to);
    write_file(folder / "rank-00000.h5", bytes);
    m.files[0].sha256 = sha256(bytes);
    std::filesystem::remove(folder / "manifest.json");
    write_file(folder / "manifest.json", to_text(m));
    EXPECT_TRUE(inspect(folder, Proof::listing)[0].good());
    EXPECT_FALSE(inspect(folder, Proof::full)[0].good());
  };
  change("router_bias", "router_bivs");
  change("\x89HDF", "\x89HDG");
}

}  // namespace
}  // namespace fourmi::testing

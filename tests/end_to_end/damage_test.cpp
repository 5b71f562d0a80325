// Checkpoints that were damaged on the disk: found, named, set aside, never used.
#include <functional>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

void flip_bit(const fs::path& file, std::uintmax_t byte) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(byte));
  const char changed = static_cast<char>(stream.get() ^ 0x10);
  stream.seekp(static_cast<std::streamoff>(byte));
  stream.put(changed);
  ASSERT_TRUE(stream.good());
}

struct Harm {
  std::string name;
  std::function<void(const fs::path& checkpoint)> harm;
  std::string named;  ///< what the error must name
};

std::vector<Harm> harms() {
  const auto half = [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); };
  return {
      {"a bit of the manifest", [](const fs::path& c) { flip_bit(c / "manifest.json", 2000); }, "manifest.json"},
      {"a bit of a tensor",
       [](const fs::path& c) { flip_bit(c / "rank-00002.h5", fs::file_size(c / "rank-00002.h5") / 2); },
       "/"},  // a tensor's name, or the file's
      {"a bit of a file's head", [](const fs::path& c) { flip_bit(c / "rank-00001.h5", 20); }, "rank-00001.h5"},
      {"a file cut off", [&](const fs::path& c) { half(c / "rank-00003.h5"); }, "rank-00003.h5"},
      {"the manifest cut off", [&](const fs::path& c) { half(c / "manifest.json"); }, "manifest.json"},
      {"a missing file", [](const fs::path& c) { fs::remove(c / "rank-00000.h5"); }, "rank-00000.h5"},
      {"a missing manifest", [](const fs::path& c) { fs::remove(c / "manifest.json"); }, "manifest.json"},
      {"an empty file", [](const fs::path& c) { fs::resize_file(c / "rank-00002.h5", 0); }, "rank-00002.h5"},
      {"two files swapped",
       [](const fs::path& c) {
         fs::rename(c / "rank-00000.h5", c / "aside");
         fs::rename(c / "rank-00001.h5", c / "rank-00000.h5");
         fs::rename(c / "aside", c / "rank-00001.h5");
       },
       "rank-0000"},
  };
}

const Words six{"run.steps=6", "checkpoint.every=2"};
const Words eight{"run.steps=8", "checkpoint.every=2"};

class Damage : public Scene {
 protected:
  /// A run of four ranks with checkpoints of steps 2, 4 and 6.
  void SetUp() override { expect_ok(run(train("good", 4, six))); }

  fs::path copy_of(const std::string& run, const std::string& name) const {
    fs::copy(run_directory(run), run_directory(name), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    return newest_checkpoint(run_directory(name));
  }
  void expect_found(const Result& result, const std::string& named) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, 4);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find(named), std::string::npos);
  }
};

TEST_F(Damage, IsFoundAndNamedByEveryReader) {
  ASSERT_EQ(checkpoint_names(run_directory("good")).size(), 3u);
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("good")})));
  expect_ok(run(fourmi({"eval", run_directory("good"), "--data", small_recipe})));
  for (const Harm& h : harms()) {
    SCOPED_TRACE(h.name);
    const fs::path checkpoint = copy_of("good", "bad");
    h.harm(checkpoint);
    expect_found(run(fourmi({"checkpoint", "verify", checkpoint})), h.named);
    expect_found(run(fourmi({"generate", checkpoint, "--prompt", "a", "--max-tokens", "4"})), h.named);
    expect_found(run(fourmi({"eval", checkpoint, "--data", small_recipe})), h.named);
    EXPECT_TRUE(fs::exists(checkpoint)) << "readers change nothing";
    fs::remove_all(run_directory("bad"));
  }
}

TEST_F(Damage, ResumeSaysSoAndTakesTheNewestGoodOne) {
  copy_of("good", "whole");
  expect_ok(run(train("whole", 4, eight)));
  const auto all = harms();
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    for (const int ranks : {0, 4}) {
      SCOPED_TRACE(all[i].name + " " + std::to_string(ranks));
      const fs::path checkpoint = copy_of("good", "bad");
      all[i].harm(checkpoint);
      const Result result = run(train("bad", ranks, eight));
      SCOPED_TRACE(to_string(result));
      EXPECT_EQ(result.status, 0);
      const auto warnings = result.lines("fourmi: warning: ");
      ASSERT_EQ(warnings.size(), 1u);
      EXPECT_NE(warnings[0].find("step-00000006"), std::string::npos);
      EXPECT_NE(warnings[0].find(all[i].named), std::string::npos);
      EXPECT_NE(result.errors.find("on from step 4"), std::string::npos);
      EXPECT_TRUE(fs::exists(run_directory("bad") / "checkpoints/step-00000006.damaged"));
      expect_each_step_once(run_directory("bad"), 8);
      EXPECT_EQ(step_lines(run_directory("bad"), "metrics.superseded").size(), 2u);
      if (ranks == 4) {
        EXPECT_EQ(root_of(run_directory("bad") / "checkpoints/step-00000008"),
                  root_of(newest_checkpoint(run_directory("whole"))));
      }
      fs::remove_all(run_directory("bad"));
    }
  }
}

TEST_F(Damage, WhereNoneIsGoodNothingIsRenamedAndNothingTrained) {
  copy_of("good", "bad");
  for (const std::string& name : checkpoint_names(run_directory("bad")))
    flip_bit(run_directory("bad") / "checkpoints" / name / "manifest.json", 1000);
  const auto names = checkpoint_names(run_directory("bad"));
  for (const int ranks : {0, 4}) {
    expect_found(run(train("bad", ranks, eight)), "checkpoints");
    EXPECT_EQ(checkpoint_names(run_directory("bad")), names);
    EXPECT_EQ(step_lines(run_directory("bad")).size(), 6u);
  }
}

TEST_F(Damage, ACheckpointOfAnotherModelIsRefused) {
  expect_ok(run(train("other", 0, {"run.steps=2", "model.moe_intermediate_size=24"})));
  const fs::path place = copy_of("good", "mixed");
  fs::remove_all(place.parent_path());
  fs::create_directories(place.parent_path());
  fs::copy(newest_checkpoint(run_directory("other")), place.parent_path() / "step-00000002",
           fs::copy_options::recursive);
  for (const int ranks : {0, 4}) expect_found(run(train("mixed", ranks, eight)), "mlp");
}

}  // namespace
}  // namespace fourmi::testing

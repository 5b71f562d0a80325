// `fourmi doctor`, alone and on ranks of which one is odd.
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

using Json = nlohmann::json;

class Doctor : public Scene {
 protected:
  /// Four ranks that each look at `data` in a folder of their own; that of rank 2 holds `odd`.
  Result four_ranks(const std::string& odd, const std::string& option) {
    for (int rank = 0; rank < 4; ++rank)
      put_text(folder() / std::to_string(rank) / "data", rank == 2 ? odd : "the same");
    if (odd.empty()) std::filesystem::remove(folder() / "2" / "data");
    const std::string script = "cd \"$0/$OMPI_COMM_WORLD_RANK\" && exec " FOURMI_PROGRAM " doctor data " + option;
    return run(on_ranks(4, {"sh", "-c", script, folder().string()}));
  }
};

TEST_F(Doctor, FindsThisMachineFitAndLeavesNothing) {
  const Result result = run(fourmi({"doctor", "--directory", (folder() / "runs").string(), small_recipe}));
  EXPECT_EQ(result.status, 0) << to_string(result);
  for (const char* word : {"commit", "instruction sets", "usable cores", "available", "/dev/shm", "write speed",
                           "mpirun", "HDF5", "small.yaml"})
    EXPECT_NE(result.output.find(word), std::string::npos) << word << "\n" << result.output;
  EXPECT_TRUE(std::filesystem::is_empty(folder()));
}

TEST_F(Doctor, RanksThatAreAlikeAreFine) {
  const Result result = four_ranks("the same", "--json");
  EXPECT_EQ(result.status, 0) << to_string(result);
  const Json json = Json::parse(result.output);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_TRUE(json["differences"].empty()) << json["differences"];
}

TEST_F(Doctor, TheOddRankIsNamed) {
  const Result result = four_ranks("the sane", "");
  EXPECT_EQ(result.status, 3) << to_string(result);
  EXPECT_NE(result.output.find("problem: file data: rank 2 on "), std::string::npos) << result.output;
  const auto errors = result.error_lines();
  ASSERT_EQ(errors.size(), 1u) << to_string(result);
  EXPECT_NE(errors[0].find("rank 2 on "), std::string::npos) << errors[0];
}

TEST_F(Doctor, AFileThatOneRankLacksIsTold) {
  const Result result = four_ranks("", "--json");
  EXPECT_EQ(result.status, 3) << to_string(result);
  const Json json = Json::parse(result.output);
  ASSERT_EQ(json["differences"].size(), 1u);
  EXPECT_EQ(json["differences"][0]["odd"][0]["rank"], 2);
  EXPECT_EQ(json["ok"], false);
}

TEST_F(Doctor, ARecipeWhoseDataIsAbsentIsAProblem) {
  put_text(folder() / "r.yaml", "base: " + small_recipe + "\ndata:\n  train: [{name: t, path: " +
                                    (folder() / "absent.txt").string() + ", weight: 1, license: CC0-1.0}]\n");
  const Result result = run(fourmi({"doctor", "--directory", folder().string(), folder() / "r.yaml"}));
  EXPECT_EQ(result.status, 3) << to_string(result);
  EXPECT_NE(result.output.find("absent.txt"), std::string::npos);
}

TEST_F(Doctor, ADirectoryThatCannotBeWrittenIsAProblem) {
  const Result result = run(fourmi({"doctor", "--directory", "/proc/runs"}));
  EXPECT_EQ(result.status, 3) << to_string(result);
  EXPECT_EQ(result.error_lines().size(), 1u);
}

}  // namespace
}  // namespace fourmi::testing

// Runs that get nowhere, and runs that fail again and again: ended, by exit status and with a name.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

class Hang : public Scene {
 protected:
  void hang_and_look(const Fault& fault, int ranks, const std::string& cause) {
    const std::string name = fault.how + std::to_string(fault.rank) + "of" + std::to_string(ranks);
    SCOPED_TRACE(name);
    Process job(faulty(fault, name, ranks, {"run.steps=1000000", "guard.hang=2s"}));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    const Result result = job.wait(Seconds(20));
    const double seconds = Seconds(std::chrono::steady_clock::now() - begin).count();
    EXPECT_TRUE(wait_until([&] { return job.processes("faulty_fourmi").empty(); }, Seconds(5))) << "a rank is left";
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, 7);
    EXPECT_GT(seconds, 1.5);
    EXPECT_LT(seconds, 10);
    ASSERT_EQ(result.error_lines().size(), 1u);
    const Status status = status_of(run_directory(name));
    EXPECT_EQ(status.state, "failed");
    EXPECT_EQ(status.exit_status, 7);
    EXPECT_EQ(status.rank, fault.rank);
    EXPECT_TRUE(status.place.starts_with("rank " + std::to_string(fault.rank) + " on " + status.host + " in phase " +
                                         fault.phase))
        << status.place;
    EXPECT_NE(status.remedy.find("guard.hang"), std::string::npos) << status.remedy;
    for (const std::string& text : {status.cause, result.error_lines()[0]}) {
      EXPECT_NE(text.find("rank " + std::to_string(fault.rank) + " " + cause), std::string::npos) << text;
      if (ranks > 1) {
        EXPECT_NE(text.find(" of group "), std::string::npos) << "the others' call: " << text;
      }
    }
  }
};

TEST_F(Hang, ARankThatDoesNotRunIsNamedAndEnded) {
  hang_and_look({"stop", 2, "backward", 3}, 4, "does not run");
  hang_and_look({"stop", 0, "forward", 3}, 4, "does not run");
}

TEST_F(Hang, ARankThatSpinsInItsOwnCodeIsNamedAndEnded) {
  hang_and_look({"spin", 1, "optimizer", 3}, 4, "got no further");
  hang_and_look({"spin", 0, "forward", 3}, 4, "got no further");
  hang_and_look({"spin", 0, "forward", 3}, 0, "got no further");
}

using Brake = Scene;

// Three launches fail at the same step by their own error; a kill between them counts neither way.
TEST_F(Brake, TheFourthLaunchIsRefusedUntilAPersonHasLooked) {
  for (const int ranks : {0, 4}) {
    const std::string name = "brake" + std::to_string(ranks);
    const Words words{"run.steps=8", "checkpoint.every=2"};
    const int last = std::max(ranks, 1) - 1;
    const Fault fault{"error", last, "forward", 4};
    EXPECT_EQ(run(faulty(fault, name, ranks, words)).status, 4);
    EXPECT_EQ(run(faulty(fault, name, ranks, words)).status, 4);
    kill_in({"wait", 0, "forward", 4}, name, ranks, words);
    EXPECT_EQ(run(faulty({"kill", last, "forward", 4}, name, ranks, words)).status, ranks == 0 ? -9 : 7);
    EXPECT_EQ(run(faulty(fault, name, ranks, words)).status, 4);
    const Result refused = run(train(name, ranks, words));
    SCOPED_TRACE(to_string(refused));
    EXPECT_EQ(refused.status, 5);
    ASSERT_EQ(refused.error_lines().size(), 1u);
    EXPECT_NE(refused.error_lines()[0].find("ended by their own error after step 3"), std::string::npos);
    EXPECT_NE(refused.error_lines()[0].find("--accept-changes"), std::string::npos);
    EXPECT_EQ(run(train(name, 0, words)).status, 5) << "nor the fifth";
    Words accepted = train(name, ranks, words);
    accepted.push_back("--accept-changes");
    expect_ok(run(accepted));
    expect_each_step_once(run_directory(name), 8);
  }
}

TEST_F(Brake, OtherStepsAndAChangedRecipeDoNotCount) {
  for (const int step : {2, 3, 4, 5})
    EXPECT_EQ(run(faulty({"error", 0, "forward", step}, "steps", 0, {"run.steps=9"})).status, 4) << step;
  for (const int limit : {9, 10, 11, 12})  // each launch of another recipe
    EXPECT_EQ(run(faulty({"error", 0, "forward", 5}, "recipes", 0, {"run.steps=" + std::to_string(limit)})).status, 4)
        << limit;
}

}  // namespace
}  // namespace fourmi::testing

// Three launches that fail at the same step by their own error: the fourth needs a person.
#include "framework/run/failures.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

Ending ending(ExitStatus status) {
  return {status, 2, "a-host", "a cause", "a place", "a remedy"};
}

bool refused(const std::filesystem::path& run, bool changed = false) {
  try {
    refuse_repeated_failure(run, changed);
    return false;
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::guard);
    EXPECT_NE(std::string(e.what()).find("a place: a cause"), std::string::npos) << e.what();
    return true;
  }
}

TEST(Failures, ThreeAtOneStepAreEnough) {
  const TempFolder run;
  for (const ExitStatus status : {ExitStatus::bug, ExitStatus::input, ExitStatus::guard}) {
    EXPECT_FALSE(refused(run.path()));
    static std::int64_t launch = 0;
    note_failure(run.path(), ++launch, 7, ending(status));
    note_failure(run.path(), launch, 7, ending(status));  // one launch counts once
  }
  EXPECT_TRUE(refused(run.path()));
  EXPECT_TRUE(refused(run.path())) << "it stays so";
  EXPECT_FALSE(refused(run.path(), true));
  EXPECT_FALSE(refused(run.path())) << "the count begins anew";
}

TEST(Failures, WhatComesFromOutsideOrElsewhereDoesNotCount) {
  const TempFolder run;
  std::int64_t launch = 0;
  for (const ExitStatus status :
       {ExitStatus::rank_lost, ExitStatus::stopped, ExitStatus::usage, ExitStatus::ok, ExitStatus::budget})
    for (int i = 0; i < 3; ++i) note_failure(run.path(), ++launch, 7, ending(status));
  EXPECT_FALSE(refused(run.path()));
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::input));
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::input));
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::rank_lost));  // neither for
  note_failure(run.path(), ++launch, 8, ending(ExitStatus::input));      // another step
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::input));
  EXPECT_FALSE(refused(run.path()));
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::input));
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::rank_lost));  // nor against
  note_failure(run.path(), ++launch, 7, ending(ExitStatus::input));
  EXPECT_TRUE(refused(run.path()));
}

TEST(Failures, ADamagedFileCountsNothing) {
  for (const char* text :
       {"", "nonsense", "[]", "{}", R"({"step":"x","launches":[1,2,3]})", R"({"step":1,"launches":["a","b","c"]})"}) {
    const TempFolder run;
    std::ofstream(run.path() / "failures.json") << text;
    EXPECT_FALSE(refused(run.path())) << text;
    for (int launch : {1, 2, 3}) note_failure(run.path(), launch, 7, ending(ExitStatus::input));
    EXPECT_TRUE(refused(run.path())) << "and is replaced";
  }
}

}  // namespace
}  // namespace fourmi

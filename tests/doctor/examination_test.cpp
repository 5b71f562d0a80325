#include "launch/doctor/examination.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "launch/doctor/clock.h"
#include "launch/doctor/look.h"
#include "tests/run/temp_folder.h"

namespace fourmi::doctor {
namespace {

Facts rank_with(const std::string& commit, const std::string& cores = "4") {
  return {{"build", "commit", commit, Agree::must},
          {"processor", "usable cores", cores, Agree::should},
          {"memory", "available", commit}};
}

const std::vector<std::string> four{"a", "a", "b", "b"};

TEST(Compare, NamesTheOddRank) {
  const auto d = compare({rank_with("x"), rank_with("x"), rank_with("y"), rank_with("x")}, four);
  ASSERT_EQ(d.size(), 1u) << "what need not agree is not compared";
  EXPECT_EQ(d[0].usual, "x");
  ASSERT_EQ(d[0].odd.size(), 1u);
  EXPECT_EQ(d[0].odd[0].rank, 2);
  EXPECT_EQ(to_text(d[0]), "build commit: rank 2 on b has y; the others have x");
}

TEST(Compare, RankZeroCanBeTheOddOne) {
  const auto d = compare({rank_with("y"), rank_with("x"), rank_with("x"), rank_with("x")}, four);
  ASSERT_EQ(d.size(), 1u);
  ASSERT_EQ(d[0].odd.size(), 1u);
  EXPECT_EQ(d[0].odd[0].rank, 0);
}

TEST(Compare, WithoutAMajorityAllAreNamed) {
  const auto d = compare({rank_with("x"), rank_with("y")}, {"a", "b"});
  ASSERT_EQ(d.size(), 1u);
  EXPECT_EQ(d[0].usual, "");
  EXPECT_EQ(to_text(d[0]), "build commit: rank 0 on a has x; rank 1 on b has y");
}

TEST(Compare, AFactThatARankLacksIsADifference) {
  Facts lacks = rank_with("x");
  lacks.erase(lacks.begin());
  const auto d = compare({rank_with("x"), rank_with("x"), rank_with("x"), lacks}, four);
  ASSERT_EQ(d.size(), 1u);
  EXPECT_EQ(d[0].odd[0].value, "(not told)");
  EXPECT_TRUE(compare({rank_with("x"), rank_with("x")}, {"a", "a"}).empty());
}

TEST(Examine, AnOddBuildIsAProblemAnOddMachineANote) {
  const Examination build = examine({rank_with("x"), rank_with("x"), rank_with("y"), rank_with("x")}, four);
  EXPECT_EQ(build.num_problems(), 1u);
  EXPECT_EQ(build.complaints.at(0).text, "build commit: rank 2 on b has y; the others have x");
  EXPECT_FALSE(build.complaints.at(0).remedy.empty());
  const Examination machine = examine({rank_with("x"), rank_with("x", "8"), rank_with("x"), rank_with("x")}, four);
  EXPECT_EQ(machine.num_problems(), 0u);
  ASSERT_EQ(machine.complaints.size(), 1u);
  EXPECT_EQ(machine.complaints[0].verdict, Verdict::note);
}

TEST(Examine, WhatRanksOfOneHostFindIsSaidOnceAndProblemsComeFirst) {
  Facts facts{{"limit", "open files", "4096", Agree::should, Verdict::note, "more"},
              {"disk", "free", "1 MiB", Agree::no, Verdict::problem, "room"}};
  const Examination e = examine({facts, facts, facts, facts}, four);
  ASSERT_EQ(e.complaints.size(), 4u) << "twice a host";
  EXPECT_EQ(e.complaints[0].verdict, Verdict::problem);
  EXPECT_EQ(e.complaints[0].text, "rank 0 on a: disk free: 1 MiB");
  EXPECT_EQ(e.complaints[1].text, "rank 2 on b: disk free: 1 MiB");
  EXPECT_EQ(e.num_problems(), 2u);
}

TEST(Examine, AClockThatIsWrongIsTold) {
  const Examination e = examine({rank_with("x"), rank_with("x")}, {"a", "b"}, {0, -3.5});
  ASSERT_EQ(e.complaints.size(), 1u);
  EXPECT_EQ(e.complaints[0].text, "system clock: rank 1 on b is 3.5 s behind rank 0's");
  EXPECT_TRUE(examine({rank_with("x"), rank_with("x")}, {"a", "b"}, {0, 0.01}).complaints.empty());
}

TEST(Examine, JsonSaysTheSame) {
  const auto json = nlohmann::json::parse(
      to_json(examine({rank_with("x"), rank_with("x"), rank_with("y\xff"), rank_with("x")}, four)));
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_EQ(json["differences"][0]["odd"][0]["rank"], 2);
  EXPECT_EQ(json["differences"][0]["usual"], "x");
  EXPECT_EQ(json["complaints"].size(), 1u);
}

TEST(Facts, TravelWhateverTheyHold) {
  const Facts facts{{"a:b", "7:", "line\nbreak \xff", Agree::must, Verdict::problem, ""},
                    {"", "", "", Agree::no, Verdict::note, "12:"}};
  const Facts back = unpack(pack(facts));
  ASSERT_EQ(back.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(back[i].group, facts[i].group);
    EXPECT_EQ(back[i].name, facts[i].name);
    EXPECT_EQ(back[i].value, facts[i].value);
    EXPECT_EQ(back[i].remedy, facts[i].remedy);
    EXPECT_EQ(back[i].agree, facts[i].agree);
    EXPECT_EQ(back[i].verdict, facts[i].verdict);
  }
}

TEST(Files, DigestsTellBytesApart) {
  const TempFolder folder;
  put_text(folder.path() / "a", "same");
  put_text(folder.path() / "b", "same");
  put_text(folder.path() / "c", "some");
  EXPECT_EQ(digest_text(folder.path() / "a"), "4 bytes, sha256 0967115f2813a354");  // of sha256sum
  EXPECT_EQ(digest_text(folder.path() / "a"), digest_text(folder.path() / "b"));
  EXPECT_NE(digest_text(folder.path() / "a"), digest_text(folder.path() / "c"));
}

TEST(Files, WhatIsNoFileIsSaidAndNothingHangs) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder.path() / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(digest_text(folder.path() / "fifo"), "cannot be read: not a plain file");
  EXPECT_EQ(digest_text(folder.path()), "cannot be read: not a plain file");
  Facts facts;
  look_at_file(facts, folder.path() / "absent");
  EXPECT_EQ(facts.at(0).verdict, Verdict::problem);
  EXPECT_NE(facts.at(0).value.find("No such file"), std::string::npos);
}

TEST(Files, AGreatFileIsReadAtBothEnds) {
  const TempFolder folder;
  const auto file = folder.path() / "great";
  put_text(file, "begin");
  std::filesystem::resize_file(file, std::uintmax_t{200} << 20);  // sparse
  const std::string before = digest_text(file);
  EXPECT_NE(before.find(" of both ends"), std::string::npos);
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(-1, std::ios::end).put('x');
  EXPECT_NE(digest_text(file), before);
}

TEST(Look, EveryFactHasANameAndTheDiskIsLeftAsItWas) {
  const TempFolder folder;
  Facts facts;
  const LaunchInfo launch;
  look_at_build(facts);
  look_at_system(facts, launch);
  look_at_processor(facts, launch);
  look_at_memory(facts, launch);
  look_at_disk(facts, {.directory = folder.path() / "not" / "yet", .measure = true});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  for (const Fact& f : facts) {
    EXPECT_FALSE(f.group.empty());
    EXPECT_FALSE(f.value.empty()) << f.group << " " << f.name;
    EXPECT_EQ(f.verdict == Verdict::fine, f.remedy.empty()) << f.group << " " << f.name;
  }
}

TEST(Look, AFolderThatCannotBeWrittenIsAProblem) {
  Facts facts;
  look_at_disk(facts, {.directory = "/proc", .measure = true});
  EXPECT_TRUE(std::any_of(facts.begin(), facts.end(), [](const Fact& f) { return f.verdict == Verdict::problem; }));
}

TEST(Clock, RanksOfOneMachineAgree) {
  auto groups = make_thread_groups("clock", 3);
  std::vector<double> offsets;
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 3; ++r)
    threads.emplace_back([&, r] {
      const auto mine = clock_offsets(*groups[r]);
      if (r == 0) offsets = mine;
    });
  for (auto& t : threads) t.join();
  ASSERT_EQ(offsets.size(), 3u);
  for (const double offset : offsets) EXPECT_LT(std::abs(offset), 0.5);
}

}  // namespace
}  // namespace fourmi::doctor

// fourmi gpu-check without a GPU: that it ends in time whatever its parts do, and that it believes no part that did not
// do its work.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "kernels/runtime/error.h"
#include "launch/gpu_check/curve.h"
#include "launch/gpu_check/figures.h"
#include "launch/gpu_check/table.h"
#include "launch/gpu_check/test_program.h"

namespace fourmi::gpu_check {
namespace {

namespace fs = std::filesystem;
using How = ChildEnd::How;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
Job job_of(double seconds) {
  return Job(now() + seconds);
}
ChildEnd shell(const std::string& script, const ChildLimits& limits = {.seconds = 60}) {
  return run_child({"/bin/sh", "-c", script}, limits);
}

/// A program of shell in a folder of its own.
class Script {
 public:
  explicit Script(const std::string& text) {
    std::string name = (fs::temp_directory_path() / "fourmi-check-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    std::ofstream(path()) << "#!/bin/sh\n" << text;
    fs::permissions(path(), fs::perms::owner_all);
  }
  ~Script() { fs::remove_all(folder_); }
  std::string path() const { return folder_ / "program"; }
  fs::path folder() const { return folder_; }

 private:
  fs::path folder_;
};

TEST(GpuCheckChild, TellsHowAProgramEnded) {
  const ChildEnd fine = shell("echo out; echo err >&2");
  EXPECT_TRUE(fine.well());
  EXPECT_EQ(fine.output, "out\n");
  EXPECT_EQ(fine.errors, "err\n");
  EXPECT_EQ(last_words(fine), "err\nout");
  const ChildEnd three = shell("exit 3");
  EXPECT_EQ(three.how, How::exited);
  EXPECT_EQ(three.status, 3);
  const ChildEnd crashed = shell("kill -SEGV $$");
  EXPECT_EQ(crashed.how, How::signalled);
  EXPECT_EQ(crashed.status, SIGSEGV);
  EXPECT_EQ(run_child({"/no/such/program"}, {}).how, How::absent);
}

TEST(GpuCheckChild, WhatHangsIsKilledWithAllThatItStarted) {
  const Script pid("");
  const std::string file = pid.folder() / "pid";
  const double begin = now();
  const ChildEnd end = shell("sleep 300 & echo $! >" + file + "; trap '' TERM INT; sleep 300", {.seconds = 1});
  EXPECT_EQ(end.how, How::hung);
  EXPECT_LT(now() - begin, 10);
  std::ifstream in(file);
  pid_t grandchild = 0;
  in >> grandchild;
  ASSERT_GT(grandchild, 0);
  // Gone, or a zombie that nobody has asked for yet; a busy machine takes a while to let it die.
  std::string state;
  for (int i = 0; i < 500; ++i) {
    std::ifstream status("/proc/" + std::to_string(grandchild) + "/stat");
    std::string number, name;
    state = "gone";
    status >> number >> name >> state;
    if (state != "R" && state != "S" && state != "D") break;
    ::usleep(10000);
  }
  EXPECT_TRUE(state == "gone" || state == "Z" || state == "X") << state;
}

TEST(GpuCheckChild, SilenceIsToldFromALongWork) {
  EXPECT_EQ(shell("while :; do echo x; sleep 0.05; done", {.seconds = 1, .silence = 0.7}).how, How::late);
  const ChildEnd silent = shell("echo x; sleep 300", {.seconds = 60, .silence = 0.5});
  EXPECT_EQ(silent.how, How::hung);
  EXPECT_EQ(silent.output, "x\n");
  EXPECT_EQ(shell("exec cat /dev/zero").how, How::flooded);
}

TEST(GpuCheckParts, EachHasItsVerdictAndTheWholeEndsInTime) {
  const auto by = [](const char* script) {
    return [script](const Job& job) {
      const ChildEnd end = job.run({"/bin/sh", "-c", script}, {.seconds = 100});
      return Outcome{end.well()             ? Verdict::passed
                     : end.how == How::hung ? Verdict::hung
                                            : Verdict::failed,
                     describe(end),
                     {{"seconds", end.seconds}}};
    };
  };
  const std::vector<Part> table = {
      {"good", "", 5, by("true")},
      {"bad", "", 5, by("false")},
      {"crash", "", 5, by("kill -ABRT $$")},
      {"throws", "", 5,
       [](const Job&) -> Outcome { throw Error(ExitStatus::bug, "here", "a fault, none was expected"); }},
      {"hangs", "", 1, by("sleep 300")},
      {"eats", "", 300, by("sleep 300")},
      {"late", "", 5, by("true")},
  };
  std::vector<std::string> told;
  const double begin = now();
  const std::vector<Row> rows = run_parts(table, 6, {}, [&](const Row& row) { told.push_back(row.name); });
  EXPECT_LT(now() - begin, 6);
  ASSERT_EQ(rows.size(), table.size());
  const Verdict expected[] = {Verdict::passed, Verdict::failed, Verdict::failed, Verdict::failed,
                              Verdict::hung,   Verdict::hung,   Verdict::no_time};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].outcome.verdict, expected[i]) << rows[i].name;
    EXPECT_EQ(told[i], table[i].name);
  }
  EXPECT_NE(rows[3].outcome.text.find("a fault"), std::string::npos);
  EXPECT_LT(rows[4].seconds, 3);
  EXPECT_FALSE(all_fine(rows));
  EXPECT_TRUE(all_fine({rows[0]}));
  EXPECT_FALSE(all_fine({rows[6]}));
  EXPECT_NE(row_text(rows[6]).find("not run (time)"), std::string::npos);
  const ordered_json json = rows_json(rows);
  ASSERT_EQ(json.size(), rows.size());
  for (const ordered_json& part : json)
    for (const char* key : {"name", "verdict", "seconds", "text", "figures"}) EXPECT_TRUE(part.contains(key)) << key;
  EXPECT_EQ(json[4]["verdict"], "HUNG");
}

TEST(GpuCheckParts, OnlyThoseThatAreAskedFor) {
  const std::vector<Part> table = {{"a", "", 5,
                                    [](const Job&) {
                                      return Outcome{Verdict::passed, "", {}};
                                    }},
                                   {"b", "", 5, [](const Job&) {
                                      return Outcome{Verdict::passed, "", {}};
                                    }}};
  const std::vector<Row> rows = run_parts(table, 10, {"b"}, [](const Row&) {});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].name, "b");
  EXPECT_THROW(require_names(table, {"c"}), Error);
  EXPECT_NO_THROW(require_names(table, {"a", "b"}));
}

TEST(GpuCheckParts, FiguresOfAProcessThatDiesAreKeptAndTheRestFollows) {
  // Hangs at 1 and dies at 3 whatever it begins with: $5 is --from's number.
  const Script program(R"sh(
i=$5
while [ $i -lt 6 ]; do
  echo "{\"begin\": \"case $i\", \"number\": $i}"
  [ $i != 1 ] || exec sleep 300
  [ $i != 3 ] || kill -SEGV $$
  [ $i != 4 ] && echo "{\"name\": \"case $i\", \"seconds\": $i}" || echo "{\"name\": \"case 4\", \"error\": \"refused\"}"
  i=$((i + 1))
done
)sh");
  const Outcome outcome = run_measuring(job_of(60), program.path(), "fake", 1);
  EXPECT_EQ(outcome.verdict, Verdict::hung);
  std::vector<std::string> names;
  for (const ordered_json& line : outcome.figures["figures"]) names.push_back(line["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"case 0", "case 2", "case 4", "case 5"}));
  ASSERT_EQ(outcome.figures["failures"].size(), 3u);
  EXPECT_EQ(outcome.figures["failures"][0]["what"], "case 1");
  EXPECT_EQ(outcome.figures["failures"][1]["what"], "case 3");
  EXPECT_EQ(outcome.figures["failures"][2]["how"], "refused");
}

TEST(GpuCheckParts, GarbageIsNoFigure) {
  EXPECT_EQ(run_measuring(job_of(30), Script("echo fine").path(), "fake", 5).verdict, Verdict::failed);
  EXPECT_EQ(run_measuring(job_of(30), Script("echo '[1]'").path(), "fake", 5).verdict, Verdict::failed);
  EXPECT_EQ(run_measuring(job_of(30), Script("echo '{\"name\": \"x\"}'; exit 1").path(), "fake", 5).verdict,
            Verdict::failed);
  EXPECT_EQ(run_measuring(job_of(30), Script("echo '{\"begin\": \"x\", \"number\": 0}'").path(), "fake", 5).verdict,
            Verdict::failed);
  EXPECT_EQ(run_measuring(job_of(30), Script("exit 0").path(), "fake", 5).verdict, Verdict::failed);
  EXPECT_EQ(run_measuring(job_of(30), Script("echo '{\"name\": \"x\"}'").path(), "fake", 5).verdict, Verdict::passed);
}

TEST(GpuCheckTests, ListAndLinesAreRead) {
  EXPECT_EQ(listed_tests("no GPU: why\nPlain.\n  One\n  Two\nAll/Sized.\n  Runs/0  # GetParam() = 3\n"),
            (std::vector<std::string>{"Plain.One", "Plain.Two", "All/Sized.Runs/0"}));
  const TestLines lines = read_test_lines(
      "[ RUN      ] A.One\nnoise[       OK ] A.One (3 ms)\n[ RUN      ] A.Two\n[  SKIPPED ] A.Two (0 ms)\n"
      "[ RUN      ] A.Three\n[  FAILED  ] A.Three, where GetParam() = 2 (1 ms)\n[ RUN      ] A.Four\n[       OK ] "
      "A.Four (1 ms)\n");
  ASSERT_EQ(lines.results.size(), 3u);
  EXPECT_EQ(lines.results[0], (std::pair<std::string, std::string>{"A.One", "passed"}));
  EXPECT_EQ(lines.results[1].second, "skipped");
  EXPECT_EQ(lines.results[2].second, "failed");
  EXPECT_EQ(read_test_lines("[ RUN      ] A.One\n").running, "A.One");
}

/// As GoogleTest's: S.a passes, S.b hangs, S.c fails, S.d dies, S.e is skipped, S.f passes.
constexpr const char* test_program = R"sh(
[ "$1" != --gtest_list_tests ] || { printf 'S.\n'; for t in a b c d e f; do echo "  $t"; done; exit 0; }
filter=${1#--gtest_filter=}
for t in $(echo "$filter" | tr ':' ' '); do
  echo "[ RUN      ] $t"
  case $t in
    S.b) exec sleep 300 ;;
    S.c) echo "[  FAILED  ] $t (1 ms)"; exit 1 ;;
    S.d) kill -SEGV $$ ;;
    S.e) echo "[  SKIPPED ] $t (0 ms)" ;;
    *) echo "[       OK ] $t (1 ms)" ;;
  esac
done
)sh";

TEST(GpuCheckTests, NoTestTakesAnotherWithIt) {
  const Script program(test_program);
  for (const int batch : {1, 6}) {
    const Outcome o = run_test_program(job_of(60), {.program = program.path(), .silence = 1, .batch = batch});
    EXPECT_EQ(o.verdict, Verdict::hung);
    EXPECT_EQ(o.figures["passed"], 2) << o.text;
    EXPECT_EQ(o.figures["hung"], 1) << o.text;
    EXPECT_EQ(o.figures["failed"], 2) << o.text;
    EXPECT_EQ(o.figures["skipped"], 1) << o.text;
    EXPECT_TRUE(o.figures["no_time"].empty());
    EXPECT_NE(o.text.find("S.b"), std::string::npos) << o.text;
  }
  // What hangs eats this part's time only, and what had none is named.
  const Outcome late = run_test_program(job_of(2.5), {.program = program.path(), .silence = 30, .batch = 2});
  EXPECT_NE(late.verdict, Verdict::passed);
  EXPECT_FALSE(late.figures["no_time"].empty());
}

/// S.long takes several times what is allowed in silence, and says that it gets on; S.stops says so and then hangs.
TEST(GpuCheckTests, ALongTestThatGetsOnIsNotKilled) {
  const Script program(R"sh(
[ "$1" != --gtest_list_tests ] || { printf 'S.\n  long\n  stops\n'; exit 0; }
for t in $(echo "${1#--gtest_filter=}" | tr ':' ' '); do
  echo "[ RUN      ] $t"
  for i in 1 2 3 4 5 6; do echo "$i calls have come back from the card"; sleep 0.5; done
  [ $t != S.stops ] || exec sleep 300
  echo "[       OK ] $t (3000 ms)"
done
)sh");
  const Outcome o = run_test_program(job_of(60), {.program = program.path(), .silence = 1.5});
  EXPECT_EQ(o.verdict, Verdict::hung);
  EXPECT_EQ(o.figures["passed"], 1) << o.text;
  EXPECT_EQ(o.figures["hung"], 1) << o.text;
  EXPECT_EQ(o.figures["bad"][0]["test"], "S.stops");
}

TEST(GpuCheckTests, AProgramThatRunsNothingHasNotPassed) {
  EXPECT_EQ(run_test_program(job_of(20), {.program = "/no/such/program"}).verdict, Verdict::absent);
  EXPECT_EQ(run_test_program(job_of(20), {.program = Script("exit 0").path()}).verdict, Verdict::failed);
  const char* list = "[ \"$1\" != --gtest_list_tests ] || { printf 'S.\\n  a\\n'; exit 0; }\n";
  EXPECT_EQ(run_test_program(job_of(20), {.program = Script(std::string(list) + "exit 0").path()}).verdict,
            Verdict::failed);
  const std::string ok = "echo '[ RUN      ] S.a'; echo '[       OK ] S.a (1 ms)'; ";
  EXPECT_EQ(run_test_program(job_of(20), {.program = Script(list + ok).path()}).verdict, Verdict::passed);
  EXPECT_EQ(run_test_program(job_of(20), {.program = Script(list + ok + "exit 1").path()}).verdict, Verdict::failed);
  EXPECT_EQ(
      run_test_program(
          job_of(20),
          {.program = Script(list + std::string("echo '[ RUN      ] S.a'; echo '[  SKIPPED ] S.a (0 ms)'")).path()})
          .verdict,
      Verdict::failed);
}

TEST(GpuCheckCurve, IsComparedWithBothEnds) {
  const std::vector<double> cpu = {5, 4, 3, 2.5, 2.2, 2.1, 2.05, 2.0};
  const CurveLimits limits{.steps = 8, .first = 0.01, .last = 0.05};
  EXPECT_EQ(compare_curves(cpu, cpu, limits).verdict, Verdict::passed);
  std::vector<double> other = cpu;
  other[0] += 0.02;
  EXPECT_EQ(compare_curves(other, cpu, limits).verdict, Verdict::failed);
  other = cpu;
  other[6] += 0.2;
  EXPECT_EQ(compare_curves(other, cpu, limits).verdict, Verdict::failed);
  other = cpu;
  other[3] = std::nan("");
  EXPECT_EQ(compare_curves(other, cpu, limits).verdict, Verdict::failed);
  other.pop_back();
  EXPECT_EQ(compare_curves(other, cpu, limits).verdict, Verdict::failed);
}

/// A word that the recipe does not know would be found on a GPU otherwise.
TEST(GpuCheckTable, WhatItStartsIsValid) {
  Places places = find_places(FOURMI_PROGRAM);
  EXPECT_EQ(places.recipes, fs::path(FOURMI_SOURCE_DIR) / "recipes");
  for (const char* compute : {"bf16", "fp8-block"}) {
    std::vector<std::string> words = training_speed_words(places, compute, "auto"), asked{places.program, "validate"};
    for (const std::string& word : words)
      if (word.ends_with(".yaml") || word.find('=') != std::string::npos) asked.push_back(word);
    const ChildEnd end = run_child(asked, {.seconds = 60});
    EXPECT_TRUE(end.well()) << last_words(end);
  }
  const Script folder("");
  const ChildEnd end = run_child(curve_words(places, "cpu", folder.folder() / "run", 1), {.seconds = 120});
  EXPECT_TRUE(end.well()) << last_words(end);
  EXPECT_EQ(losses_of(folder.folder() / "run/metrics.jsonl").size(), 1u);
}

TEST(GpuCheckTable, WithoutAGpuItEndsBeforeAnythingElse) {
  const double begin = now();
  for (const std::string& what : {std::string("--minutes=1"), std::string("--only=tests,kernels")}) {
    const ChildEnd end = run_child({FOURMI_PROGRAM, "gpu-check", what}, {.seconds = 60});
    EXPECT_EQ(end.status, 3) << last_words(end);
    EXPECT_EQ(end.output, "");
    EXPECT_TRUE(end.errors.starts_with("fourmi: error: gpu-check: no GPU to check was found (")) << end.errors;
    EXPECT_NE(end.errors.find("nvidia-smi"), std::string::npos) << end.errors;
  }
  EXPECT_LT(now() - begin, 30);
  EXPECT_EQ(run_child({FOURMI_PROGRAM, "gpu-check", "--only", "frob"}, {.seconds = 60}).status, 2);
  EXPECT_EQ(run_child({FOURMI_PROGRAM, "gpu-check", "--minutes", "0"}, {.seconds = 60}).status, 2);
}

}  // namespace
}  // namespace fourmi::gpu_check

// Too little memory: every rank ends at once with status 3, and the message has the table of arenas and what to change.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

class TooLittleMemory : public Scene {
 protected:
  /// `command` under a limit of address space, in KiB.
  static Words limited(std::int64_t kib, const Words& command) {
    Words words{"bash", "-c", "ulimit -v " + std::to_string(kib) + "; exec \"$@\"", "limited"};
    words.insert(words.end(), command.begin(), command.end());
    return words;
  }
  /// A model whose weights alone need far more than the limit: 3 GB.
  Words large(const std::string& name) const {
    Words words = overrides(name, {"model.vocab_size=8000000", "data.micro_batch_size=2"});
    words.insert(words.begin(), {FOURMI_PROGRAM, "train", small_recipe});
    return words;
  }
  static void expect_told(const Result& r) {
    EXPECT_EQ(r.status, 3) << to_string(r);
    EXPECT_FALSE(r.timed_out);
    const Words errors = r.error_lines();
    ASSERT_EQ(errors.size(), 1u) << to_string(r);
    for (const char* word : {"memory of rank ", "weights ", "gradients ", "optimizer ", "activations ",
                             "memory.recompute=full", "data.micro_batch_size", "more ranks"})
      EXPECT_NE(errors[0].find(word), std::string::npos) << word << " is not in: " << errors[0];
  }
};

constexpr std::int64_t limit = 2'000'000;  // KiB; MPI's own memory is a part of it

TEST_F(TooLittleMemory, EndsOneRank) {
  expect_told(run(limited(limit, large("one"))));
}

TEST_F(TooLittleMemory, EndsFourRanks) {
  expect_told(run(on_ranks(4, limited(limit, large("four")))));
}

/// Only rank 2 has the limit: the others must not wait for it.
TEST_F(TooLittleMemory, OfOneRankEndsAll) {
  Words words{"bash", "-c",
              "[ \"$OMPI_COMM_WORLD_RANK\" != 2 ] || ulimit -v " + std::to_string(limit) + "; exec \"$@\"", "limited"};
  const Words command = overrides("one-of-four", {"model.vocab_size=8000000", "data.micro_batch_size=2"});
  words.insert(words.end(), {FOURMI_PROGRAM, "train", small_recipe});
  words.insert(words.end(), command.begin(), command.end());
  const Result r = run(on_ranks(4, words));
  expect_told(r);
  EXPECT_LT(r.seconds, 40);
}

/// What no arena holds (stacks, the heap, HDF5's own memory) is refused by the same status, wherever the memory ends:
/// from a limit under which the program is just loaded (its libraries complain below that, or the loader does) to one
/// that is enough.
TEST_F(TooLittleMemory, OutsideOfTheArenas) {
  int num_refused = 0, num_enough = 0;
  for (std::int64_t kib = 30'000; num_enough < 3; kib += 4'000) {
    SCOPED_TRACE(kib);
    ASSERT_LT(kib, limit);
    const Result loaded = run(limited(kib, {FOURMI_PROGRAM, "--version"}));
    if (loaded.status != 0 || !loaded.errors.empty()) {
      ASSERT_EQ(num_refused, 0) << to_string(loaded);
      continue;
    }
    const Result r = run(limited(
        kib, fourmi({"train", small_recipe, "run.directory=" + run_directory("none").string(), "run.threads=2"})));
    EXPECT_FALSE(r.timed_out);
    std::filesystem::remove_all(run_directory("none"));
    if (r.status == 0) {
      ++num_enough;
      continue;
    }
    num_enough = 0;
    ++num_refused;
    EXPECT_EQ(r.status, 3) << to_string(r);
    EXPECT_EQ(r.error_lines().size(), 1u) << to_string(r);
  }
  EXPECT_GE(num_refused, 5);
}

TEST_F(TooLittleMemory, EnoughIsEnough) {
  const Result r = run(limited(limit, train("enough", 0)));
  EXPECT_EQ(r.status, 0) << to_string(r);
}

}  // namespace
}  // namespace fourmi::testing

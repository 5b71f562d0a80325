// Each sample exactly once an epoch, whatever stops the run and on however many ranks it goes on.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "framework/data/loader.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

LoadedSource source_of(const std::string& name, std::int64_t size, double weight) {
  LoadedSource loaded;
  loaded.recipe.name = name;
  loaded.recipe.weight = weight;
  auto text = std::make_shared<Text>();
  std::mt19937_64 random(static_cast<std::uint64_t>(size));
  for (std::int64_t end = 0; end < size;) {
    end = std::min<std::int64_t>(size, end + 1 + static_cast<std::int64_t>(random() % 90));
    text->file_ends.push_back(end);
  }
  for (std::int64_t i = 0; i < size; ++i) text->bytes.push_back(static_cast<char>(random() % 256));
  loaded.text = text;
  return loaded;
}

/// Three sources of unlike sizes and weights, with a batch that grows twice.
struct Stream {
  DataSection data;
  std::vector<LoadedSource> train{source_of("a", 6000, 3), source_of("b", 1500, 1.3), source_of("c", 777, 0.4)};

  explicit Stream(bool packing) {
    data.sequence_length = packing ? 32 : 91;
    data.packing = packing;
    data.global_batch_size.over_tokens.steps = {{0, 24}, {5000, 48}, {9000, 72}};
    data.micro_batch_size = 1;
  }
  Loader loader() const { return {data, train, 11, 300}; }
};

using Read = std::tuple<std::int32_t, std::int64_t, std::int64_t>;  // source, epoch, window

/// What the ranks of one step read, in the order of the global batch; every rank asks for its own micro-batches.
std::vector<std::int32_t> read_by_ranks(const Loader& loader, const StepPlan& step, std::int64_t ranks) {
  std::vector<std::int32_t> tokens;
  const std::int64_t samples = std::ssize(step.samples);
  const std::int64_t sequences = samples % (ranks * 3) == 0 ? 3 : 1;
  for (std::int64_t rank = 0; rank < ranks; ++rank)
    for (std::int64_t m = 0; m < samples / ranks / sequences; ++m) {
      const Batch batch = loader.micro_batch(step, rank, ranks, m, sequences);
      tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
    }
  return tokens;
}

TEST(Once, AnEpochOverKillsRestartsAndRanks) {
  for (const bool packing : {true, false}) {
    const Stream stream(packing);
    // The undisturbed run: every step's tokens.
    const double epochs = 2;
    std::vector<std::vector<std::int32_t>> whole;
    std::vector<Position> positions;
    std::set<std::size_t> sizes;
    {
      const Loader loader = stream.loader();
      Position position = loader.start();
      StepPlan step;
      while (!loader.finished(position, epochs)) {
        positions.push_back(position);
        loader.plan_step(position, step, epochs);
        whole.push_back(loader.batch(step, 0, std::ssize(step.samples)).tokens);
        position = step.next;
        sizes.insert(step.samples.size());
      }
    }
    EXPECT_EQ(sizes, (std::set<std::size_t>{24, 48, 72}));

    std::mt19937_64 random(4);
    for (int round = 0; round < 6; ++round) {
      // Steps that were made and not saved before a kill are made again; `made` holds the last word on each.
      std::map<std::size_t, std::vector<Read>> made;
      std::map<std::size_t, std::int64_t> targets;
      Position position = stream.loader().start();
      std::string saved = to_json(position);
      std::size_t saved_step = 0, n = 0;
      for (bool ended = false; !ended;) {
        const Loader loader = stream.loader();
        position = loader.resume(position_from_json(saved, "p"), false);
        n = saved_step;
        const std::int64_t ranks = std::vector<std::int64_t>{1, 2, 3, 4, 8}[random() % 5];
        const std::size_t killed = n + 1 + random() % 25;
        StepPlan step;
        for (; n < killed && !(ended = loader.finished(position, epochs)); ++n) {
          loader.plan_step(position, step, epochs);
          ASSERT_EQ(read_by_ranks(loader, step, ranks), whole.at(n)) << n << " on " << ranks;
          made[n].clear();
          for (const Sample& sample : step.samples)
            if (sample.source >= 0) made[n].emplace_back(sample.source, sample.epoch, sample.window);
          targets[n] = step.num_targets;
          position = step.next;
          if ((n + 1) % 3 == 0) {
            saved = to_json(position);
            saved_step = n + 1;
          }
        }
      }
      ASSERT_EQ(n, whole.size());
      const Loader loader = stream.loader();
      std::map<Read, int> times;
      for (const auto& [at, reads] : made)
        for (const Read& read : reads) ++times[read];
      for (const auto& [read, count] : times) ASSERT_EQ(count, 1);
      // Every whole pass has every window; the passes that are under way lie within the last.
      std::int64_t samples = 0, tokens = 0, sum = 0;
      for (std::int64_t s = 0; s < loader.num_sources(); ++s) {
        const SourcePosition& source = position.sources[static_cast<std::size_t>(s)];
        EXPECT_GE(source.epoch, 2);
        for (std::int64_t epoch = 0; epoch < source.epoch; ++epoch)
          for (std::int64_t w = 0; w < loader.samples_per_epoch(s); ++w)
            ASSERT_TRUE(times.contains(Read{static_cast<std::int32_t>(s), epoch, w})) << s << " " << epoch << " " << w;
        EXPECT_EQ(source.samples, source.epoch * loader.samples_per_epoch(s) + source.index);
        samples += source.samples;
        tokens += source.tokens;
      }
      EXPECT_EQ(samples, std::ssize(times));
      EXPECT_EQ(samples, position.samples);
      for (const auto& [at, count] : targets) sum += count;
      EXPECT_EQ(tokens, sum);
      EXPECT_EQ(tokens, position.tokens);
      // The share of the tokens is the recipe's.
      for (std::int64_t s = 0; s < loader.num_sources(); ++s)
        EXPECT_NEAR(static_cast<double>(position.sources[static_cast<std::size_t>(s)].tokens),
                    loader.share(s) * static_cast<double>(tokens),
                    3.0 * static_cast<double>(stream.data.sequence_length));
    }
  }
}

TEST(Once, TheLastStepIsFilledUpWithPadding) {
  DataSection data;
  data.sequence_length = 10;
  data.global_batch_size = 8;
  const Loader loader(data, {source_of("x", 205, 1)}, 1, 300);
  const std::int64_t windows = loader.samples_per_epoch(0);
  ASSERT_NE(windows % 8, 0);
  Position position = loader.start();
  StepPlan step;
  std::int64_t steps = 0;
  for (; !loader.finished(position, 1); ++steps) {
    loader.plan_step(position, step, 1.0);
    ASSERT_EQ(step.samples.size(), 8u);
    position = step.next;
  }
  EXPECT_EQ(steps, (windows + 7) / 8);
  EXPECT_EQ(position.samples, windows);
  EXPECT_EQ(position.tokens, loader.tokens_per_epoch(0));
  EXPECT_EQ(step.samples.back().source, -1);
  const Batch last = loader.batch(step, 7, 1);
  EXPECT_EQ(last.targets, std::vector<std::int32_t>(10, -1));
  // Half an epoch is the first half of it.
  position = loader.start();
  for (; !loader.finished(position, 0.5);) {
    loader.plan_step(position, step, 0.5);
    position = step.next;
  }
  EXPECT_EQ(position.samples, (windows + 1) / 2);
}

TEST(Repeat, MoreThanTheLimitIsRefusedWithTheArithmetic) {
  DataSection data;
  data.sequence_length = 10;
  data.global_batch_size = 5;
  data.repeat = 2;
  const std::vector<LoadedSource> train{source_of("small", 200, 1), source_of("large", 5000, 1)};
  const Loader loader(data, train, 1, 300);
  const double limit = 2.0 * 2 * static_cast<double>(loader.tokens_per_epoch(0));
  EXPECT_NO_THROW(loader.check_repeat(loader.start(), limit));
  const std::string message =
      test::message_of(ExitStatus::input, [&] { loader.check_repeat(loader.start(), 1.5 * limit); });
  EXPECT_EQ(message.find("data.train.small: the run reads it 3.0"), 0u) << message;
  EXPECT_NE(message.find("at most data.repeat = 2"), std::string::npos) << message;
  // And whatever is asked for, no source is read a third time; the step that would need one is an error.
  Position position = loader.start();
  StepPlan step;
  const std::int64_t all = 2 * (loader.samples_per_epoch(0) + loader.samples_per_epoch(1));
  for (std::int64_t n = 0; n + 5 <= all; n += 5) {
    loader.plan_step(position, step);
    for (const Sample& sample : step.samples) ASSERT_LT(sample.epoch, 2);
    position = step.next;
  }
  test::message_of(ExitStatus::input, [&] { loader.plan(position, all, step); });
}

}  // namespace
}  // namespace fourmi

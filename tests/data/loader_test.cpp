#include "framework/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "framework/data/held_out.h"
#include "framework/data/permutation.h"
#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

using test::Folder;
using test::message_of;

/// Bytes such that any 4 in a row tell where in the text they are: three base-128 digits with a marker.
std::string numbered(std::int64_t size) {
  std::string text;
  for (unsigned n = 0; std::ssize(text) < size; ++n) {
    text.push_back(static_cast<char>(0x80 + n / 16384 % 128));
    text.push_back(static_cast<char>(n / 128 % 128));
    text.push_back(static_cast<char>(n % 128));
  }
  text.resize(static_cast<std::size_t>(size));
  return text;
}

LoadedSource source_of(const std::string& name, std::string bytes, double weight = 1,
                       std::vector<std::int64_t> file_ends = {}) {
  LoadedSource loaded;
  loaded.recipe.name = name;
  loaded.recipe.weight = weight;
  auto text = std::make_shared<Text>();
  text->bytes = std::move(bytes);
  text->file_ends = file_ends.empty() ? std::vector<std::int64_t>{std::ssize(text->bytes)} : std::move(file_ends);
  loaded.text = text;
  return loaded;
}

DataSection section(std::int64_t length, std::int64_t batch, double holdout = 0) {
  DataSection data;
  data.sequence_length = length;
  data.global_batch_size = batch;
  data.holdout = holdout;
  return data;
}

bool equal(const Batch& a, const Batch& b) {
  return a.tokens == b.tokens && a.targets == b.targets && a.positions == b.positions && a.key_begin == b.key_begin &&
         a.mtp_tokens == b.mtp_tokens && a.mtp_targets == b.mtp_targets;
}

TEST(Permutation, IsABijection) {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 16, 17, 1000, 4096, 5000}) {
    const Permutation order(1, "x", 0, n);
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = order(i);
      ASSERT_TRUE(at >= 0 && at < n);
      seen.insert(at);
    }
    EXPECT_EQ(std::ssize(seen), n);
  }
  const Permutation large(1, "x", 0, std::int64_t{1} << 50);
  EXPECT_LT(large(12345), std::int64_t{1} << 50);
}

TEST(Permutation, DependsOnEverything) {
  const auto order = [](std::uint64_t seed, const char* name, std::int64_t epoch) {
    const Permutation p(seed, name, epoch, 1000);
    std::vector<std::int64_t> all;
    for (std::int64_t i = 0; i < 1000; ++i) all.push_back(p(i));
    return all;
  };
  EXPECT_EQ(order(1, "x", 0), order(1, "x", 0));
  EXPECT_NE(order(1, "x", 0), order(2, "x", 0));
  EXPECT_NE(order(1, "x", 0), order(1, "y", 0));
  EXPECT_NE(order(1, "x", 0), order(1, "x", 1));
}

TEST(Permutation, LooksRandom) {
  // Neighbours must not stay neighbours, and the mean step of a random order of n is n/3.
  const Permutation p(5, "x", 3, 10'000);
  double distance = 0;
  std::int64_t ascending = 0;
  for (std::int64_t i = 1; i < 10'000; ++i) {
    distance += static_cast<double>(std::abs(p(i) - p(i - 1)));
    ascending += p(i) > p(i - 1);
  }
  EXPECT_NEAR(distance / 9999, 10'000 / 3.0, 100);
  EXPECT_NEAR(static_cast<double>(ascending), 5000, 150);
}

TEST(Loader, EveryTrainingTokenIsAnInputOncePerEpoch) {
  const std::int64_t size = 3 * held_out_block + 1234;
  const std::string bytes = numbered(size);
  const std::vector<LoadedSource> train{source_of("x", bytes, 1, {1000, size})};
  const Loader loader(section(96, 8, 0.5), train, 3, 320);
  const Split split = split_text(*train[0].text, 0.5, "p");
  Position position = loader.start();
  for (int epoch = 0; epoch < 2; ++epoch) {
    // one epoch, in plans of odd sizes
    std::map<std::int64_t, std::vector<std::int32_t>> by_window;
    std::int64_t left = loader.samples_per_epoch(0), targets = 0;
    for (std::int64_t n = 7; left > 0; left -= n) {
      n = std::min(n, left);
      const StepPlan step = loader.plan(position, n);
      const Batch batch = loader.batch(step, 0, n);
      for (std::int64_t s = 0; s < n; ++s) {
        EXPECT_EQ(step.samples[static_cast<std::size_t>(s)].epoch, epoch);
        std::vector<std::int32_t>& inputs = by_window[step.samples[static_cast<std::size_t>(s)].window];
        EXPECT_TRUE(inputs.empty());
        for (std::int64_t row = s * 96; row < (s + 1) * 96; ++row)
          if (batch.targets[static_cast<std::size_t>(row)] >= 0)
            inputs.push_back(batch.tokens[static_cast<std::size_t>(row)]);
      }
      targets += step.num_targets;
      position = step.next;
    }
    std::vector<std::int32_t> inputs, expected;
    for (const auto& [window, tokens] : by_window) inputs.insert(inputs.end(), tokens.begin(), tokens.end());
    for (const TextPiece& piece : split.train) {
      expected.push_back(256);
      for (std::int64_t i = piece.begin; i < piece.end; ++i)
        expected.push_back(static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]));
    }
    EXPECT_EQ(inputs, expected);
    EXPECT_EQ(targets, loader.tokens_per_epoch(0));
    EXPECT_EQ(position.sources[0].epoch, epoch + 1);
    EXPECT_EQ(position.sources[0].index, 0);
  }
}

TEST(Loader, HeldOutTextIsNeverRead) {
  std::string bytes(static_cast<std::size_t>(6 * held_out_block), 'a');
  for (std::int64_t b = 1; b < 6; b += 2)
    std::fill_n(bytes.begin() + b * held_out_block, held_out_block, 'Z');  // what a share of 0.5 holds out
  const Loader loader(section(100, 8, 0.5), {source_of("x", bytes)}, 3, 320);
  const StepPlan epoch = loader.plan(loader.start(), loader.samples_per_epoch(0));
  const Batch batch = loader.batch(epoch, 0, std::ssize(epoch.samples));
  for (const auto* ids : {&batch.tokens, &batch.targets, &batch.mtp_tokens, &batch.mtp_targets})
    EXPECT_EQ(std::count(ids->begin(), ids->end(), 'Z'), 0);
}

TEST(Loader, AnyPositionGoesOnAlike) {
  const std::vector<LoadedSource> train{source_of("a", numbered(5000), 3), source_of("b", numbered(3000), 1),
                                        source_of("c", numbered(777), 0.7)};
  const Loader loader(section(32, 4), train, 9, 320);
  const StepPlan whole = loader.plan(loader.start(), 1000);
  const Batch all = loader.batch(whole, 0, 1000);
  for (const std::int64_t stop : {1, 5, 17, 156, 157, 158, 333, 999}) {
    const Loader again(section(32, 4), train, 9, 320);
    const Position there = loader.plan(loader.start(), stop).next;
    const Position back = again.resume(position_from_json(to_json(there), "p"), false);
    EXPECT_EQ(back, there);
    const StepPlan rest = again.plan(back, 1000 - stop);
    EXPECT_EQ(rest.samples, std::vector<Sample>(whole.samples.begin() + stop, whole.samples.end()));
    EXPECT_EQ(rest.next, whole.next);
    const Batch batch = again.batch(rest, 0, 1000 - stop);
    EXPECT_EQ(batch.tokens, std::vector<std::int32_t>(all.tokens.begin() + stop * 32, all.tokens.end()));
  }
  const Loader other(section(32, 4), train, 10, 320);
  EXPECT_NE(other.plan(other.start(), 1000).samples, whole.samples);
}

TEST(Loader, RanksShareTheStepInOrder) {
  const Loader loader(section(16, 16), {source_of("x", numbered(20'000))}, 1, 320);
  const StepPlan step = loader.plan_step(loader.start());
  ASSERT_EQ(step.samples.size(), 16u);
  const Batch whole = loader.batch(step, 0, 16);
  for (const std::int64_t ranks : {1, 2, 4})
    for (const std::int64_t sequences : {1, 2, 4}) {
      std::vector<std::int32_t> tokens, targets;
      for (std::int64_t rank = 0; rank < ranks; ++rank)
        for (std::int64_t m = 0; m < 16 / ranks / sequences; ++m) {
          const Batch part = loader.micro_batch(step, rank, ranks, m, sequences);
          EXPECT_EQ(part.num_sequences, sequences);
          tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
          targets.insert(targets.end(), part.targets.begin(), part.targets.end());
        }
      EXPECT_EQ(tokens, whole.tokens);
      EXPECT_EQ(targets, whole.targets);
    }
}

TEST(Loader, CountsAreOfTheWholeStep) {
  // Sources whose last windows are short, and documents of two bytes: masks in every window.
  std::vector<std::int64_t> ends;
  for (std::int64_t i = 2; i <= 1001; i += 2) ends.push_back(std::min<std::int64_t>(i, 1001));
  ends.push_back(1001);
  for (const bool cross : {false, true}) {
    DataSection data = section(24, 4);
    data.cross_document_attention = cross;
    const Loader loader(data, {source_of("x", numbered(1001), 1, ends), source_of("y", numbered(500), 1)}, 1, 320);
    Position position = loader.start();
    StepPlan step;
    Batch batch;
    for (int s = 0; s < 50; ++s) {
      loader.plan_step(position, step);  // what is filled again is as if it were new
      loader.batch(step, 0, 4, batch);
      const Batch fresh = loader.batch(loader.plan_step(position), 0, 4);
      ASSERT_EQ(batch.tokens, fresh.tokens);
      ASSERT_EQ(batch.targets, fresh.targets);
      ASSERT_EQ(batch.mtp_tokens, fresh.mtp_tokens);
      ASSERT_EQ(batch.mtp_targets, fresh.mtp_targets);
      ASSERT_EQ(batch.positions, fresh.positions);
      ASSERT_EQ(batch.key_begin, fresh.key_begin);
      const auto counted = [](const std::vector<std::int32_t>& ids) {
        return std::count_if(ids.begin(), ids.end(), [](std::int32_t id) { return id >= 0; });
      };
      ASSERT_EQ(step.num_targets, counted(batch.targets));
      ASSERT_EQ(step.num_mtp_targets, counted(batch.mtp_targets));
      position = step.next;
    }
  }
}

TEST(Loader, SourcesAreMixedByWeight) {
  const std::vector<double> weights{5, 2.5, 1, 0.1, 0};
  std::vector<LoadedSource> train;
  for (std::size_t i = 0; i < weights.size(); ++i)
    train.push_back(source_of(std::string(1, static_cast<char>('a' + i)), numbered(1000), weights[i]));
  const Loader loader(section(32, 4), train, 1, 320);
  const StepPlan step = loader.plan(loader.start(), 5000);
  std::vector<double> count(weights.size());
  for (std::size_t n = 0; n < step.samples.size(); ++n) {
    ++count[static_cast<std::size_t>(step.samples[n].source)];
    for (std::size_t i = 0; i < weights.size(); ++i)
      ASSERT_NEAR(count[i], weights[i] / 8.6 * static_cast<double>(n + 1), 5) << n << " " << i;
  }
  EXPECT_EQ(count[4], 0);
}

TEST(Loader, CompressionDoesNotMatter) {
  const Folder folder;
  const std::string text = numbered(50'000);
  std::vector<StepPlan> steps;
  std::vector<Batch> batches;
  for (const std::string& path : {folder.write("a.txt", text), folder.write("b.gz", test::gzip(text)),
                                  folder.write("c.dict.dz", test::dictzip(text))}) {
    DataSource source;
    source.name = "x";
    source.path = path;
    const Loader loader(section(64, 8), load_sources({source}, "data.train"), 1, 320);
    steps.push_back(loader.plan_step(loader.start()));
    batches.push_back(loader.batch(steps.back(), 0, 8));
  }
  for (std::size_t i = 1; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].next, steps[0].next);
    EXPECT_TRUE(equal(batches[i], batches[0]));
  }
}

TEST(Loader, AChangedTextIsNoticed) {
  const Loader before(section(32, 4), {source_of("x", numbered(1000))}, 1, 320);
  const Position position = before.plan(before.start(), 30).next;
  std::string changed = numbered(1000);
  changed[500] = static_cast<char>(changed[500] ^ 1);
  const Loader after(section(32, 4), {source_of("x", changed)}, 1, 320);
  const std::string message = message_of(ExitStatus::input, [&] { after.resume(position, false); });
  EXPECT_EQ(message.find("data.train.x: "), 0u) << message;
  EXPECT_EQ(after.resume(position, true).sources[0].index, 30);
  EXPECT_EQ(after.resume(position, true).sources[0].checksum, after.start().sources[0].checksum);

  const Loader shorter(section(32, 4), {source_of("x", numbered(500))}, 1, 320);
  EXPECT_EQ(shorter.resume(position, true).sources[0].epoch, 1);

  const Loader more(section(32, 4), {source_of("y", numbered(500)), source_of("x", numbered(1000))}, 1, 320);
  message_of(ExitStatus::input, [&] { more.resume(position, false); });
  const Position both = more.resume(position, true);
  EXPECT_EQ(both.sources[0].index, 0);
  EXPECT_EQ(both.sources[1].index, 30);
  EXPECT_EQ(both.samples, 30);
}

TEST(Loader, TooLittleTextIsSaid) {
  EXPECT_EQ(message_of(ExitStatus::input, [] { Loader(section(32, 4), {source_of("x", "tiny")}, 1, 320); })
                .find("data.train.x: "),
            0u);
  message_of(ExitStatus::usage, [] { Loader(section(32, 4), {source_of("x", numbered(100), 0)}, 1, 320); });
  message_of(ExitStatus::usage, [] { Loader(section(32, 4), {source_of("x", numbered(100))}, 1, 256); });
}

TEST(Loader, SyntheticNeedsNoFile) {
  DataSource source;
  source.name = "made-up";
  source.format = "synthetic";
  const Loader loader(section(64, 4), load_sources({source}, "data.train"), 1, 5000);
  const StepPlan step = loader.plan_step(loader.start());
  const Batch batch = loader.batch(step, 0, 4);
  EXPECT_GT(*std::max_element(batch.tokens.begin(), batch.tokens.end()), 1000);
  EXPECT_LT(*std::max_element(batch.tokens.begin(), batch.tokens.end()), 5000);
  source.format = "parquet";
  message_of(ExitStatus::usage, [&] { load_sources({source}, "data.train"); });
}

TEST(Loader, EpochsCountTheSlowestSource) {
  const Loader loader(section(10, 4), {source_of("a", numbered(99), 3), source_of("b", numbered(99), 1)}, 1, 320);
  EXPECT_EQ(loader.samples_per_epoch(0), 10);  // 99 bytes and the opening token
  EXPECT_EQ(loader.tokens_per_epoch(), 400);
  EXPECT_EQ(loader.tokens_per_sample(), 10);
}

TEST(Loader, DocumentsThatAreTooLongForASequence) {
  // 40 documents of 10 bytes and one of 50.
  std::vector<std::int64_t> ends;
  for (std::int64_t d = 1; d <= 40; ++d) ends.push_back(10 * d);
  ends.push_back(450);
  const std::vector<LoadedSource> train{source_of("x", numbered(450), 1, ends)};
  DataSection data = section(32, 4);
  data.packing = false;
  EXPECT_NE(message_of(ExitStatus::input, [&] { Loader(data, train, 1, 320); })
                .find("data.train.x: 1 of 41 documents are longer than 31 tokens (the first is document 40)"),
            std::string::npos);
  data.overlong = "drop";
  const Loader dropped(data, train, 1, 320);
  EXPECT_EQ(dropped.samples_per_epoch(0), 40);
  EXPECT_EQ(dropped.tokens_per_epoch(0), 40 * 11);
  ASSERT_EQ(dropped.notes().size(), 1u);
  EXPECT_NE(dropped.notes()[0].find("1 of 41 documents"), std::string::npos);
  data.overlong = "truncate";
  const Loader truncated(data, train, 1, 320);
  EXPECT_EQ(truncated.samples_per_epoch(0), 41);
  EXPECT_EQ(truncated.tokens_per_epoch(0), 40 * 11 + 32);
  const StepPlan epoch = truncated.plan(truncated.start(), 41);
  EXPECT_EQ(epoch.num_targets, 40 * 11 + 32);
  data.sequence_length = 51;
  data.overlong = "error";
  EXPECT_EQ(Loader(data, train, 1, 320).samples_per_epoch(0), 41);
}

TEST(Position, JsonIsStrict) {
  Position position;
  position.samples = 12;
  position.sources.push_back({"a \"quoted\" name", 1, 2, 3, 77, -4, 5, 0xffffffffu});
  EXPECT_EQ(position_from_json(to_json(position), "p"), position);
  EXPECT_EQ(to_json(position_from_json(to_json(position), "p")), to_json(position));
  for (const char* bad : {"", "{", "[]", "{\"samples\":1}", "{\"samples\":\"1\",\"sources\":[]}",
                          "{\"samples\":1,\"sources\":[{\"name\":\"a\"}]}"})
    EXPECT_EQ(message_of(ExitStatus::input, [&] { position_from_json(bad, "position.json"); }).find("position.json: "),
              0u);
}

}  // namespace
}  // namespace fourmi

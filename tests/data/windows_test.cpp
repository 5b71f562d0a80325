// Documents, windows and masks, by cases made by hand.
#include "framework/data/windows.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "framework/data/token_source.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr std::int32_t E = 256;

std::shared_ptr<const Text> text_of(std::string bytes, std::vector<std::int64_t> file_ends) {
  auto text = std::make_shared<Text>();
  text->bytes = std::move(bytes);
  text->file_ends = std::move(file_ends);
  return text;
}

DocumentSource document_source(std::shared_ptr<const Text> text, std::vector<TextPiece> documents, bool closed) {
  return {std::make_shared<ByteStore>(std::move(text)), std::move(documents), E, closed};
}

/// "abcde" and "xy": tokens E a b c d e E x y, and a closing E.
DocumentSource two_documents() {
  return document_source(text_of("abcdexy", {5, 7}), {{0, 5}, {5, 7}}, true);
}

Ids read(const TokenSource& source, std::int64_t first, std::size_t count) {
  Ids out(count, -7);
  source.read(first, out);
  return out;
}

TEST(DocumentSource, DocumentsOpenWithEndOfDocument) {
  const DocumentSource source = two_documents();
  EXPECT_EQ(source.num_tokens(), 9);
  const Ids all{E, 'a', 'b', 'c', 'd', 'e', E, 'x', 'y', E, -1, -1};
  EXPECT_EQ(read(source, 0, 12), all);
  for (std::int64_t first = 0; first < 12; ++first)
    for (std::size_t count = 0; first + static_cast<std::int64_t>(count) <= 12; ++count)
      EXPECT_EQ(read(source, first, count), Ids(all.begin() + first, all.begin() + first + static_cast<long>(count)))
          << first << " " << count;
}

TEST(DocumentSource, WithoutClosingTheLastByteIsTheLastTarget) {
  const DocumentSource source = document_source(text_of("abc", {3}), {{0, 3}}, false);
  EXPECT_EQ(source.num_tokens(), 3);
  EXPECT_EQ(read(source, 0, 6), (Ids{E, 'a', 'b', 'c', -1, -1}));
  EXPECT_EQ(read(source, 3, 2), (Ids{'c', -1}));
}

TEST(DocumentSource, BytesAbove127StayPositive) {
  const DocumentSource source = document_source(text_of("\xff\x80", {2}), {{0, 2}}, true);
  EXPECT_EQ(read(source, 0, 4), (Ids{E, 255, 128, E}));
}

TEST(Windows, DocumentsAreSeparate) {
  const DocumentSource source = two_documents();
  const WindowShape shape{8, false, E};
  ASSERT_EQ(num_windows(source, WindowShape{8, false, E}), 2);
  Batch batch = empty_batch(shape, 2);
  write_window(source, shape, 0, 1, batch);  // into the second sequence: rows 8..15
  const auto second = [](const Ids& ids) { return Ids(ids.begin() + 8, ids.end()); };
  EXPECT_EQ(second(batch.tokens), (Ids{E, 'a', 'b', 'c', 'd', 'e', E, 'x'}));
  EXPECT_EQ(second(batch.targets), (Ids{'a', 'b', 'c', 'd', 'e', E, 'x', 'y'}));
  EXPECT_EQ(second(batch.mtp_tokens), (Ids{'a', 'b', 'c', 'd', 'e', -1, 'x', 'y'}));
  EXPECT_EQ(second(batch.mtp_targets), (Ids{'b', 'c', 'd', 'e', E, -1, 'y', E}));
  EXPECT_EQ(second(batch.positions), (Ids{0, 1, 2, 3, 4, 5, 0, 1}));
  EXPECT_EQ(second(batch.key_begin), (Ids{8, 8, 8, 8, 8, 8, 14, 14}));
  EXPECT_EQ(num_targets(source, shape, 0), 8);
  EXPECT_EQ(num_mtp_targets(source, shape, 0), 7);
  // the sequence that nobody wrote is padding
  EXPECT_EQ(Ids(batch.targets.begin(), batch.targets.begin() + 8), Ids(8, -1));
  EXPECT_EQ(Ids(batch.tokens.begin(), batch.tokens.begin() + 8), Ids(8, E));
}

// A model that knows texts to begin with a token of their own ends them with another all the same.
TEST(Windows, WhatOpensADocumentIsNotWhatFollowsIt) {
  constexpr std::int32_t B = 300;
  const auto store = std::make_shared<ByteStore>(text_of("abxy", {4}));
  const DocumentSource source(store, {{0, 2}, {2, 4}}, B, true);
  for (const bool cross : {false, true}) {
    const WindowShape shape{6, cross, B, true, E};
    Batch batch = empty_batch(shape, 1);
    write_window(source, shape, 0, 0, batch);
    EXPECT_EQ(batch.tokens, (Ids{B, 'a', 'b', B, 'x', 'y'}));
    EXPECT_EQ(batch.targets, (Ids{'a', 'b', E, 'x', 'y', E}));
    EXPECT_EQ(batch.positions, cross ? (Ids{0, 1, 2, 3, 4, 5}) : (Ids{0, 1, 2, 0, 1, 2}));
    EXPECT_EQ(batch.mtp_targets, cross ? (Ids{'b', E, 'x', 'y', E, -1}) : (Ids{'b', E, -1, 'y', E, -1}));
  }
}

TEST(Windows, DocumentsSeeOneAnother) {
  const DocumentSource source = two_documents();
  const WindowShape shape{8, true, E};
  Batch batch = empty_batch(shape, 1);
  write_window(source, shape, 0, 0, batch);
  EXPECT_EQ(batch.mtp_tokens, (Ids{'a', 'b', 'c', 'd', 'e', E, 'x', 'y'}));
  EXPECT_EQ(batch.mtp_targets, (Ids{'b', 'c', 'd', 'e', E, 'x', 'y', E}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(batch.key_begin, Ids(8, 0));
  EXPECT_EQ(num_mtp_targets(source, shape, 0), 8);
}

TEST(Windows, TheLastWindowIsPadded) {
  const DocumentSource source = two_documents();
  const WindowShape shape{8, false, E};
  Batch batch = empty_batch(shape, 1);
  write_window(source, shape, 1, 0, batch);
  EXPECT_EQ(batch.tokens, (Ids{'y', E, E, E, E, E, E, E}));
  EXPECT_EQ(batch.targets, (Ids{E, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(batch.mtp_targets, Ids(8, -1));
  EXPECT_EQ(batch.mtp_tokens, Ids(8, -1));
  EXPECT_EQ(batch.positions, (Ids{0, 0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(batch.key_begin, (Ids{0, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(num_targets(source, shape, 1), 1);
  EXPECT_EQ(num_mtp_targets(source, shape, 1), 0);
}

TEST(Windows, ADocumentThatWentOnFromTheWindowBefore) {
  const DocumentSource source = two_documents();
  const WindowShape shape{4, false, E};
  Batch batch = empty_batch(shape, 1);
  write_window(source, shape, 1, 0, batch);
  EXPECT_EQ(batch.tokens, (Ids{'d', 'e', E, 'x'}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 0, 1}));
  EXPECT_EQ(batch.key_begin, (Ids{0, 0, 2, 2}));
  EXPECT_EQ(batch.mtp_targets, (Ids{E, -1, 'y', E}));
}

TEST(Windows, WithoutPackingADocumentIsASequence) {
  const DocumentSource source = two_documents();
  for (const bool cross : {false, true}) {
    const WindowShape shape{8, cross, E, false};
    ASSERT_EQ(num_windows(source, shape), 2);
    Batch batch = empty_batch(shape, 2);
    write_window(source, shape, 0, 0, batch);
    write_window(source, shape, 1, 1, batch);
    EXPECT_EQ(batch.tokens, (Ids{E, 'a', 'b', 'c', 'd', 'e', E, E, E, 'x', 'y', E, E, E, E, E}));
    EXPECT_EQ(batch.targets, (Ids{'a', 'b', 'c', 'd', 'e', E, -1, -1, 'x', 'y', E, -1, -1, -1, -1, -1}));
    EXPECT_EQ(batch.mtp_targets, (Ids{'b', 'c', 'd', 'e', E, -1, -1, -1, 'y', E, -1, -1, -1, -1, -1, -1}));
    EXPECT_EQ(num_targets(source, shape, 0), 6);
    EXPECT_EQ(num_mtp_targets(source, shape, 0), 5);
    EXPECT_EQ(num_targets(source, shape, 1), 3);
    EXPECT_EQ(num_mtp_targets(source, shape, 1), 2);
  }
  // A document that is longer than a sequence is cut off; what would come next is still its target.
  const WindowShape shape{4, false, E, false};
  Batch batch = empty_batch(shape, 1);
  write_window(source, shape, 0, 0, batch);
  EXPECT_EQ(batch.tokens, (Ids{E, 'a', 'b', 'c'}));
  EXPECT_EQ(batch.targets, (Ids{'a', 'b', 'c', 'd'}));
  EXPECT_EQ(batch.mtp_targets, (Ids{'b', 'c', 'd', 'e'}));
  EXPECT_EQ(num_targets(source, shape, 0), 4);
  EXPECT_EQ(num_mtp_targets(source, shape, 0), 4);
}

TEST(Windows, CountsAgreeWithTheMasks) {
  std::vector<std::unique_ptr<TokenSource>> sources;
  sources.push_back(std::make_unique<DocumentSource>(two_documents()));
  sources.push_back(std::make_unique<DocumentSource>(document_source(text_of("abcdefgh", {8}), {{0, 8}}, false)));
  sources.push_back(std::make_unique<DocumentSource>(
      document_source(text_of("aabbc", {1, 5}), {{0, 1}, {1, 2}, {2, 3}, {3, 5}}, true)));
  sources.push_back(std::make_unique<SyntheticSource>(3, "s", 3, 300, E));
  for (const auto& source : sources)
    for (const int kind : {0, 1, 2, 3})
      for (const std::int64_t length : {1, 2, 3, 4, 5, 8, 100, 2000}) {
        const bool cross = kind % 2 != 0, packing = kind < 2;
        // Only closed sources are read without packing, and only whole sequences cover them.
        if (!packing && source == sources[1]) continue;
        const WindowShape shape{length, cross, E, packing};
        std::int64_t inputs = 0;
        for (std::int64_t w = 0; w < num_windows(*source, shape); ++w) {
          Batch batch = empty_batch(shape, 1);
          write_window(*source, shape, w, 0, batch);
          std::int64_t targets = 0, mtp = 0;
          for (std::size_t i = 0; i < batch.targets.size(); ++i) {
            targets += batch.targets[i] >= 0;
            mtp += batch.mtp_targets[i] >= 0;
            EXPECT_EQ(batch.mtp_tokens[i], batch.mtp_targets[i] >= 0 ? batch.targets[i] : -1);
          }
          EXPECT_EQ(targets, num_targets(*source, shape, w));
          EXPECT_EQ(mtp, num_mtp_targets(*source, shape, w)) << length << " " << w << " " << cross;
          inputs += targets;
        }
        if (packing || length == 2000) {
          EXPECT_EQ(inputs, source->num_tokens());
        }
      }
}

TEST(SyntheticSource, IsTheSameFromEveryStart) {
  const SyntheticSource source(7, "s", 4, 300, E);
  const Ids all = read(source, 0, 4 * 1024 + 3);
  EXPECT_EQ(all[4 * 1024], E);
  EXPECT_EQ(all[4 * 1024 + 1], -1);
  for (const std::int64_t first : {1, 1000, 1023, 1024, 2500, 4095, 4096})
    EXPECT_EQ(read(source, first, 3), Ids(all.begin() + first, all.begin() + first + 3)) << first;
  EXPECT_NE(read(SyntheticSource(8, "s", 4, 300, E), 0, 100), read(source, 0, 100));
  EXPECT_NE(read(SyntheticSource(7, "t", 4, 300, E), 0, 100), read(source, 0, 100));
}

TEST(SyntheticSource, CanBeLearned) {
  const SyntheticSource source(7, "s", 64, 300, E);
  const Ids all = read(source, 0, 64 * 1024);
  std::int64_t pairs = 0, rule = 0;
  const auto drawn = [](std::int32_t id) { return id > E ? id - 1 : id; };
  for (std::size_t i = 1; i < all.size(); ++i) {
    ASSERT_TRUE(all[i] >= 0 && all[i] < 300);
    if (all[i] == E || all[i - 1] == E) continue;
    ++pairs;
    rule += drawn(all[i]) == (5 * drawn(all[i - 1]) + 17) % 299;
  }
  EXPECT_NEAR(static_cast<double>(rule) / static_cast<double>(pairs), 7.0 / 8 + 1.0 / 8 / 299, 0.01);
}

}  // namespace
}  // namespace fourmi

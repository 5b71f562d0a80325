#include "framework/data/held_out.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "framework/data/validation.h"
#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

using test::message_of;
constexpr std::int64_t K = held_out_block;

Text text_of(std::int64_t size, std::vector<std::int64_t> file_ends) {
  Text text;
  text.bytes.resize(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < text.bytes.size(); ++i) text.bytes[i] = static_cast<char>(i * 2654435761u >> 24);
  text.file_ends = std::move(file_ends);
  return text;
}

TEST(HeldOut, EveryNthBlock) {
  const Text text = text_of(10 * K + 5, {10 * K + 5});
  const Split split = split_text(text, 0.25, "p");  // every 4th: blocks 2, 6, 10 (of 5 bytes)
  EXPECT_EQ(split.held_out, (std::vector<TextPiece>{{2 * K, 3 * K}, {6 * K, 7 * K}, {10 * K, 10 * K + 5}}));
  EXPECT_EQ(split.train, (std::vector<TextPiece>{{0, 2 * K}, {3 * K, 6 * K}, {7 * K, 10 * K}}));
  EXPECT_EQ(split_text(text, 0, "p").train, (std::vector<TextPiece>{{0, 10 * K + 5}}));
}

TEST(HeldOut, PiecesAreCutAtFileEnds) {
  const Text text = text_of(4 * K, {7, 7, K + 9, 4 * K});  // the second file is empty
  const Split split = split_text(text, 0.5, "p");          // every 2nd: blocks 1, 3
  EXPECT_EQ(split.train, (std::vector<TextPiece>{{0, 7}, {7, K}, {2 * K, 3 * K}}));
  EXPECT_EQ(split.held_out, (std::vector<TextPiece>{{K, K + 9}, {K + 9, 2 * K}, {3 * K, 4 * K}}));
}

TEST(HeldOut, EveryByteIsOnOneSide) {
  for (const std::int64_t size : {26 * K, 26 * K + 1, 77 * K - 3}) {
    const Text text = text_of(size, {100, 5 * K, size});
    const Split split = split_text(text, 0.02, "p");
    std::vector<int> seen(static_cast<std::size_t>(size), 0);
    for (const auto* side : {&split.train, &split.held_out})
      for (const TextPiece& piece : *side) {
        EXPECT_LT(piece.begin, piece.end);
        for (std::int64_t i = piece.begin; i < piece.end; ++i) ++seen[static_cast<std::size_t>(i)];
      }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
    std::string expected;
    for (std::int64_t at = 25 * K; at < size; at += 50 * K)
      expected += text.bytes.substr(static_cast<std::size_t>(at), K);
    std::string found;
    for (const TextPiece& piece : split.held_out)
      found +=
          text.bytes.substr(static_cast<std::size_t>(piece.begin), static_cast<std::size_t>(piece.end - piece.begin));
    EXPECT_EQ(found, expected);
  }
}

TEST(HeldOut, WhatCannotBeHeldOutIsAnError) {
  const std::string message =
      message_of(ExitStatus::input, [] { split_text(text_of(25 * K, {25 * K}), 0.02, "data.train.x"); });
  EXPECT_EQ(message.find("data.train.x: "), 0u) << message;
  for (const double share : {-0.1, 0.51, std::nan("")})
    message_of(ExitStatus::usage, [&] { split_text(text_of(K, {K}), share, "p"); });
}

std::string held_out_bytes(const Text& text, double share) {
  std::string bytes;
  for (const TextPiece& piece : split_text(text, share, "p").held_out)
    bytes.append(text.bytes, static_cast<std::size_t>(piece.begin), static_cast<std::size_t>(piece.end - piece.begin));
  return bytes;
}

/// Texts of a recipe without files on disk.
std::vector<LoadedSource> loaded(Text text) {
  DataSource source;
  source.name = "x";
  return {{source, std::make_shared<const Text>(std::move(text))}};
}

TEST(Validation, EveryHeldOutByteIsATargetOnce) {
  for (const std::int64_t length : {128, 1000}) {
    DataSection data;
    data.sequence_length = length;
    data.holdout = 0.5;
    const std::vector<LoadedSource> train = loaded(text_of(3 * K + K / 2, {K + 77, 3 * K + K / 2}));
    const std::string expected = held_out_bytes(*train[0].text, 0.5);
    const Validation validation(data, train, 1, 320);
    EXPECT_EQ(validation.num_bytes(), static_cast<std::int64_t>(expected.size()));
    EXPECT_EQ(validation.num_targets(), validation.num_bytes());
    const auto n = [&](std::int64_t bytes) { return (bytes + length - 1) / length; };
    EXPECT_EQ(validation.num_windows(), n(77) + n(K - 77) + n(K / 2));

    std::vector<std::int64_t> windows = validation.spread(0);
    ASSERT_EQ(std::ssize(windows), validation.num_windows());
    windows.push_back(-1);
    const Batch batch = validation.batch(windows);
    std::string targets;
    for (std::size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] >= 0) targets.push_back(static_cast<char>(batch.targets[i]));
      if (batch.mtp_targets[i] >= 0) {
        ASSERT_EQ(batch.mtp_tokens[i], batch.targets[i]);
      }
      // inside a document's windows the input is the target before
      if (i > 0 && batch.targets[i] >= 0 && batch.tokens[i] != 256 && batch.targets[i - 1] >= 0) {
        ASSERT_EQ(batch.tokens[i], batch.targets[i - 1]);
      }
    }
    EXPECT_EQ(targets, expected);
    EXPECT_EQ(batch.tokens[0], 256);
    for (std::size_t i = batch.targets.size() - static_cast<std::size_t>(length); i < batch.targets.size(); ++i)
      ASSERT_EQ(batch.targets[i], -1);
  }
}

TEST(Validation, SpreadIsEven) {
  DataSection data;
  data.sequence_length = 128;
  data.holdout = 0.5;
  const Validation validation(data, loaded(text_of(4 * K, {4 * K})), 1, 320);
  ASSERT_EQ(validation.num_windows(), 1024);
  EXPECT_EQ(validation.spread(4), (std::vector<std::int64_t>{0, 256, 512, 768}));
  EXPECT_EQ(validation.spread(2000).size(), 1024u);
}

TEST(Validation, FilesOfItsOwn) {
  const test::Folder folder;
  DataSection data;
  data.sequence_length = 4;
  data.validation = {DataSource{}};
  data.validation[0].name = "v";
  data.validation[0].path = folder.write("v.txt", "hello");
  const Validation validation(data, loaded(text_of(100, {100})), 1, 320);
  ASSERT_EQ(validation.num_windows(), 2);
  const Batch batch = validation.batch(validation.spread(0));
  EXPECT_EQ(batch.tokens, (std::vector<std::int32_t>{256, 'h', 'e', 'l', 'l', 256, 256, 256}));
  EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{'h', 'e', 'l', 'l', 'o', -1, -1, -1}));
  EXPECT_EQ(batch.mtp_targets, (std::vector<std::int32_t>{'e', 'l', 'l', 'o', -1, -1, -1, -1}));
  EXPECT_EQ(validation.num_bytes(), 5);
  data.validation[0].path = folder.path() + "/absent";
  EXPECT_EQ(message_of(ExitStatus::input, [&] { Validation(data, {}, 1, 320); }).find("data.validation.v.path: "), 0u);
}

TEST(Validation, NothingHeldOut) {
  DataSection data;
  data.sequence_length = 4;
  const Validation validation(data, loaded(text_of(100, {100})), 1, 320);
  EXPECT_EQ(validation.num_windows(), 0);
  EXPECT_TRUE(validation.spread(3).empty());
}

}  // namespace
}  // namespace fourmi

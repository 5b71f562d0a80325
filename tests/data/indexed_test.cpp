// Token files, read and written: the format byte by byte, and every lie that an .idx can tell.
#include "framework/data/indexed.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using test::Folder;
using test::message_of;

using Documents = std::vector<std::vector<std::int32_t>>;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// A pair of files as the format's description says, made without our writer. Documents are lists of sequences.
template <class T>
struct Pair {
  std::vector<std::vector<std::vector<T>>> documents;
  std::uint8_t code;

  std::string bin() const {
    std::string bytes;
    for (const auto& document : documents)
      for (const auto& sequence : document)
        for (const T id : sequence) put(bytes, id);
    return bytes;
  }
  std::string idx() const {
    std::string lengths, pointers, indices;
    std::uint64_t sequences = 0;
    std::int64_t pointer = 0;
    for (const auto& document : documents) {
      put(indices, static_cast<std::int64_t>(sequences));
      for (const auto& sequence : document) {
        put(lengths, static_cast<std::int32_t>(sequence.size()));
        put(pointers, pointer);
        pointer += static_cast<std::int64_t>(sequence.size() * sizeof(T));
        ++sequences;
      }
    }
    put(indices, static_cast<std::int64_t>(sequences));
    std::string bytes("MMIDIDX\0\0", 9);
    put(bytes, std::uint64_t{1});
    put(bytes, code);
    put(bytes, sequences);
    put(bytes, static_cast<std::uint64_t>(documents.size() + 1));
    return bytes + lengths + pointers + indices;
  }
};

Documents contents(const IndexedTokens& tokens) {
  Documents all;
  for (std::int64_t d = 0; d < tokens.num_documents(); ++d) {
    all.emplace_back(static_cast<std::size_t>(tokens.document_begin(d + 1) - tokens.document_begin(d)));
    tokens.read(tokens.document_begin(d), all.back());
  }
  return all;
}

template <class T>
void expect_read(std::uint8_t code, T large) {
  const Folder folder;
  const Pair<T> pair{{{{1, 2, 3}}, {{4}, {5, large}}, {}, {{}}, {{7}}}, code};
  folder.write("x.bin", pair.bin());
  folder.write("x.idx", pair.idx());
  const Documents expected{{1, 2, 3}, {4, 5, static_cast<std::int32_t>(large)}, {}, {}, {7}};
  for (const char* name : {"x", "x.bin", "x.idx"})
    EXPECT_EQ(contents(IndexedTokens(folder.path() + "/" + name)), expected) << name << " " << int{code};
}

TEST(Indexed, ReadsEveryIntegerType) {
  expect_read<std::uint8_t>(1, 255);
  expect_read<std::int8_t>(2, 127);
  expect_read<std::int16_t>(3, 32767);
  expect_read<std::int32_t>(4, 2147483647);
  expect_read<std::int64_t>(5, 2147483647);
  expect_read<std::uint16_t>(8, 65535);
}

TEST(Indexed, WritesTheFormatByteByByte) {
  const Folder folder;
  const Pair<std::uint16_t> pair{{{{1, 2, 3}}, {{}}, {{65535}}}, 8};
  IndexedWriter writer(folder.path() + "/x", TokenType::u16);
  for (const auto& document : pair.documents) {
    const std::vector<std::int32_t> ids(document[0].begin(), document[0].end());
    writer.add(ids);
    EXPECT_FALSE(fs::exists(folder.path() + "/x.bin"));
  }
  writer.finish();
  const auto bytes_of = [&](const char* name) {
    std::ifstream in(folder.path() + "/" + name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_EQ(bytes_of("x.bin"), pair.bin());
  EXPECT_EQ(bytes_of("x.idx"), pair.idx());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

TEST(Indexed, WhatIsWrittenIsRead) {
  const Folder folder;
  std::mt19937_64 random(1);
  for (const TokenType type :
       {TokenType::u8, TokenType::i8, TokenType::i16, TokenType::i32, TokenType::i64, TokenType::u16}) {
    const std::int64_t most = size_of(type) == 1 ? 127 : size_of(type) == 2 ? 32767 : 2147483647;
    Documents documents;
    IndexedWriter writer(folder.path() + "/y", type);
    for (int d = 0; d < 300; ++d) {
      documents.emplace_back(random() % 5000);
      for (std::int32_t& id : documents.back())
        id = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(most + 1));
      writer.add(documents.back());
    }
    writer.finish();
    const IndexedTokens tokens(folder.path() + "/y.bin");
    EXPECT_EQ(tokens.type(), type);
    EXPECT_EQ(tokens.num_tokens(), writer.num_tokens());
    EXPECT_EQ(contents(tokens), documents);
    for (const std::int64_t d : {0, 17, 299})
      if (!documents[static_cast<std::size_t>(d)].empty()) {
        EXPECT_EQ(tokens.document_of(tokens.document_begin(d)), d);
      }
  }
}

TEST(Indexed, AnUnfinishedWriterLeavesTheOldFiles) {
  const Folder folder;
  {
    IndexedWriter writer(folder.path() + "/x", TokenType::u16);
    writer.add(std::vector<std::int32_t>{1, 2});
    writer.finish();
  }
  {
    IndexedWriter writer(folder.path() + "/x", TokenType::u16);
    writer.add(std::vector<std::int32_t>{3});
  }
  EXPECT_EQ(contents(IndexedTokens(folder.path() + "/x")), (Documents{{1, 2}}));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
  IndexedWriter writer(folder.path() + "/x", TokenType::u16);
  message_of(ExitStatus::input, [&] { writer.add(std::vector<std::int32_t>{65536}); });
  message_of(ExitStatus::input, [&] { writer.add(std::vector<std::int32_t>{-1}); });
  message_of(ExitStatus::environment, [&] { IndexedWriter(folder.path() + "/none/x", TokenType::u16); });
}

TEST(Indexed, EveryLieIsNamed) {
  const Folder folder;
  const Pair<std::uint16_t> pair{{{{1, 2, 3}}, {{4}, {5, 6}}, {{7}}}, 8};
  const std::string good = pair.idx(), bin = folder.write("x.bin", pair.bin());
  const std::int64_t lengths = 34, pointers = 34 + 4 * 4, indices = pointers + 4 * 8;
  const auto set = [&](std::int64_t at, auto value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return bytes;
  };
  struct Lie {
    std::string idx;
    std::int64_t byte;
    const char* expected;
  };
  const std::vector<Lie> lies{
      {"", 0, "a header of 34 bytes"},
      {good.substr(0, 33), 33, "a header of 34 bytes"},
      {set(0, 'X'), 0, "MMIDIDX"},
      {set(9, std::uint64_t{2}), 9, "version 1"},
      {set(17, std::uint8_t{6}), 17, "integers"},
      {set(17, std::uint8_t{7}), 17, "integers"},
      {set(17, std::uint8_t{0}), 17, "integers"},
      {set(18, std::uint64_t{5}), 18, "12 x sequences"},
      {set(18, ~std::uint64_t{0}), 18, "12 x sequences"},
      {set(18, (~std::uint64_t{0} / 12) + 1), 18, "12 x sequences"},
      {set(26, std::uint64_t{1} << 61), 18, "12 x sequences"},
      {set(26, std::uint64_t{3}), 18, "12 x sequences"},
      {good + "x", 18, "12 x sequences"},
      {good.substr(0, good.size() - 1), 18, "12 x sequences"},
      {set(lengths + 4, std::int32_t{-1}), lengths + 4, "at least 0"},
      {set(lengths + 4, std::int32_t{2}), pointers + 16, "byte 10"},
      {set(pointers, std::int64_t{2}), pointers, "byte 0"},
      {set(pointers + 8, std::int64_t{-6}), pointers + 8, "byte 6"},
      {set(pointers + 24, std::int64_t{1} << 40), pointers + 24, "byte 12"},
      {set(indices, std::int64_t{1}), indices, "0 was expected"},
      {set(indices + 8, std::int64_t{-1}), indices + 8, "from 0 to 4"},
      {set(indices + 8, std::int64_t{5}), indices + 8, "from 0 to 4"},
      {set(indices + 16, std::int64_t{0}), indices + 16, "from 1 to 4"},
      {set(indices + 24, std::int64_t{3}), indices + 24, "4 (the number of sequences)"},
  };
  for (const Lie& lie : lies) {
    const std::string idx = folder.write("x.idx", lie.idx);
    const std::string message = message_of(ExitStatus::input, [&] { IndexedTokens tokens(bin); });
    EXPECT_EQ(message.find(idx + ": byte " + std::to_string(lie.byte) + ": "), 0u) << message;
    EXPECT_NE(message.find(lie.expected), std::string::npos) << message;
  }
  folder.write("x.idx", good);
  for (const std::string& bytes : {pair.bin().substr(1), pair.bin() + "x", std::string()}) {
    folder.write("x.bin", bytes);
    const std::string message = message_of(ExitStatus::input, [&] { IndexedTokens tokens(bin); });
    EXPECT_EQ(message.find(bin + ": "), 0u) << message;
    EXPECT_NE(message.find("14 were expected"), std::string::npos) << message;
  }
}

TEST(Indexed, NoDamageChangesTheTokens) {
  const Folder folder;
  const Pair<std::uint16_t> pair{{{{1, 2, 3}}, {{4}, {5, 6}}, {{7}}}, 8};
  const std::string good = pair.idx(), bin = folder.write("x.bin", pair.bin());
  folder.write("x.idx", good);
  // Where documents begin may be another story that holds together.
  const auto in_a_row = [&] {
    const IndexedTokens tokens(bin);
    std::vector<std::int32_t> all;
    for (const auto& document : contents(tokens)) all.insert(all.end(), document.begin(), document.end());
    return all;
  };
  const std::vector<std::int32_t> expected = in_a_row();
  std::mt19937_64 random(2);
  for (int round = 0; round < 400; ++round) {
    std::string bad = good;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
      bad[random() % bad.size()] = static_cast<char>(random() % 4 == 0 ? random() : 1u << random() % 8);
    folder.write("x.idx", bad);
    try {
      EXPECT_EQ(in_a_row(), expected) << round;
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), ExitStatus::input) << error.what();
    }
  }
}

TEST(Indexed, IdsOutsideOfTheirRangeAreNamed) {
  const Folder folder;
  const Pair<std::int64_t> pair{{{{1, 2, 3}}, {{4}, {5, -6}}, {{std::int64_t{1} << 40}}}, 5};
  folder.write("x.bin", pair.bin());
  folder.write("x.idx", pair.idx());
  const IndexedTokens tokens(folder.path() + "/x");
  std::vector<std::int32_t> out(3);
  std::string message = message_of(ExitStatus::input, [&] { tokens.read(3, out); });
  EXPECT_NE(message.find("/x.bin: token id -6 at offset 2 of document 1 (byte 40)"), std::string::npos) << message;
  message = message_of(ExitStatus::input, [&] { tokens.read(6, std::span(out).first(1)); });
  EXPECT_NE(message.find("token id 1099511627776 at offset 0 of document 2"), std::string::npos) << message;
}

TEST(Indexed, AChangeUnderTheReaderIsNoticed) {
  const Folder folder;
  const Pair<std::uint16_t> pair{{{{1, 2, 3}}}, 8};
  const std::string bin = folder.write("x.bin", pair.bin());
  folder.write("x.idx", pair.idx());
  std::vector<std::int32_t> out(3);
  {
    const IndexedTokens tokens(bin);
    EXPECT_NO_THROW(tokens.check_unchanged());
    fs::resize_file(bin, 2);
    const std::string message = message_of(ExitStatus::input, [&] { tokens.read(0, out); });
    EXPECT_NE(message.find(bin + ": byte 2: "), std::string::npos) << message;
    message_of(ExitStatus::input, [&] { tokens.check_unchanged(); });
  }
  folder.write("x.bin", pair.bin());
  {
    const IndexedTokens tokens(bin);
    fs::last_write_time(bin, fs::file_time_type::clock::now() + std::chrono::seconds(5));
    message_of(ExitStatus::input, [&] { tokens.check_unchanged(); });
  }
  // Replaced under its name: what was opened is still what is read.
  const IndexedTokens tokens(bin);
  folder.write("aside", "other");
  fs::rename(folder.path() + "/aside", bin);
  tokens.read(0, out);
  EXPECT_EQ(out, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_NO_THROW(tokens.check_unchanged());
}

TEST(InputFile, WhatIsNoReadableFileIsSaidAtOnce) {
  const Folder folder;
  const std::string fifo = folder.path() + "/fifo", loop = folder.path() + "/loop",
                    locked = folder.write("locked", "x");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  fs::create_symlink(loop, loop);
  const auto said = [](const std::string& path) {
    return message_of(ExitStatus::input, [&] { InputFile file(path); });
  };
  EXPECT_NE(said(fifo).find("a FIFO"), std::string::npos);
  EXPECT_NE(said(loop).find("symbolic links"), std::string::npos);
  EXPECT_NE(said(folder.path()).find("a folder"), std::string::npos);
  EXPECT_NE(said("/dev/zero").find("a device"), std::string::npos);
  EXPECT_NE(said(folder.path() + "/none").find("No such file"), std::string::npos);
  fs::permissions(locked, fs::perms::none);
  if (geteuid() != 0) {
    EXPECT_NE(said(locked).find("Permission denied"), std::string::npos);
  }
}

}  // namespace
}  // namespace fourmi

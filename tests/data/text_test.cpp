#include "framework/data/text.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

using test::Folder;
using test::gzip;
using test::message_of;

std::string letters(std::size_t n) {
  std::string s(n, ' ');
  unsigned x = 1;
  for (char& c : s) c = static_cast<char>('a' + (x = x * 1103515245u + 12345u) / 65536u % 26u);
  return s;
}

TEST(Text, PlainGzipAndDictzipAreTheSameText) {
  const Folder folder;
  const std::string text = letters(300'000);
  EXPECT_EQ(read_text(folder.write("a.txt", text), "p").bytes, text);
  EXPECT_EQ(read_text(folder.write("a.txt.gz", gzip(text)), "p").bytes, text);
  // dictzip: one member with an extra field and a flush after each piece
  EXPECT_EQ(read_text(folder.write("a.dict.dz", test::dictzip(text)), "p").bytes, text);
}

TEST(Text, AllMembersAreRead) {
  const Folder folder;
  const std::string path = folder.write("a.gz", gzip("one ") + gzip("") + gzip("two") + std::string(512, '\0'));
  EXPECT_EQ(read_text(path, "p").bytes, "one two");
}

TEST(Text, CorruptGzipNamesFileAndOffset) {
  const Folder folder;
  const std::string good = gzip(letters(200'000));
  for (const std::size_t cut : {std::size_t{2}, std::size_t{9}, good.size() / 2, good.size() - 1}) {
    const std::string path = folder.write("cut.gz", good.substr(0, cut));
    const std::string message = message_of(ExitStatus::input, [&] { read_text(path, "p"); });
    EXPECT_NE(message.find(path + ": byte " + std::to_string(cut)), std::string::npos) << message;
  }
  for (std::size_t at = 2; at < good.size(); at += good.size() / 50) {
    if (at >= 4 && at < 10) continue;  // time and system: not covered by any checksum
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    const std::string path = folder.write("flip.gz", bad);
    const std::string message = message_of(ExitStatus::input, [&] { read_text(path, "p"); });
    EXPECT_NE(message.find(path + ": byte "), std::string::npos) << at << ": " << message;
  }
  const std::string tail = folder.write("tail.gz", good + "rubbish");
  EXPECT_NE(message_of(ExitStatus::input, [&] { read_text(tail, "p"); }).find("byte " + std::to_string(good.size())),
            std::string::npos);
}

TEST(Text, WhatIsNoTextIsRefused) {
  const Folder folder;
  for (const auto& [name, bytes] : {std::pair<std::string, std::string>{"a.gz", "plain"},
                                    {"b.gz", ""},
                                    {"c.xz",
                                     "\xfd"
                                     "7zXZ and so on"},
                                    {"d.txt", "\x28\xb5\x2f\xfd and so on"},
                                    {"empty.txt", ""}}) {
    const std::string path = folder.write(name, bytes);
    EXPECT_NE(message_of(ExitStatus::input, [&] { read_text(path, "p"); }).find(path), std::string::npos) << name;
  }
}

TEST(Text, FoldersAndGlobsInByteOrder) {
  const Folder folder;
  folder.write("b.txt", "B");
  folder.write("a/z.txt", "Z");
  folder.write("a/y.txt.gz", gzip("Y"));
  folder.write(".hidden", "no");
  folder.write("a/.git/x", "no");
  folder.write("a/empty.txt", "");
  const Text all = read_text(folder.path(), "p");
  EXPECT_EQ(all.bytes, "YZB");
  EXPECT_EQ(all.file_ends, (std::vector<std::int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(read_text(folder.path() + "/a/[yz]*", "p").bytes, "YZ");
  folder.write("odd[1].txt", "literal");
  EXPECT_EQ(read_text(folder.path() + "/odd[1].txt", "p").bytes, "literal");
}

TEST(Text, AbsentIsSaidWithTheRemedy) {
  const Folder folder;
  std::string message =
      message_of(ExitStatus::input, [] { read_text("/usr/share/dictd/nosuch.dict.dz", "data.train.x.path"); });
  EXPECT_NE(message.find("apt-get install dict-nosuch"), std::string::npos) << message;
  EXPECT_EQ(message.find("data.train.x.path: /usr/share/dictd/nosuch.dict.dz"), 0u) << message;
  message = message_of(ExitStatus::input, [&] { read_text(folder.path() + "/no*", "p"); });
  EXPECT_EQ(message.find("apt-get"), std::string::npos) << message;
  std::filesystem::create_directory(folder.path() + "/none");
  message_of(ExitStatus::input, [&] { read_text(folder.path() + "/none", "p"); });
}

TEST(Text, ChecksumSeesEveryByte) {
  Text a, b;
  a.bytes = b.bytes = letters(1000);
  EXPECT_EQ(a.checksum(), b.checksum());
  b.bytes[999] = '!';
  EXPECT_NE(a.checksum(), b.checksum());
  a.bytes = "123456789";
  EXPECT_EQ(a.checksum(), 0xcbf43926u);  // the CRC-32 check value
}

}  // namespace
}  // namespace fourmi

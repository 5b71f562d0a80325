// The log: whatever a kill leaves is cut off, whatever else is changed is found.
#include "framework/harvest/log.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "kernels/runtime/error.h"
#include "tests/run/temp_folder.h"

namespace fourmi::testing {
namespace {

using harvest::Log;

std::vector<std::string> records_of(const std::filesystem::path& path, std::int64_t* cut = nullptr) {
  std::vector<std::string> all;
  const Log log(path, [&](std::int64_t, const std::string& text) { all.push_back(text); });
  if (cut != nullptr) *cut = log.cut_bytes();
  return all;
}

struct Written {
  TempFolder folder;
  std::filesystem::path path = folder.path() / "log";
  std::vector<std::string> texts{"first", "", "a third one that is longer", std::string(30, 'x'), "last"};
  std::vector<std::size_t> ends;
  std::string bytes;

  Written() {
    Log log(path, [](std::int64_t, const std::string&) {});
    for (const std::string& text : texts) {
      EXPECT_EQ(log.read(log.append(text)), text);
      ends.push_back(static_cast<std::size_t>(log.size()));
    }
    log.sync();
    bytes = text_of(path);
  }
};

TEST(HarvestLog, IsReadAsItWasWritten) {
  Written w;
  EXPECT_EQ(records_of(w.path), w.texts);
  {
    Log log(w.path, [](std::int64_t, const std::string&) {});
    log.append("and on");
  }
  w.texts.push_back("and on");
  EXPECT_EQ(records_of(w.path), w.texts);
}

TEST(HarvestLog, EveryCutLeavesTheRecordsBeforeIt) {
  Written w;
  for (std::size_t size = 0; size <= w.bytes.size(); size += 1 + size % 3) {
    put_text(w.path, w.bytes.substr(0, size));
    std::size_t whole = 0;
    while (whole < w.ends.size() && w.ends[whole] <= size) ++whole;
    std::int64_t cut = -1;
    EXPECT_EQ(records_of(w.path, &cut),
              std::vector<std::string>(w.texts.begin(), w.texts.begin() + static_cast<long>(whole)));
    EXPECT_EQ(static_cast<std::size_t>(cut), size - (whole == 0 ? 0 : w.ends[whole - 1]));
    EXPECT_EQ(text_of(w.path).size(), size - static_cast<std::size_t>(cut)) << "the next record follows a whole one";
  }
}

TEST(HarvestLog, ZerosAfterAPowerFailureAreCutOff) {
  Written w;
  put_text(w.path, w.bytes + std::string(5000, '\0'));
  EXPECT_EQ(records_of(w.path), w.texts);
  std::string torn = w.bytes;
  std::fill(torn.end() - 3, torn.end(), '\0');
  put_text(w.path, torn);
  EXPECT_EQ(records_of(w.path).size(), w.texts.size() - 1);
}

TEST(HarvestLog, EveryChangedByteIsFoundAndItsRecordNamed) {
  Written w;
  std::mt19937_64 random(9);
  for (std::size_t at = 0; at < w.bytes.size(); ++at) {
    std::string changed = w.bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 + random() % 255));
    if (changed[at] == '\0') changed[at] = '!' == w.bytes[at] ? '?' : '!';
    put_text(w.path, changed);
    std::size_t begin = 0;
    for (const std::size_t end : w.ends)
      if (end <= at) begin = end;
    try {
      records_of(w.path);
      ADD_FAILURE() << "byte " << at << " was changed";
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      EXPECT_NE(std::string(e.what()).find("at byte " + std::to_string(begin) + " of"), std::string::npos)
          << at << " " << e.what();
    }
    EXPECT_EQ(text_of(w.path), changed) << "damage is not cut off";
  }
}

TEST(HarvestLog, ARecordThatIsMissingOrMovedIsFound) {
  Written w;
  const std::string first = w.bytes.substr(0, w.ends[0]), second = w.bytes.substr(w.ends[0], w.ends[1] - w.ends[0]);
  const std::string rest = w.bytes.substr(w.ends[1]);
  for (const std::string& bytes : {second + rest, first + rest, first + first + second + rest, second + first + rest}) {
    put_text(w.path, bytes);
    EXPECT_THROW(records_of(w.path), Error);
  }
}

TEST(HarvestLog, RandomBytesAreNeverTakenForRecords) {
  Written w;
  std::mt19937_64 random(3);
  for (int round = 0; round < 40; ++round) {
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    put_text(w.path, round % 2 ? w.bytes + bytes : bytes);
    try {
      EXPECT_EQ(records_of(w.path).size(), round % 2 ? w.texts.size() : 0);
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
    }
  }
}

TEST(HarvestLog, ThreadsThatWaitTogetherShareAnFsync) {
  TempFolder folder;
  constexpr int num_threads = 8, each = 20;
  std::int64_t syncs = 0;
  {
    Log log(folder.path() / "log", [](std::int64_t, const std::string&) {});
    std::vector<std::jthread> threads;
    for (int t = 0; t < num_threads; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < each; ++i) {
          log.append(std::to_string(t));
          log.sync();
        }
      });
    threads.clear();
    syncs = log.num_syncs();
  }
  EXPECT_EQ(records_of(folder.path() / "log").size(), std::size_t{num_threads * each});
  EXPECT_LE(syncs, num_threads * each);
  EXPECT_GT(syncs, 0);
}

}  // namespace
}  // namespace fourmi::testing

// What is proven: any change of a byte, a lost line or another order in a lineage is found, and the entry is named.
#include "tests/ledger/support.h"

namespace fourmi {
namespace {

using testing::Folder;
using testing::read_file;
using testing::SmallLedger;
using testing::write_file;

/// What a verification of the lineage says; empty: nothing is wrong.
std::string problem(const std::string& text, const std::string& head) {
  const LedgerFile ledger(text);
  if (!ledger.damage().empty())
    return fmt::format("line {}: {}", ledger.damage().front().line, ledger.damage().front().what);
  try {
    trace(ledger, head, "ledger");
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    return e.cause();
  }
  return "";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(LedgerChain, AnEntryIsItsOwnCanonicalLine) {
  const LedgerEntry root = make_entry(nullptr, "run", R"({ "name" : "a\u00e9\n", "b": [1, 2], "a": {"z": 1, "y": 2} })",
                                      "2026-01-01T00:00:00Z");
  EXPECT_EQ(root.payload, "{\"a\":{\"y\":2,\"z\":1},\"b\":[1,2],\"name\":\"a\xc3\xa9\\n\"}");
  const std::string line = to_line(root);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(root.sha256, sha256("{\"index\":0,\"payload\":" + root.payload +
                                ",\"previous\":null,\"time\":\"2026-01-01T00:00:00Z\",\"type\":\"run\"}"));
  const auto again = parse_line(line);
  ASSERT_TRUE(again);
  EXPECT_EQ(to_line(*again), line);
  const LedgerEntry child = make_entry(&root, "launch", "{}", "2026-01-01T00:00:01Z");
  EXPECT_EQ(child.index, 1);
  EXPECT_EQ(child.previous, root.sha256);
}

TEST(LedgerChain, EveryByteFlipIsFound) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  const std::string good = read_file(small.path);
  ASSERT_EQ(problem(good, small.head), "");
  ASSERT_GT(good.size(), 2000u);
  for (std::size_t i = 0; i < good.size(); ++i) {
    // Bit by bit in turn, so that letters become other letters, digits other digits, and case changes.
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    ASSERT_NE(problem(bad, small.head), "") << "byte " << i;
  }
}

TEST(LedgerChain, EveryLostLineOfTheLineageIsFoundAndItsNameSaid) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  const std::vector<std::string> lines = lines_of(read_file(small.path));
  const LedgerFile ledger(read_file(small.path));
  const auto lineage = ledger.lineage(small.head, "ledger");
  ASSERT_LT(lineage.size(), lines.size());  // the abandoned branch is not in it
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::string> fewer = lines;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    const LedgerEntry lost = *parse_line(lines[i]);
    const bool in_lineage =
        std::any_of(lineage.begin(), lineage.end(), [&](const LedgerEntry* e) { return e->sha256 == lost.sha256; });
    const std::string said = problem(joined(fewer), small.head);
    if (in_lineage) {
      EXPECT_NE(said.find(short_digest(lost.sha256)), std::string::npos) << said;
    }
  }
}

TEST(LedgerChain, EverySwapOfLinesWithTheirParentsIsFound) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  const std::vector<std::string> lines = lines_of(read_file(small.path));
  for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
    std::vector<std::string> swapped = lines;
    std::swap(swapped[i], swapped[i + 1]);
    if (parse_line(lines[i + 1])->previous == parse_line(lines[i])->sha256) {
      EXPECT_NE(problem(joined(swapped), small.head), "") << "lines " << i << " and " << i + 1;
    }
  }
  std::vector<std::string> twice = lines;
  twice.push_back(lines[2]);
  EXPECT_NE(problem(joined(twice), small.head).find("second time"), std::string::npos);
}

TEST(LedgerChain, AForgedEntryWithARightDigestDoesNotFit) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  LedgerFile ledger(read_file(small.path));
  const LedgerEntry* head = ledger.find(small.head);
  const auto forged = [&](std::string_view type, const std::string& payload) {
    LedgerFile copy(read_file(small.path));
    const LedgerEntry entry = make_entry(head, type, payload, "2026-01-01T00:00:00Z");
    copy.add(entry);
    try {
      trace(copy, entry.sha256, "ledger");
      return std::string();
    } catch (const Error& e) {
      return e.cause();
    }
  };
  EXPECT_NE(forged("tokens", to_payload(TokensFact{14, 16, {}})), "");  // a gap
  EXPECT_NE(forged("tokens", to_payload(TokensFact{8, 16, {}})), "");   // twice
  EXPECT_NE(forged("tokens", to_payload(TokensFact{
                                 12, 16, {{dataset_fact(*ledger.lineage(small.head, "")[1], "").id() + "0", 1}}})),
            "");
  EXPECT_NE(forged("checkpoint", to_payload(CheckpointFact{12, 181, "r"})), "");  // sums
  EXPECT_NE(forged("launch", to_payload(testing::launch(3, 8))), "");             // from another step
  EXPECT_NE(forged("run", to_payload(RunFact{"x", "", ""})), "");                 // without model.from
  EXPECT_NE(forged("tokens", R"({"from_step":12,"to_step":16,"sources":[{"dataset":"x","tokens":-5}]})"), "");
  EXPECT_NE(forged("tokens", R"({"from_step":12,"to_step":16})"), "");
  EXPECT_EQ(forged("something-new", "{}"), "");  // of a later version
  EXPECT_EQ(forged("launch", to_payload(testing::launch(3, 12))), "");
}

TEST(LedgerChain, HostileTextEndsInDamageNotInTrouble) {
  for (const std::string& text :
       {std::string("\n\n\n"), std::string("{}\n"), std::string(200000, '['), std::string("null\n"),
        std::string("\0\0\n", 3), "{\"a\":" + std::string(5000, '{') + "\n", std::string("{\"index\":1e400}\n")}) {
    const LedgerFile ledger(text);
    EXPECT_TRUE(ledger.entries().empty());
    EXPECT_TRUE(!ledger.damage().empty() || ledger.torn_bytes() > 0);
  }
}

TEST(LedgerChain, TornLastLinesAreCutOffAndWholeOnesKept) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  const std::string good = read_file(small.path);
  const std::size_t last = good.rfind('\n', good.size() - 2) + 1;
  for (std::size_t cut = last; cut < good.size(); cut += 37) {
    write_file(small.path, good.substr(0, cut));
    LedgerWriter writer(small.path);
    EXPECT_EQ(writer.cut_off(), cut - last);
    EXPECT_EQ(read_file(small.path), good.substr(0, last));
  }
  write_file(small.path, good.substr(0, good.size() - 1));  // only the line break is missing
  LedgerWriter writer(small.path);
  EXPECT_EQ(writer.cut_off(), 0u);
  EXPECT_EQ(read_file(small.path), good);
  RunLineage lineage(writer, small.head);
  lineage.say(LaunchFact::type, to_payload(testing::launch(3, 12)));
  EXPECT_EQ(problem(read_file(small.path), lineage.head()), "");
}

TEST(LedgerChain, AppendingIsRefusedWhereNothingCanBeWritten) {
  const Folder folder;
  EXPECT_THROW(LedgerWriter(folder / "absent/ledger.jsonl"), Error);
  std::filesystem::create_directory(folder / "ledger.jsonl");
  EXPECT_THROW(LedgerWriter(folder / "ledger.jsonl"), Error);
}

}  // namespace
}  // namespace fourmi

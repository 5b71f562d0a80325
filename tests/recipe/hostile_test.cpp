// Files made to hurt: they are refused, fast, and never crash.
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::issues_of;

/// Processor time, so that a busy machine fails no test.
double seconds_for(const std::string& text, std::vector<RecipeIssue>& issues) {
  const std::clock_t begin = std::clock();
  issues = issues_of(text);
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

std::string repeated(const std::string& unit, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += unit;
  return out;
}

TEST(Hostile, AliasBomb) {
  std::string text = "a: &a [1,1,1,1,1,1,1,1,1,1]\n";
  std::string previous = "a";
  for (char name = 'b'; name <= 'i'; ++name) {
    text += fmt::format("{0}: &{0} [", name);
    for (int i = 0; i < 10; ++i) text += fmt::format("{}*{}", i > 0 ? "," : "", previous);
    text += "]\n";
    previous = name;
  }
  std::vector<RecipeIssue> issues;
  EXPECT_LT(seconds_for(text, issues), 1.0);
  EXPECT_NE(testing::all_of(issues).find("recipe:1:4: found an anchor (&)"), std::string::npos);
  EXPECT_NE(testing::all_of(issues).find("found an alias (*)"), std::string::npos);
  EXPECT_LE(issues.size(), 101u);
  EXPECT_LT(seconds_for("&a [*a]\n", issues), 1.0);
  EXPECT_FALSE(issues.empty());
}

TEST(Hostile, Nesting) {
  std::vector<RecipeIssue> issues;
  for (const std::string& text :
       {std::string(10000, '[') + std::string(10000, ']'), std::string(10000, '['), "run: " + std::string(500000, '{'),
        "run: " + std::string(10000, '[') + "1" + std::string(10000, ']'), repeated("- ", 100000),
        repeated("? ", 100000), repeated("{a: ", 10000) + repeated("}", 10000)}) {
    EXPECT_LT(seconds_for(text, issues), 1.0) << text.substr(0, 20);
    ASSERT_EQ(issues.size(), 1u) << text.substr(0, 20);
    EXPECT_NE(issues[0].text().find("found more than 32 nested levels"), std::string::npos) << issues[0].text();
  }
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_LT(seconds_for(lines, issues), 1.0);
  EXPECT_EQ(issues[0].place, "recipe:33:33");
  const auto nested = [](int levels) {
    const auto count = static_cast<std::size_t>(levels);
    return testing::with("steps: 10", "steps: " + std::string(count, '[') + std::string(count, ']'));
  };
  EXPECT_NE(issues_of(nested(30))[0].text().find("found a list as `run.steps`"), std::string::npos);
  EXPECT_NE(issues_of(nested(31))[0].text().find("found more than 32 nested levels"), std::string::npos);
}

TEST(Hostile, SizeAndNumber) {
  std::vector<RecipeIssue> issues;
  const std::string comment = testing::small_recipe() + "#" + std::string(1 << 20, 'x');
  EXPECT_LT(seconds_for(comment, issues), 1.0);
  ASSERT_EQ(issues.size(), 1u);
  EXPECT_NE(issues[0].text().find("found more than 1 MiB"), std::string::npos);
  EXPECT_TRUE(issues_of(testing::small_recipe() + "#" + std::string(1000000, 'x')).empty());

  EXPECT_LT(seconds_for("a: [" + repeated("1,", 200000) + "]", issues), 2.0);
  EXPECT_NE(issues[0].text().find("found more than 100000 values"), std::string::npos);
  std::string keys;
  for (int i = 0; i < 40000; ++i) keys += fmt::format("key_number_{}: 1\n", i);
  EXPECT_LT(seconds_for(keys, issues), 2.0);
  EXPECT_EQ(issues.size(), 101u);
  EXPECT_NE(issues.back().text().find("more errors"), std::string::npos);
  EXPECT_LT(seconds_for(repeated("run: 1\n", 40000), issues), 2.0);
  EXPECT_LT(seconds_for(std::string(500000, 'k') + ": 1\n", issues), 2.0);
  EXPECT_LT(seconds_for(testing::small_recipe() + "\"" + std::string(500000, 'k') + "\": 1\n", issues), 2.0);
  EXPECT_LT(issues[0].text().size(), 500u);
}

TEST(Hostile, NoText) {
  for (const std::string& text :
       {std::string("run:\0 1", 7),
        std::string("\xff\xfe"
                    "r\0u\0n\0",
                    8),
        std::string("a: \x04"), std::string("a: \xc0\x80"), std::string("a: \xed\xa0\x80"),
        std::string("a: \xf4\x90\x80\x80"), std::string("a: \xe2\x82"), std::string("\x7f: 1")}) {
    const auto issues = issues_of(text);
    ASSERT_EQ(issues.size(), 1u);
    EXPECT_NE(issues[0].text().find("expected UTF-8 text"), std::string::npos) << issues[0].text();
  }
  EXPECT_EQ(issues_of("").at(0).text(), "recipe:1:1: found an empty file, expected a recipe: sections with keys");
  EXPECT_TRUE(issues_of("\xEF\xBB\xBF" + testing::small_recipe()).empty());  // a byte order mark
  std::string windows;
  for (const char c : testing::small_recipe()) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  EXPECT_TRUE(issues_of(windows).empty());
}

/// One random change: bytes replaced, removed, inserted; lines swapped, doubled, removed; numbers and words exchanged.
std::string mutated(std::string text, std::mt19937_64& random) {
  static const std::vector<std::string> kBits = {"[",    "]",    "{",    "}",   ": ",        "- ",  "&a ",   "*a ",
                                                 "!t ",  "\"",   "'",    "|\n", ">\n",       "010", "1e999", "-1",
                                                 "null", "true", "\n",   "  ",  "\t",        "#",   ",",     "---\n",
                                                 "<<: ", "? ",   "\xff", "é",   "base: x\n", "0x1", ".nan",  "%"};
  const auto at = [&](std::size_t size) { return size == 0 ? 0 : random() % size; };
  const std::size_t position = at(text.size());
  switch (random() % 6) {
    case 0:
      text[position] = static_cast<char>(random());
      break;
    case 1:
      text.erase(position, 1 + random() % 20);
      break;
    case 2:
      text.insert(position, kBits[at(kBits.size())]);
      break;
    case 3: {
      const std::string slice = text.substr(position, random() % 60);
      text.insert(at(text.size()), slice);
      break;
    }
    case 4:
      text.replace(position, random() % 6, kBits[at(kBits.size())]);
      break;
    default: {
      const std::size_t begin = text.rfind('\n', position), end = text.find('\n', position);
      if (begin == std::string::npos || end == std::string::npos) break;
      const std::string line = text.substr(begin, end - begin);
      text.erase(begin, end - begin);
      text.insert(std::min(text.size(), text.find('\n', at(text.size()))), line);
    }
  }
  return text;
}

TEST(Hostile, MutationsOfTinyAreReadOrRefused) {
  const std::string tiny = testing::contents(testing::root() / "recipes/tiny.yaml");
  std::mt19937_64 random(1913);
  int valid = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = tiny;
    for (std::uint64_t k = 0; k <= random() % 3; ++k) text = mutated(text, random);
    try {
      const Recipe r = parse_recipe(text);
      ++valid;
      EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << text;
    } catch (const RecipeErrors& errors) {
      ++refused;
      EXPECT_EQ(errors.status(), ExitStatus::usage);
      for (const RecipeIssue& issue : errors.issues()) {
        EXPECT_FALSE(issue.place.empty());
        EXPECT_EQ(issue.text().find('\n'), std::string::npos) << issue.text();
      }
    }
  }
  EXPECT_GT(valid, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace fourmi

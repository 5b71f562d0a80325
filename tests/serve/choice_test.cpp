// Text as its tokens come: whole characters, nothing that belongs to a stop text.
#include "framework/serve/choice.h"

#include <gtest/gtest.h>

#include "framework/tokenizer/bytes.h"
#include "tests/serve/small_service.h"

namespace fourmi {
namespace {

std::vector<std::string> pieces(Choice& choice, const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> shown_pieces;
  for (std::int32_t t : tokenizer.encode(text)) {
    if (choice.stopped()) break;
    shown_pieces.push_back(choice.push({.token = t}));
  }
  shown_pieces.push_back(choice.finish());
  return shown_pieces;
}

TEST(Choice, EndsBeforeAStopTextHoweverItsTokensAreCut) {
  const Letters letters(27);
  const std::vector<std::string> stops{"cab", "dddd"};
  Choice choice(letters, stops);
  EXPECT_EQ(pieces(choice, letters, "abcacabx"), (std::vector<std::string>{"a", "b", "", "", "ca", "", "", ""}));
  EXPECT_TRUE(choice.stopped());
  EXPECT_EQ(choice.text(), "abca");
  EXPECT_EQ(choice.tokens().size(), 4U);
  EXPECT_EQ(choice.num_written(), 7);
}

TEST(Choice, ShowsWhatWasHeldBackWhenNoStopTextComes) {
  const Letters letters(27);
  const std::vector<std::string> stops{"dddd"};
  Choice choice(letters, stops);
  EXPECT_EQ(pieces(choice, letters, "addd"), (std::vector<std::string>{"a", "", "", "", "ddd"}));
  EXPECT_FALSE(choice.stopped());
  EXPECT_EQ(choice.text(), "addd");
}

TEST(Choice, AnEchoStopsNothing) {
  const Letters letters(27);
  const std::vector<std::string> stops{"ab"};
  Choice choice(letters, stops);
  for (std::int32_t t : letters.encode("xaby")) choice.echo({.token = t});
  EXPECT_FALSE(choice.stopped());
  EXPECT_EQ(pieces(choice, letters, "zab"), (std::vector<std::string>{"z", "", "", ""}));
  EXPECT_EQ(choice.text(), "xabyz");
  EXPECT_EQ(choice.num_written(), 3);
}

TEST(Choice, ShowsWholeCharactersAndPlacesTokensByThem) {
  const ByteTokenizer bytes;
  const std::vector<std::string> stops;
  Choice choice(bytes, stops);
  EXPECT_EQ(pieces(choice, bytes, "é!"), (std::vector<std::string>{"", "é", "!", ""}));
  const auto tokens = choice.tokens();
  ASSERT_EQ(tokens.size(), 3U);
  EXPECT_EQ(tokens[2].offset, 1);
  EXPECT_EQ(shown(bytes, tokens[0].token.token), "bytes:\\xc3");
  EXPECT_EQ(shown(bytes, tokens[2].token.token), "!");
}

}  // namespace
}  // namespace fourmi

// Bytes that are learned become tokens that are learned: those that begin inside.
#include "framework/chat/token_mask.h"

#include <gtest/gtest.h>

#include "framework/tokenizer/bytes.h"

namespace fourmi {
namespace {

/// Words of a text, each with the spaces behind it, as ids; it may write capitals as small letters first.
class Words final : public Tokenizer, public Encoder {
 public:
  explicit Words(bool small) : small_(small) {}
  std::string name() const override { return "words"; }
  std::unique_ptr<Encoder> make_encoder() const override { return std::make_unique<Words>(*this); }
  void append(std::string_view text, std::vector<std::int32_t>& out) override {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.size(), text.find(' ', at) + 1 ? text.find(' ', at) + 1 : text.size());
      std::string word(text.substr(at, end - at));
      if (small_)
        for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      const auto id = std::find(known().begin(), known().end(), word) - known().begin();
      if (id == std::ssize(known())) known().push_back(word);
      out.push_back(static_cast<std::int32_t>(id) + 1);
      at = end;
    }
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids)
      if (id > 0) text += known()[static_cast<std::size_t>(id) - 1];
    return text;
  }
  std::int32_t end_of_document() const override { return 0; }
  std::int64_t vocab_size() const override { return 1000; }

 private:
  static std::vector<std::string>& known() {
    static std::vector<std::string> words;
    return words;
  }
  bool small_;
};

std::string mask_of(const std::string& text, std::vector<std::pair<std::size_t, std::size_t>> spans, Words tokenizer) {
  std::vector<std::int32_t> ids;
  tokenizer.append(text, ids);
  const auto mask = mask_tokens(text, ids, spans, tokenizer, tokenizer, "");
  if (!mask) return "none";
  std::string out;
  for (const bool one : *mask) out += one ? '1' : '0';
  return out;
}

TEST(TokenMask, ATokenIsLearnedWhereItBegins) {
  EXPECT_EQ(mask_of("one two three four", {{4, 8}}, Words(false)), "0100");
  EXPECT_EQ(mask_of("one two three four", {{5, 14}}, Words(false)), "0010");  // the second begins before
  EXPECT_EQ(mask_of("one two three four", {{4, 9}, {14, 18}}, Words(false)), "0111");
}

TEST(TokenMask, ATokenizerThatChangesTheTextIsFollowedBetweenItsWords) {
  EXPECT_EQ(mask_of("One Two Three Four", {{4, 8}}, Words(true)), "0100");
  EXPECT_EQ(mask_of("One Two Three Four", {{4, 18}}, Words(true)), "0111");
  EXPECT_EQ(mask_of("One Two Three Four", {{5, 18}}, Words(true)), "none");  // inside of a word
}

}  // namespace
}  // namespace fourmi

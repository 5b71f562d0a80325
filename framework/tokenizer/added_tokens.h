// Tokens that are found in a text as they are, before it is cut into words: <|endoftext|> and its like.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/regex.h"

namespace fourmi {

/// One of a tokenizer.json's added_tokens, by its names.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;                 ///< not part of any text; otherwise treated like the others
  bool normalized = false;              ///< sought in the normalized text, the others in the text as it is
  bool single_word = false;             ///< only where no letter, mark, digit or connector stands beside it
  bool lstrip = false, rstrip = false;  ///< takes the white space before, after it along
};

/// Finds the leftmost token, and of those that begin there the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// A stretch of a text: a token, or what lies between two.
  struct Part {
    std::string_view text;
    std::int32_t token;  ///< -1: none
  };
  /// The text as parts, in order and without empty ones between tokens.
  void cut(std::string_view text, std::vector<Part>& parts) const;
  bool empty() const { return tokens_.empty(); }

 private:
  struct Node {
    std::int32_t token = -1;  ///< index into tokens_ of the one that ends here
    std::vector<std::pair<char, std::int32_t>> next;
  };
  /// The longest token that text[at, end) begins with; -1: none.
  std::int32_t longest(std::string_view text, std::size_t at) const;
  bool stands_alone(std::string_view text, TextSpan match) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  bool begins_[256] = {};  ///< whether any token begins with this byte
};

}  // namespace fourmi

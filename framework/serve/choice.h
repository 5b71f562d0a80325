// One answer as its tokens come: text that may be shown, ends at stop texts, and what is said of each token.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "framework/serve/writing.h"
#include "framework/tokenizer/stream_decoder.h"

namespace fourmi {

class Choice {
 public:
  /// `stops`: texts that end the answer and do not belong to it. Both outlive this. `continues`: it goes on with a text
  /// that is not a part of it.
  Choice(const Tokenizer& tokenizer, const std::vector<std::string>& stops, bool continues = false)
      : tokenizer_(tokenizer), stops_(stops), decoder_(tokenizer, continues), begins_text_(!continues) {}

  /// A token of the prompt, of an answer that begins with its prompt: no stop text is looked for.
  void echo(const WrittenToken& token);
  /// What may be shown after this token: nothing that may turn out to be the beginning of a stop text.
  std::string push(const WrittenToken& token);
  bool stopped() const { return stopped_; }
  /// What is left to show.
  std::string finish();

  const std::string& text() const { return text_; }  ///< all that was shown
  std::int64_t num_written() const { return num_written_; }
  /// The tokens whose text begins inside of text(), with the place of each: characters before it.
  struct Placed {
    WrittenToken token;
    std::int64_t offset = 0;
  };
  std::vector<Placed> tokens() const;

 private:
  void remember(const WrittenToken& token);
  std::string take(const std::string& piece);

  const Tokenizer& tokenizer_;
  const std::vector<std::string>& stops_;
  StreamDecoder decoder_;
  std::string text_, held_;
  std::vector<WrittenToken> tokens_;
  std::vector<std::size_t> begins_;  ///< bytes of text before each token
  std::size_t bytes_ = 0;            ///< of all tokens so far
  std::int64_t num_written_ = 0;
  bool stopped_ = false;
  bool begins_text_;  ///< what came so far stands for nothing
};

/// What a token adds to a text, as a text that is UTF-8: "bytes:\x.." where they are none by themselves.
std::string shown(const Tokenizer& tokenizer, std::int32_t token);

}  // namespace fourmi

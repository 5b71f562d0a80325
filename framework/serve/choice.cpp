#include "framework/serve/choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "framework/tokenizer/utf8.h"

namespace fourmi {

namespace {

/// The end of `text` that a stop text may begin with, in bytes.
std::size_t held_back(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t most = 0;
  for (const std::string& stop : stops)
    for (std::size_t n = std::min(text.size(), stop.size() - 1); n > most; --n)
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) most = n;
  return most;
}

std::int64_t num_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
}

}  // namespace

void Choice::remember(const WrittenToken& token) {
  tokens_.push_back(token);
  begins_.push_back(bytes_);
  bytes_ += tokenizer_.decode_next(token.token, begins_text_).size();
  begins_text_ = begins_text_ && tokenizer_.decode_next(token.token, false).empty();
}

void Choice::echo(const WrittenToken& token) {
  remember(token);
  text_ += decoder_.push(token.token);
}

std::string Choice::push(const WrittenToken& token) {
  ++num_written_;
  remember(token);
  return take(decoder_.push(token.token));
}

std::string Choice::take(const std::string& piece) {
  held_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  std::string out;
  if (first != std::string::npos) {
    stopped_ = true;
    out = held_.substr(0, first);
    held_.clear();
  } else {
    const std::size_t shown_bytes = held_.size() - held_back(held_, stops_);
    out = held_.substr(0, shown_bytes);
    held_.erase(0, shown_bytes);
  }
  text_ += out;
  return out;
}

std::string Choice::finish() {
  if (stopped_) return "";
  std::string out = take(decoder_.finish());
  if (!stopped_) {
    out += held_;
    text_ += held_;
  }
  held_.clear();
  return out;
}

std::vector<Choice::Placed> Choice::tokens() const {
  std::vector<Placed> placed;
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    if (begins_[i] < text_.size() || bytes_ == begins_[i])
      placed.push_back({tokens_[i], num_characters(std::string_view(text_).substr(0, begins_[i]))});
  return placed;
}

std::string shown(const Tokenizer& tokenizer, std::int32_t token) {
  const std::string bytes = tokenizer.decode_next(token, false);
  if (utf8::valid_prefix(bytes) == bytes.size()) return bytes;
  std::string text = "bytes:";
  for (char c : bytes) fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(c));
  return text;
}

}  // namespace fourmi

#include "framework/tokenizer/characters.h"

#include <algorithm>
#include <bit>
#include <unordered_set>

namespace fourmi {

Characters::Characters(const std::vector<std::string>& written, const std::vector<Merge>& merges,
                       const std::array<std::int32_t, 256>& bytes, bool whole)
    : bytes_(bytes), tokens_(0x110000, -1), whole_(whole) {
  for (std::size_t id = 0; id < written.size(); ++id) {
    const std::string_view text = written[id];
    if (!text.empty() && utf8::character(text) == text.size())
      tokens_[utf8::code_point(text)] = static_cast<std::int32_t>(id);
  }
  const std::unordered_set<std::int32_t> of_bytes(bytes.begin(), bytes.end());
  std::unordered_set<std::uint64_t> pairs;
  for (const Merge& merge : merges) {
    // What stands beside a byte's token is no character of its own: then nothing is known about where merging ends.
    if (of_bytes.contains(merge.left) || of_bytes.contains(merge.right)) whole_ = true;
    std::string_view text = written[static_cast<std::size_t>(merge.result)];
    char32_t before = none;
    while (!text.empty()) {
      const std::size_t length = std::max<std::size_t>(1, utf8::character(text));
      const char32_t c = utf8::character(text) == 0 ? none : utf8::code_point(text.substr(0, length));
      if (before < 128 && c < 128)
        ascii_[before * 128 + c] = true;
      else if (before != none)
        pairs.insert(std::uint64_t{before} << 32 | c);
      before = c;
      text.remove_prefix(length);
    }
  }
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(16, pairs.size() * 4));
  pairs_.assign(size, free_slot);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  for (const std::uint64_t pair : pairs) insert(pair);
}

void Characters::insert(std::uint64_t pair) {
  std::size_t i = slot(pair);
  while (pairs_[i] != free_slot) i = (i + 1) & mask_;
  pairs_[i] = pair;
}

void Characters::ids(std::string_view word, std::vector<std::int32_t>& out) const {
  out.clear();
  while (!word.empty()) {
    const std::size_t length = utf8::character(word);
    const std::int32_t token = length == 0 ? -1 : tokens_[utf8::code_point(word.substr(0, length))];
    const std::size_t taken = std::max<std::size_t>(1, length);
    if (token >= 0) {
      out.push_back(token);
    } else {
      for (const char c : word.substr(0, taken)) out.push_back(bytes_[static_cast<unsigned char>(c)]);
    }
    word.remove_prefix(taken);
  }
}

}  // namespace fourmi

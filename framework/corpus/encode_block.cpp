#include "framework/corpus/encode_block.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

template <class Id>
void append_as(const std::vector<std::int32_t>& ids, std::vector<std::byte>& out) {
  const std::size_t before = out.size();
  out.resize(before + ids.size() * sizeof(Id));
  auto* to = out.data() + before;
  for (const std::int32_t id : ids) {
    const auto value = static_cast<Id>(id);
    std::memcpy(to, &value, sizeof value);
    to += sizeof value;
  }
}

}  // namespace

EncodedBlock encode_block(TextBlock&& block, const EncodeOptions& options, std::int32_t end_of_document,
                          Encoder& encoder) {
  EncodedBlock result;
  Text text;
  if (options.json_lines) {
    append_json_lines(std::move(block.bytes), options.field, options.name, text, block.lines_before);
  } else {
    text.bytes = std::move(block.bytes);
    text.file_ends = {std::ssize(text.bytes)};
  }
  std::vector<std::int32_t> ids;
  std::int64_t begin = 0;
  for (const std::int64_t end : text.file_ends) {
    const std::string_view document =
        std::string_view(text.bytes).substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    begin = end;
    ++result.counts.documents;
    if (document.empty()) {
      ++result.counts.empty_documents;
      continue;
    }
    ids.clear();
    encoder.append(document, ids);
    result.counts.text_bytes += std::ssize(document);
    if (!options.json_lines) result.counts.not_utf8 += find_utf8_flaws(document).count;
    if (std::find(ids.begin(), ids.end(), end_of_document) != ids.end()) ++result.counts.documents_cut;
    if (options.end_documents) ids.push_back(end_of_document);
    if (ids.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
      throw Error(ExitStatus::input, options.name,
                  fmt::format("a document of {} tokens, at most {} was expected", ids.size(),
                              std::numeric_limits<std::int32_t>::max()),
                  "Cut it into several files.");
    result.counts.tokens += std::ssize(ids);
    result.lengths.push_back(static_cast<std::int32_t>(ids.size()));
    options.type == TokenType::u16 ? append_as<std::uint16_t>(ids, result.tokens)
                                   : append_as<std::int32_t>(ids, result.tokens);
  }
  return result;
}

}  // namespace fourmi

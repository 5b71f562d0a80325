#include "framework/tokenizer/begin_of_text.h"

#include <fstream>
#include <iterator>

#include "framework/tokenizer/json_at.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using namespace tokenizer_json_at;

constexpr const char* none = "none";
constexpr const char* end_of_document = "end_of_document";

/// What the template has before its first sequence.
std::string before_sequence(const At& processor) {
  const At single = processor["single"];
  std::string token;
  for (std::size_t i = 0; i < single.array().size(); ++i) {
    const At piece = single[i];
    if (piece.has("Sequence")) return token.empty() ? none : token;
    if (!token.empty()) single.refuse("at most one token before the sequence");
    token = piece["SpecialToken"]["id"].text();
  }
  single.refuse("a sequence among its pieces");
}

/// Empty: no step of it puts anything anywhere.
std::string of_processor(const At& processor) {
  const std::string type = processor.absent() ? "ByteLevel" : processor.type();
  if (type == "TemplateProcessing") return before_sequence(processor);
  if (type == "Sequence") {
    std::string found;
    const At steps = processor["processors"];
    for (std::size_t i = 0; i < steps.array().size(); ++i) {
      std::string token = of_processor(steps[i]);
      if (!token.empty() && !found.empty()) steps.refuse("one TemplateProcessing at most");
      if (!token.empty()) found = std::move(token);
    }
    return found;
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") return processor["cls"][std::size_t{0}].text();
  if (type != "ByteLevel") processor["type"].refuse("ByteLevel, TemplateProcessing, or Sequence of these");
  return {};
}

}  // namespace

std::string begin_of_text_in(const fs::path& tokenizer_json) {
  std::ifstream in(tokenizer_json, std::ios::binary);
  return begin_of_text_in({std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()},
                          tokenizer_json.string());
}

std::string begin_of_text_in(const std::string& text, const std::string& place) {
  const Json root = Json::parse(text, nullptr, false);
  if (!root.is_object())
    throw Error(ExitStatus::input, place, "no JSON object was found, one was expected",
                "Fetch the file again, or name another");
  const std::string found = of_processor(At(root, place, "")["post_processor"]);
  return found.empty() ? none : found;
}

std::optional<std::int32_t> begin_of_text(const DataSection& data, const Tokenizer& tokenizer) {
  const std::string& text = data.begin_of_text;
  if (text == none) return std::nullopt;
  if (text.empty() || text == end_of_document) return tokenizer.end_of_document();
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  if (ids.size() != 1)
    throw Error(ExitStatus::usage, "data.begin_of_text",
                fmt::format("'{}' was found, which is {} tokens of the tokenizer; one was expected, or none, or "
                            "end_of_document",
                            text, ids.size()));
  return ids[0];
}

TextPrompt text_prompt(std::string_view text, std::optional<std::int32_t> begin, const Tokenizer& tokenizer) {
  TextPrompt prompt;
  if (begin) prompt.tokens.push_back(*begin);
  if (!begin && text.empty()) prompt.tokens.push_back(tokenizer.end_of_document());
  prompt.num_opening = prompt.tokens.size();
  for (const std::int32_t t : tokenizer.encode(text)) prompt.tokens.push_back(t);
  return prompt;
}

}  // namespace fourmi

#include "framework/tokenizer/vocabulary_lists.h"

#include <simdjson.h>

#include <algorithm>
#include <utility>

namespace fourmi {
namespace {

using namespace tokenizer_json_at;
namespace dom = simdjson::dom;

/// Deeper files are left to the other way, which refuses those that are too deep.
constexpr std::size_t deepest = 64;

bool read_vocab(const dom::element& element, VocabularyLists& lists) {
  dom::object object;
  if (element.get(object) != simdjson::SUCCESS) return false;
  std::size_t count = 0;  // object.size() ends at 2^24 - 1
  for ([[maybe_unused]] const dom::key_value_pair pair : object) ++count;
  lists.vocab.reserve(count);
  lists.index = TokenIndex(count);
  for (const dom::key_value_pair pair : object) {
    std::int64_t id = 0;
    if (pair.value.get(id) != simdjson::SUCCESS || id < 0 || id >= most_ids) return false;
    if (!lists.index.add(pair.key, static_cast<std::int32_t>(id))) return false;
    lists.vocab.push_back({pair.key, static_cast<std::int32_t>(id)});
  }
  return count > 0;
}

bool read_merges(const dom::element& element, std::vector<std::array<std::string_view, 2>>& merges) {
  dom::array array;
  if (element.get(array) != simdjson::SUCCESS) return false;
  merges.reserve(array.size());
  for (const dom::element entry : array) {
    std::array<std::string_view, 2> merge;
    std::string_view both;
    if (entry.get(both) == simdjson::SUCCESS) {
      if (!cut_merge(both, merge)) return false;
    } else {
      dom::array two;
      if (entry.get(two) != simdjson::SUCCESS || two.size() != 2) return false;
      auto side = two.begin();
      for (std::string_view& text : merge) {
        if ((*side).get(text) != simdjson::SUCCESS) return false;
        ++side;
      }
    }
    merges.push_back(merge);
  }
  return true;
}

/// Of a key that is there twice nothing is read: which of the two counts is the other library's to say.
bool is_new(const Json& object, std::string_view key) {
  return !object.contains(std::string(key));
}

bool read_model(const dom::element& element, Json& rest, VocabularyLists& lists) {
  dom::object model;
  if (element.get(model) != simdjson::SUCCESS) return false;
  rest = Json::object();
  for (const dom::key_value_pair pair : model) {
    if (!is_new(rest, pair.key)) return false;
    Json& value = rest[std::string(pair.key)];
    if (pair.key == "vocab") {
      if (!read_vocab(pair.value, lists)) return false;
    } else if (pair.key == "merges") {
      if (!read_merges(pair.value, lists.merges)) return false;
      value = Json::array();  // a model that does not say its type is told by them
    } else {
      value = Json::parse(simdjson::to_string(pair.value));
    }
  }
  return rest.contains("vocab") && rest.contains("merges");
}

}  // namespace

bool cut_merge(std::string_view both, std::array<std::string_view, 2>& merge) {
  const std::size_t space = both.find(' ');
  if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) return false;
  merge = {both.substr(0, space), both.substr(space + 1)};
  return true;
}

bool read_quickly(std::string_view json, TokenizerFile& file) {
  const auto parser = std::make_shared<dom::parser>();
  dom::element root;
  dom::object object;
  if (parser->allocate(json.size(), deepest) != simdjson::SUCCESS) return false;
  if (parser->parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return false;
  if (root.get(object) != simdjson::SUCCESS) return false;
  file.rest = Json::object();
  for (const dom::key_value_pair pair : object) {
    if (!is_new(file.rest, pair.key)) return false;
    Json& value = file.rest[std::string(pair.key)];
    if (pair.key == "model") {
      if (!read_model(pair.value, value, file.lists)) return false;
    } else {
      value = Json::parse(simdjson::to_string(pair.value));
    }
  }
  file.parsed = parser;
  file.has_lists = file.rest.contains("model");
  return file.has_lists;
}

VocabularyLists read_lists(const At& model) {
  VocabularyLists lists;
  const At vocab = model["vocab"];
  if (!vocab.value().is_object() || vocab.value().empty()) vocab.refuse("an object from tokens to ids");
  const auto& tokens = vocab.value().get_ref<const Json::object_t&>();
  lists.index = TokenIndex(tokens.size());
  for (const auto& [written, unused] : tokens) {
    lists.vocab.push_back({written, vocab[written].id()});
    lists.index.add(written, lists.vocab.back().id);
  }
  const At merges = model["merges"];
  for (std::size_t i = 0; i < merges.array().size(); ++i) {
    const At merge = merges[i];
    std::array<std::string_view, 2> sides;
    if (merge.value().is_string()) {
      if (!cut_merge(merge.text(), sides)) merge.refuse("two tokens with a space between");
    } else {
      if (!merge.value().is_array() || merge.value().size() != 2) merge.refuse("two tokens");
      sides = {merge[0].text(), merge[1].text()};
    }
    lists.merges.push_back(sides);
  }
  return lists;
}

}  // namespace fourmi

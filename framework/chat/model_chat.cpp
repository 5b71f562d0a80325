#include "framework/chat/model_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "framework/chat/jinja/json.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using jinja::Dict;
using jinja::Value;

constexpr std::uintmax_t most_bytes = std::uintmax_t{64} << 20;
constexpr const char* token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

bool is_there(const fs::path& file) {
  std::error_code failure;
  return fs::exists(file, failure) || fs::is_symlink(file, failure);
}

std::string read_file(const fs::path& file) {
  std::error_code failure;
  if (!fs::is_regular_file(file, failure) || fs::file_size(file, failure) > most_bytes || failure)
    throw Error(ExitStatus::input, file.string(), "no regular file of at most 64 MiB was found, one was expected");
  std::ifstream in(file, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.good() && !in.eof())
    throw Error(ExitStatus::input, file.string(), "a read error was found, the file's text was expected");
  return bytes;
}

/// Nothing where there is no such file.
Value read_object(const fs::path& file) {
  if (!is_there(file)) return Dict{};
  Value value;
  try {
    value = jinja::parse_json(read_file(file));
  } catch (const std::string& cause) {
    throw Error(ExitStatus::input, file.string(), fmt::format("{}, a JSON object was expected", cause));
  }
  if (value.dict() == nullptr)
    throw Error(ExitStatus::input, file.string(), fmt::format("{} was found, an object was expected", value.kind()));
  return value;
}

/// A token is its text, or an object whose `content` that is. Nothing: null, or absent.
const std::string* token_text(const Value* value) {
  if (value != nullptr && value->dict() != nullptr) value = value->dict()->find("content");
  return value == nullptr ? nullptr : value->text();
}

/// The text of `chat_template`: itself, or of a list of named ones the one that is named default.
std::string template_text(const Value& value, const fs::path& file) {
  if (value.text() != nullptr) return *value.text();
  if (value.list() != nullptr)
    for (const Value& named : *value.list()) {
      if (named.dict() == nullptr) continue;
      const Value *name = named.dict()->find("name"), *text = named.dict()->find("template");
      if (name != nullptr && name->text() != nullptr && *name->text() == "default" && text != nullptr &&
          text->text() != nullptr)
        return *text->text();
    }
  throw Error(ExitStatus::input, file.string(),
              fmt::format("{} was found for chat_template, a text or a list with a template named default was expected",
                          value.kind()));
}

}  // namespace

ModelChat::ModelChat(ChatTemplate chat, Dict special_tokens)
    : chat_(std::move(chat)), special_tokens_(std::move(special_tokens)) {}

jinja::Rendered ModelChat::render(const Value& messages, const Value& tools, bool add_generation_prompt,
                                  std::time_t now, const Dict& more) const {
  Dict variables = special_tokens_;
  for (const auto& [name, value] : more.entries) variables[name] = value;
  variables["messages"] = messages;
  variables["tools"] = tools;
  variables["add_generation_prompt"] = add_generation_prompt;
  return chat_.render(variables, now);
}

Dict read_special_tokens(const fs::path& folder) {
  const Value config = read_object(folder / "tokenizer_config.json");
  const Value map = read_object(folder / "special_tokens_map.json");
  Dict tokens;
  for (const char* name : token_names) {
    const std::string* text = token_text(config.dict()->find(name));
    if (text == nullptr) text = token_text(map.dict()->find(name));
    if (text != nullptr) tokens[name] = *text;
  }
  return tokens;
}

std::optional<ModelChat> read_model_chat(const fs::path& folder) {
  if (is_there(folder / "chat_template.jinja")) return read_chat_template(folder / "chat_template.jinja", folder);
  const fs::path file = folder / "tokenizer_config.json";
  const Value config = read_object(file);
  const Value* found = config.dict()->find("chat_template");
  if (found == nullptr || found->none()) return std::nullopt;
  return ModelChat(ChatTemplate(template_text(*found, file), file.string() + ": chat_template"),
                   read_special_tokens(folder));
}

std::vector<std::int32_t> read_end_tokens(const fs::path& folder, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> tokens{tokenizer.end_of_document()};
  const fs::path file = folder / "generation_config.json";
  const auto take = [&](const Value& value) {
    const std::int64_t* id = value.integer();
    if (id == nullptr || *id < 0 || *id >= tokenizer.vocab_size())
      throw Error(ExitStatus::input, file.string() + ": eos_token_id",
                  fmt::format("{} was found, a token from 0 to {} was expected", jinja::to_repr(value),
                              tokenizer.vocab_size() - 1));
    tokens.push_back(static_cast<std::int32_t>(*id));
  };
  const Value config = read_object(file);
  if (const Value* found = config.dict()->find("eos_token_id"); found != nullptr && !found->none()) {
    if (found->list() != nullptr)
      std::for_each(found->list()->begin(), found->list()->end(), take);
    else
      take(*found);
  }
  const Dict special = read_special_tokens(folder);
  if (const Value* text = special.find("eos_token"); text != nullptr) {
    // An added token is one token; what is none cannot be written as one, and ends nothing.
    const std::vector<std::int32_t> ids = tokenizer.encode(*text->text());
    if (ids.size() == 1) tokens.push_back(ids[0]);
  }
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

ModelChat read_chat_template(const fs::path& file, const fs::path& folder) {
  return {ChatTemplate(read_file(file), file.string()), read_special_tokens(folder)};
}

}  // namespace fourmi

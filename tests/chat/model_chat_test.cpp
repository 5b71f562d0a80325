// Templates and special tokens as they lie in models' folders.
#include "framework/chat/model_chat.h"

#include <gtest/gtest.h>

#include "framework/chat/jinja/json.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

constexpr const char* conversation = R"([{"role": "user", "content": "Hi"}])";

std::string rendered(const ModelChat& chat, bool add_generation_prompt = false) {
  return chat.render(jinja::parse_json(conversation), jinja::None{}, add_generation_prompt, 0).text;
}

TEST(ModelChat, OfTokenizerConfigOrOfAFileOfItsOwn) {
  const test::Folder folder;
  EXPECT_FALSE(read_model_chat(folder.path()));
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>", "pad_token": null,
                   "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"})");
  EXPECT_EQ(rendered(*read_model_chat(folder.path())), "<s>Hi</s>");

  folder.write("special_tokens_map.json", R"({"pad_token": "<pad>", "eos_token": "<other>"})");
  EXPECT_EQ(rendered(*read_model_chat(folder.path())), "<s>Hi</s><pad>");

  folder.write("chat_template.jinja", "{{ eos_token }}{% if add_generation_prompt %}?{% endif %}");
  EXPECT_EQ(rendered(*read_model_chat(folder.path()), true), "</s>?");
  folder.write("own.jinja", "{{ bos_token }}{{ messages[0].role }}");
  EXPECT_EQ(rendered(read_chat_template(std::filesystem::path(folder.path()) / "own.jinja", folder.path())), "<s>user");
}

TEST(ModelChat, OfSeveralNamedTemplatesTheDefault) {
  const test::Folder folder;
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(*read_model_chat(folder.path())), "d");
}

TEST(ModelChat, WhatIsWrongIsNamed) {
  const test::Folder folder;
  const auto fails = [&] { return test::message_of(ExitStatus::input, [&] { read_model_chat(folder.path()); }); };
  folder.write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "tools"}]})");
  EXPECT_NE(fails().find("named default"), std::string::npos);
  folder.write("tokenizer_config.json", R"({"chat_template": )");
  EXPECT_NE(fails().find("tokenizer_config.json"), std::string::npos);
  folder.write("tokenizer_config.json", "[]");
  EXPECT_NE(fails().find("an object was expected"), std::string::npos);
  folder.write("chat_template.jinja", "a\n{% unknown %}");
  EXPECT_NE(fails().find("chat_template.jinja:2"), std::string::npos);
}

}  // namespace
}  // namespace fourmi

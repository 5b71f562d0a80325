// Templates and special tokens as they lie in models' folders.
#include "framework/chat/model_chat.h"

#include <gtest/gtest.h>

#include "framework/chat/jinja/json.h"
#include "framework/tokenizer/bytes.h"
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

TEST(ModelChat, EndsAtWhatAnyOfItsFilesNames) {
  const test::Folder folder;
  const ByteTokenizer bytes;  // 256 ends a document
  const auto ends = [&] { return read_end_tokens(folder.path(), bytes); };
  using Tokens = std::vector<std::int32_t>;
  EXPECT_EQ(ends(), Tokens{256});
  folder.write("generation_config.json", R"({"eos_token_id": 7})");
  EXPECT_EQ(ends(), (Tokens{7, 256}));
  folder.write("generation_config.json", R"({"eos_token_id": [9, 7, 256]})");
  EXPECT_EQ(ends(), (Tokens{7, 9, 256}));
  folder.write("special_tokens_map.json", R"({"eos_token": {"content": "A"}})");
  EXPECT_EQ(ends(), (Tokens{7, 9, 65, 256}));
  folder.write("special_tokens_map.json", R"({"eos_token": "no single token"})");
  EXPECT_EQ(ends(), (Tokens{7, 9, 256}));
  for (const char* wrong : {"257", "[-1]", "1.5", "\"x\""}) {
    folder.write("generation_config.json", R"({"eos_token_id": )" + std::string(wrong) + "}");
    EXPECT_NE(test::message_of(ExitStatus::input, ends).find("eos_token_id"), std::string::npos) << wrong;
  }
}

TEST(ModelChat, TakesFurtherVariables) {
  const test::Folder folder;
  folder.write("chat_template.jinja", "{% if enable_thinking %}think{% endif %}");
  const ModelChat chat = *read_model_chat(folder.path());
  EXPECT_EQ(chat.render(jinja::parse_json(conversation), jinja::None{}, true, 0, {{{"enable_thinking", true}}}).text,
            "think");
  EXPECT_EQ(rendered(chat), "");
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

// What stands before a text, as tokenizers' files say it and as a recipe does.
#include "framework/tokenizer/begin_of_text.h"

#include <gtest/gtest.h>

#include "framework/tokenizer/bytes.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

class BeginOfText : public ::testing::Test {
 protected:
  std::string of(const std::string& post_processor) const {
    return begin_of_text_in(folder_.write("tokenizer.json", R"({"post_processor": )" + post_processor + "}"));
  }
  std::string refused(const std::string& post_processor) const {
    return test::message_of(ExitStatus::input, [&] { of(post_processor); });
  }
  test::Folder folder_;
};

const std::string llama_2 =
    R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}})";
const std::string byte_level = R"({"type": "ByteLevel", "add_prefix_space": true})";

TEST_F(BeginOfText, IsWhatThePostProcessorPutsThere) {
  EXPECT_EQ(of("null"), "none");
  EXPECT_EQ(of(byte_level), "none");
  EXPECT_EQ(of(llama_2), "<s>");
  EXPECT_EQ(of(R"({"type": "Sequence", "processors": [)" + byte_level + "," + llama_2 + "]}"), "<s>");
  // What comes behind a text is not before it.
  EXPECT_EQ(
      of(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}]})"),
      "none");
}

// As transformers 5.23.0 does with a tokenizer.json, whatever tokenizer_class is.
TEST_F(BeginOfText, TheConfigurationBesideItDoesNotCount) {
  folder_.write("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<b>"})");
  EXPECT_EQ(of("null"), "none");
  folder_.write("tokenizer_config.json", R"({"add_bos_token": false, "bos_token": "<b>"})");
  EXPECT_EQ(of(llama_2), "<s>");
}

TEST_F(BeginOfText, WhatIsNotReadIsNamed) {
  EXPECT_NE(refused(R"({"type": "Other"})").find("post_processor.type"), std::string::npos);
  EXPECT_NE(refused(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]})").find("single"),
            std::string::npos);
  const std::string two = R"({"SpecialToken": {"id": "<s>"}}, {"SpecialToken": {"id": "<t>"}}, )";
  EXPECT_NE(refused(R"({"type": "TemplateProcessing", "single": [)" + two + R"({"Sequence": {"id": "A"}}]})")
                .find("at most one token"),
            std::string::npos);
}

TEST(TextPrompt, BeginsAsTheRecipeSays) {
  const ByteTokenizer bytes;  // 256 ends a document
  DataSection data;
  using Tokens = std::vector<std::int32_t>;
  const auto prompt = [&](const std::string& begin, const std::string& text) {
    data.begin_of_text = begin;
    return text_prompt(text, begin_of_text(data, bytes), bytes);
  };
  EXPECT_EQ(prompt("", "a").tokens, (Tokens{256, 'a'}));
  EXPECT_EQ(prompt("end_of_document", "a").tokens, (Tokens{256, 'a'}));
  EXPECT_EQ(prompt("x", "a").tokens, (Tokens{'x', 'a'}));
  EXPECT_EQ(prompt("x", "a").num_opening, 1U);
  EXPECT_EQ(prompt("none", "a").tokens, Tokens{'a'});
  EXPECT_EQ(prompt("none", "a").num_opening, 0U);
  EXPECT_EQ(prompt("none", "").tokens, Tokens{256}) << "something to go on from";
  test::message_of(ExitStatus::usage, [&] { prompt("<s>", "a"); });
}

}  // namespace
}  // namespace fourmi

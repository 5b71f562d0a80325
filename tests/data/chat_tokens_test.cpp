// Conversations through real vocabularies: what is learned is the answer's tokens and the one that ends the turn, the
// beginning that a template writes is the only one, whatever the tokenizer does to a text.
#include <gtest/gtest.h>

#include "framework/data/chat_documents.h"
#include "framework/tokenizer/choose.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

constexpr const char* chatml =
    "{% for m in messages %}<|endoftext|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|endoftext|>assistant\n{% endif %}";
constexpr const char* plain =
    "{% for m in messages %}<|endoftext|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|endoftext|>assistant\n{% endif %}";
constexpr const char* instructions =
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}";

struct Case {
  const char *tokenizer, *chat, *end;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.tokenizer;
}
class ChatTokens : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Tokenizers, ChatTokens,
                         testing::Values(Case{"cl100k", chatml, "<|end|>"}, Case{"qwen2", plain, "\n"},
                                         Case{"llama", instructions, "</s>"}, Case{"mistral", instructions, "</s>"}),
                         [](const auto& one) { return std::string(one.param.tokenizer); });

TEST_P(ChatTokens, LearnedAreTheAnswersAndWhatEndsThem) {
  const Case& c = GetParam();
  const test::Folder folder;
  DataSection data;
  data.tokenizer = std::string(FOURMI_SOURCE_DIR "/tests/tokenizer/goldens/") + c.tokenizer + ".json";
  data.chat_template = folder.write("chat.jinja", c.chat);
  DataSource recipe;
  recipe.name = "x";
  recipe.format = "messages";
  const std::vector<std::string> answers{"four\nof  them: \xC3\xA9\xF0\x9F\x90\x9C", "no, 1234 ants"};
  recipe.path = folder.write(
      "d.jsonl", R"({"messages": [{"role": "user", "content": "How many? e\u0301"}, {"role": "assistant", "content": )"
                 R"("four\nof  them: \u00e9\ud83d\udc1c"}, {"role": "user", "content": "Is it so?"}, )"
                 R"({"role": "assistant", "content": "no, 1234 ants"}]})");
  const auto tokenizer = load_tokenizer(data.tokenizer, "data.tokenizer", "", "data.end_of_document");
  const LoadedSource source = load_sources({recipe}, "data.train").at(0);
  const ChatDocuments documents = chat_documents_of(source, Side::train, 0, data, *tokenizer, "data.train.x");
  ASSERT_EQ(documents.pieces.size(), 1u);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(documents.store->size()));
  documents.store->read(0, ids);
  ASSERT_EQ(documents.loss.size(), ids.size());
  const auto id_of = [&](const std::string& text) { return tokenizer->encode(text).back(); };
  const std::int32_t end = id_of(c.end);
  std::vector<std::string> learned;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!documents.loss[i]) continue;
    if (i == 0 || !documents.loss[i - 1]) learned.emplace_back();
    if (i + 1 == ids.size() || !documents.loss[i + 1]) {
      EXPECT_EQ(ids[i], end);  // the turn's last token is the one that ends it
    } else {
      learned.back() += tokenizer->decode_next(ids[i], false);
    }
  }
  ASSERT_EQ(learned.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(learned[i].substr(learned[i].find_first_not_of(' ')), answers[i]);
  EXPECT_EQ(ids[0], id_of(c.chat == instructions ? "<s>" : "<|endoftext|>"));
  EXPECT_NE(ids[1], ids[0]);
}

}  // namespace
}  // namespace fourmi

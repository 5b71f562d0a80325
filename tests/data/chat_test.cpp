// Sources of conversations, from the line of a file to the rows of a batch.
#include <gtest/gtest.h>

#include <numeric>

#include "framework/data/chat_documents.h"
#include "framework/data/loader.h"
#include "framework/data/validation.h"
#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

using test::Folder;
using test::message_of;

constexpr const char* chat = R"({% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</>{% endfor %}
{%- if add_generation_prompt %}<a>{% endif %})";

std::string line_of(const std::string& question, const std::string& answer) {
  return R"({"messages": [{"role": "user", "content": ")" + question + R"("}, {"role": "assistant", "content": ")" +
         answer + "\"}]}\n";
}

/// A recipe's data with one source.
struct Case {
  Folder folder;
  DataSection data;

  explicit Case(const std::string& lines, const std::string& format = "messages", std::int64_t length = 32) {
    DataSource source;
    source.name = "x";
    source.path = folder.write("d.jsonl", lines);
    source.format = format;
    data.train = {source};
    data.sequence_length = length;
    data.global_batch_size = 1;
    data.chat_template = folder.write("chat.jinja", chat);
  }
  std::vector<LoadedSource> loaded() const { return load_sources(data.train, "data.train"); }
  Loader loader() const { return Loader(data, loaded(), 1, 300); }
  std::string refusal() const {
    return message_of(ExitStatus::input, [&] { loader(); });
  }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Inputs of one sequence as a text, and below what is learned: the target of each row.
std::pair<std::string, std::string> rows(const std::vector<std::int32_t>& tokens,
                                         const std::vector<std::int32_t>& targets) {
  const auto text = [](const std::vector<std::int32_t>& ids) {
    std::string all;
    for (const std::int32_t id : ids) all += id < 0 ? '.' : id == 256 ? '#' : static_cast<char>(id);
    return all;
  };
  return {text(tokens), text(targets)};
}

Batch window(const Loader& loader, std::int64_t index) {
  StepPlan plan = loader.plan(loader.start(), 1);
  plan.samples[0].window = index;
  return loader.batch(plan, 0, 1);
}

TEST(ChatData, RowsBeforeAnAnswersTokensHaveThemAsTargetsAndNoOthersHaveAny) {
  const Case c(line_of("hi", "yo!"));
  const Batch b = window(c.loader(), 0);
  const auto [tokens, targets] = rows(b.tokens, b.targets);
  EXPECT_EQ(tokens, "<u>hi</><a>yo!</>###############");
  EXPECT_EQ(targets, "..........yo!</>................");
  const auto [mtp_tokens, mtp_targets] = rows(b.mtp_tokens, b.mtp_targets);
  EXPECT_EQ(mtp_tokens, ".........>yo!</.................");
  EXPECT_EQ(mtp_targets, ".........yo!</>.................");
}

TEST(ChatData, KeysOfOtherNamesGiveTheSameRows) {
  const auto rows_of = [](const Case& c) {
    const Batch b = window(c.loader(), 0);
    return rows(b.tokens, b.targets);
  };
  const auto usual = rows_of(Case(line_of("hi", "yo!")));
  Case list(R"({"dialogue": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo!"}]})");
  list.data.train[0].field = "dialogue";
  EXPECT_NE(list.refusal().find("columns: {role: from, content: value}"), std::string::npos);
  list.data.train[0].columns.role = "from";
  list.data.train[0].columns.content = "value";
  EXPECT_EQ(rows_of(list), usual);
  Case exchange(R"({"question": "hi", "answer": "yo!", "level": 1})");
  exchange.data.train[0].columns.user = "question";
  exchange.data.train[0].columns.assistant = "answer";
  EXPECT_EQ(rows_of(exchange), usual);
  EXPECT_TRUE(has(exchange.loader().notes().at(0), "not read: level")) << exchange.loader().notes().at(0);
}

TEST(ChatData, DocumentsAreNotCutAndDoNotSeeEachOther) {
  const Case c(line_of("hi", "yo") + line_of("a", "b") + line_of("cc", "d"));  // of 16, 14 and 15 bytes
  const Loader loader = c.loader();
  EXPECT_EQ(loader.samples_per_epoch(0), 2);
  EXPECT_EQ(loader.tokens_per_epoch(0), 45);
  const Batch b = window(loader, 0);
  EXPECT_EQ(rows(b.tokens, b.targets).first, "<u>hi</><a>yo</><u>a</><a>b</>##");
  EXPECT_EQ(rows(b.tokens, b.targets).second, "..........yo</>..........b</>...");
  for (std::size_t row = 0; row < 32; ++row) {
    const std::int32_t begin = row < 16 ? 0 : row < 30 ? 16 : 30;
    EXPECT_EQ(b.key_begin[row], begin) << row;
    EXPECT_EQ(b.positions[row], static_cast<std::int32_t>(row) - begin) << row;
  }
  const Batch last = window(loader, 1);
  EXPECT_EQ(rows(last.tokens, last.targets).first.substr(0, 16), "<u>cc</><a>d</>#");

  Case alone(line_of("hi", "yo") + line_of("a", "b"));
  alone.data.packing = false;
  EXPECT_EQ(alone.loader().samples_per_epoch(0), 2);
  Case sees(line_of("hi", "yo") + line_of("a", "b"));
  sees.data.cross_document_attention = true;
  const Batch seen = window(sees.loader(), 0);
  EXPECT_EQ(rows(seen.tokens, seen.targets), rows(b.tokens, b.targets));
  EXPECT_EQ(seen.key_begin[29], 0);
  EXPECT_EQ(seen.positions[29], 29);
}

TEST(ChatData, ThePlanCountsWhatTheRowsHave) {
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += line_of(std::string(1 + i % 7, 'q'), std::string(1 + i % 5, 'a'));
  Case c(lines, "messages", 64);
  const Loader loader = c.loader();
  const std::int64_t windows = loader.samples_per_epoch(0);
  StepPlan plan = loader.plan(loader.start(), windows);
  const Batch b = loader.batch(plan, 0, windows);
  const auto real = [](const std::vector<std::int32_t>& ids) {
    return std::count_if(ids.begin(), ids.end(), [](std::int32_t id) { return id >= 0; });
  };
  EXPECT_EQ(plan.num_targets, real(b.targets));
  EXPECT_EQ(plan.num_mtp_targets, real(b.mtp_targets));
  EXPECT_EQ(plan.num_inputs, std::count_if(b.tokens.begin(), b.tokens.end(), [](auto id) { return id != 256; }));
  EXPECT_EQ(plan.num_inputs, loader.tokens_per_epoch(0));
  EXPECT_EQ(plan.next.tokens, plan.num_inputs);
  EXPECT_EQ(plan.next.sources[0].epoch, 1);
  std::int64_t learned = 0;
  for (int i = 0; i < 50; ++i) learned += 1 + i % 5 + 3;
  EXPECT_EQ(plan.num_targets, learned);
  for (std::size_t i = 0; i < b.mtp_targets.size(); ++i) EXPECT_EQ(b.mtp_targets[i] >= 0, b.mtp_tokens[i] >= 0);
}

TEST(ChatData, LongConversationsAreRefusedDroppedOrCutOff) {
  const std::string lines =
      line_of("hi", "yo") + line_of("hi", std::string(40, 'y')) + line_of(std::string(40, 'h'), "y");
  Case c(lines);
  EXPECT_TRUE(has(c.refusal(), "2 of 3 conversations are longer than 32 tokens (the longest has 54)"));
  c.data.overlong = "drop";
  EXPECT_EQ(c.loader().tokens_per_epoch(0), 16);
  EXPECT_TRUE(has(c.loader().notes().at(1), "longer than 32 tokens (the longest has 54) and are left out"));
  c.data.overlong = "truncate";
  const Loader cut = c.loader();
  EXPECT_EQ(cut.samples_per_epoch(0), 2);
  EXPECT_EQ(rows(window(cut, 1).tokens, window(cut, 1).targets).second, ".........." + std::string(21, 'y') + ".");
  EXPECT_TRUE(has(cut.notes().at(1), "are cut off; of 1 nothing is left to learn"));
}

TEST(ChatData, ItsShareIsSaidAndNoneOrAllIsRefused) {
  const Case c(line_of("hi", "yo"));
  EXPECT_TRUE(has(c.loader().notes().at(0), "1 conversations are 16 tokens, 31.25% of them in the loss"));
  Case pairs(R"({"prompt": "", "completion": "all of it"})", "prompt-completion");
  EXPECT_TRUE(has(pairs.refusal(), "a share of 1"));
  pairs.data.train[0].loss_on = "all";
  EXPECT_NO_THROW(pairs.loader());
  Case empty(line_of("hi", "yo"));
  empty.data.chat_template = empty.folder.write(
      "m.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}{% generation %}{% endgeneration %}");
  EXPECT_TRUE(has(empty.refusal(), "leaves out a part"));
}

TEST(ChatData, PairsOfTextsStandAsDocumentsDo) {
  const Case c(R"({"prompt": "1+1=", "completion": "2"})", "prompt-completion", 8);
  const Batch b = window(c.loader(), 0);
  EXPECT_EQ(rows(b.tokens, b.targets).first, "#1+1=2##");
  EXPECT_EQ(rows(b.tokens, b.targets).second, "....2#..");
}

TEST(ChatData, ErrorsAreThoseOfTheFirstBadLine) {
  const Case c(line_of("hi", "yo") + "\n" + line_of("hi", "yo") + "{\"messages\": [7]}\n{\"messages\": 8}\n");
  EXPECT_TRUE(has(c.refusal(), "d.jsonl:4:15: messages[0]: ")) << c.refusal();
  ThreadPool pool(3);
  EXPECT_EQ(message_of(ExitStatus::input, [&] { Loader(c.data, c.loaded(), 1, 300, &pool); }), c.refusal());
  Case none(line_of("hi", "yo"));
  none.data.chat_template = "model";
  EXPECT_TRUE(has(none.refusal(), "no chat template beside the tokenizer 'bytes'"));
}

TEST(ChatData, ARunsOwnTemplateIsThereWhenItsModelIsGone) {
  Case c(line_of("hi", "yo"));
  c.data.chat_template = "model";
  c.data.model_from = "/gone", c.data.tokenizer = "/gone/tokenizer.json";
  c.data.tokenizer_file = c.folder.write("tokenizer.json", "");  // a run's copy
  EXPECT_FALSE(find_chat_template(c.data));
  c.folder.write("huggingface/chat_template.jinja", chat);
  EXPECT_TRUE(find_chat_template(c.data));
}

TEST(ChatData, WholeConversationsAreHeldOut) {
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += line_of("q" + std::to_string(100 + i), "a" + std::to_string(100 + i));
  Case c(lines);
  c.data.holdout = 0.1;
  const Loader loader = c.loader();
  EXPECT_EQ(loader.tokens_per_epoch(0), 36 * 20);
  const Validation validation(c.data, c.loaded(), 1, 300);
  EXPECT_EQ(validation.num_targets(), 4 * 7);
  EXPECT_EQ(validation.num_bytes(), 4 * 7);
  std::vector<std::int64_t> all(static_cast<std::size_t>(validation.num_windows()));
  std::iota(all.begin(), all.end(), 0);
  const Batch b = validation.batch(all);
  EXPECT_TRUE(has(rows(b.tokens, b.targets).first, "<u>q105</><a>a105</>"));
  EXPECT_EQ(std::count_if(b.targets.begin(), b.targets.end(), [](auto t) { return t >= 0; }), 4 * 7);
}

TEST(ChatData, AResumedRunNoticesAnotherTemplate) {
  const Case c(line_of("hi", "yo"));
  const Position position = c.loader().start();
  EXPECT_EQ(c.loader().resume(position, false), position);
  std::string other = chat;
  other.replace(other.find("</>"), 3, "<|>");
  c.folder.write("chat.jinja", other);
  EXPECT_TRUE(has(message_of(ExitStatus::input, [&] { c.loader().resume(position, false); }), "were expected from"));
}

}  // namespace
}  // namespace fourmi

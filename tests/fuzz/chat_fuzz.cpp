// Lines of conversations that lie: refused with a place in the line, or a text in which what is learned lies inside, in
// order and apart, and behind the first byte. Input: a byte that chooses how it is read, and a line.
#include <optional>
#include <string>
#include <vector>

#include "framework/chat/conversation_text.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;

const std::vector<ModelChat>& templates() {
  static const std::vector<ModelChat> all = [] {
    std::vector<ModelChat> built;
    for (const char* text : {
             "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and m.reasoning_content and "
             "loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content.split('</think>')[-1] | trim "
             "}}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
             "{{ tools | tojson if tools }}{% for m in messages %}[{{ m.role }}]{% generation %}{{ m.reasoning_content "
             "}}{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}{% endgeneration "
             "%}{% "
             "endfor %}",
             "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt "
             "%}assistant: "
             "{% endif %}",
         })
      built.emplace_back(ChatTemplate(text, "fuzzed.jinja"), jinja::Dict{});
    return built;
  }();
  return all;
}

/// As recipes let them through: the usual names; names of a message's keys, and of a pair's; a line that is one
/// exchange.
ColumnNames columns_of(unsigned kind, bool pair) {
  ColumnNames names;
  if (kind == 1) names.role = "from", names.content = "value";
  if (kind == 1 && pair) names.prompt = "question", names.completion = "answer";
  if (kind == 2 && !pair)
    names.user = "instruction", names.input = "input", names.assistant = "output", names.system = "system";
  return names;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned how = data[0];
  const std::string line(reinterpret_cast<const char*>(data) + 1, size - 1);
  ConversationFormat format{.prompt_completion = (how & 1) != 0};
  format.columns = columns_of(how / 96, format.prompt_completion);
  if ((how / 2) % 4 > 0) format.reasoning = static_cast<Reasoning>((how / 2) % 4 - 1);
  static const std::vector<std::string> special{"<|im_end|>"};
  const TurnRules rules{.loss_on = static_cast<LossOn>((how / 8) % 3), .special_tokens = special};
  fuzz::accepted(
      [&] {
        const Conversation c = read_conversation(line, format, {"fuzzed.jsonl", 1});
        fuzz::require(c.plain ? !c.completion.empty() : !c.messages.empty(), "a conversation of nothing");
        fuzz::require(c.plain || c.paths.size() == c.messages.size(), "messages without their places");
        if (c.plain) return;
        const ConversationText text = write_conversation(c, templates()[(how / 32) % templates().size()], rules);
        fuzz::require(!text.loss.empty(), "nothing to learn");
        std::size_t at = 0;
        for (const auto& [begin, end] : text.loss) {
          fuzz::require(begin >= at && begin < end && end <= text.text.size(), "learned bytes that lie elsewhere");
          at = end;
        }
      },
      {ExitStatus::input});
  return 0;
}

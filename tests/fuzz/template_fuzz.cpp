// A chat template that lies: refused with its line, or it renders the same text twice, and what it says the assistant
// wrote lies inside. Input: a template, and after a zero byte JSON, the messages.
#include <ctime>
#include <string>

#include "framework/chat/jinja/json.h"
#include "framework/chat/template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  const std::string all(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = all.find('\0');
  std::string json =
      R"([{"role": "user", "content": "a \u00e9"}, {"role": "assistant", "content": "b", "n": [1, 2.5, null]}])";
  if (zero != std::string::npos) json = all.substr(zero + 1);
  jinja::Value messages;
  try {
    messages = jinja::parse_json(json);
  } catch (const std::string& cause) {
    fuzz::require(!cause.empty(), "a refusal without its cause");
    return 0;
  }
  fuzz::accepted(
      [&] {
        const ChatTemplate chat(all.substr(0, zero), "fuzzed.jinja");
        const jinja::Dict variables{{{"messages", messages}, {"bos_token", "<s>"}}};
        const jinja::Rendered first = chat.render(variables, 0), second = chat.render(variables, 0);
        fuzz::require(first.text == second.text, "another text the second time");
        std::size_t at = 0;
        for (const auto& [begin, end] : first.generated) {
          fuzz::require(begin >= at && begin <= end && end <= first.text.size(), "a span that lies elsewhere");
          at = begin;
        }
      },
      {ExitStatus::input});
  return 0;
}

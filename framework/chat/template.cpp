#include "framework/chat/template.h"

#include <utility>

namespace fourmi {
namespace {

bool has_generation(const jinja::Block& block) {
  for (const jinja::Statement& s : block) {
    if (s.kind == jinja::Statement::Kind::generation || has_generation(s.body) || has_generation(s.other)) return true;
    for (const jinja::Branch& branch : s.branches)
      if (has_generation(branch.body)) return true;
  }
  return false;
}

/// A message's reasoning under each name that templates read: reasoning_content, and thinking, which comes first where
/// the message does not have it. So transformers does it.
jinja::Value with_reasoning(const jinja::Value& message) {
  if (message.dict() == nullptr) return message;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const jinja::Value* found = message.dict()->find(name);
    if (found == nullptr || found->none()) continue;
    jinja::Dict out{{{"thinking", *found}}};
    for (const auto& [key, value] : message.dict()->entries) out[key] = value;
    out["reasoning_content"] = *found;
    return out;
  }
  return message;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& text, std::string place)
    : text_(text),
      place_(std::move(place)),
      block_(jinja::parse(text, place_)),
      marks_generation_(has_generation(block_)) {}

jinja::Rendered ChatTemplate::render(const jinja::Dict& variables, std::time_t now) const {
  jinja::Dict all{{{"tools", jinja::None{}}, {"documents", jinja::None{}}, {"add_generation_prompt", false}}};
  for (const auto& [name, value] : variables.entries) all[name] = value;
  if (const jinja::Value* messages = all.find("messages"); messages != nullptr && messages->list() != nullptr) {
    jinja::List aliased;
    for (const jinja::Value& message : *messages->list()) aliased.push_back(with_reasoning(message));
    all["messages"] = std::move(aliased);
  }
  return jinja::render(block_, all, now, place_);
}

}  // namespace fourmi

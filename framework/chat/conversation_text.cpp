#include "framework/chat/conversation_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "framework/chat/marked_fields.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using Bytes = std::pair<std::size_t, std::size_t>;

constexpr const char* mark_it =
    "Put {% generation %} ... {% endgeneration %} around what the assistant writes, in a template of your own "
    "(data.chat_template: PATH).";
constexpr std::string_view white = " \t\r\n\f\v";

class Writer {
 public:
  Writer(const Conversation& c, const ModelChat& chat, const TurnRules& rules) : c_(c), chat_(chat), rules_(rules) {}

  ConversationText write() {
    const jinja::Rendered whole = rendered(c_.messages.size(), false, rules_.now);
    text_ = whole.text;
    check_date();
    places_ = fields(c_.messages.size(), text_);
    if (rules_.loss_on == LossOn::all) return {text_, {{0, text_.size()}}};
    std::vector<std::size_t> turns;
    for (std::size_t i = c_.num_prompt; i < c_.messages.size(); ++i)
      if (c_.assistant(i)) turns.push_back(i);
    if (rules_.loss_on == LossOn::last) turns.erase(turns.begin(), turns.end() - 1);
    return {text_, chat_.chat().marks_generation() ? marked(whole, turns) : unmarked(turns)};
  }

 private:
  jinja::Rendered rendered(std::size_t num_messages, bool prompt, std::time_t now) const {
    jinja::List some;
    some.assign(c_.messages.begin(), c_.messages.begin() + static_cast<std::ptrdiff_t>(num_messages));
    return chat_.render(some, c_.tools, prompt, now);
  }
  std::vector<FieldPlace> fields(std::size_t num_messages, const std::string& text) const {
    return find_fields(
        c_, num_messages,
        [&](const jinja::List& messages, const jinja::Value& tools) {
          return chat_.render(messages, tools, false, rules_.now).text;
        },
        text);
  }
  [[noreturn]] void fail(std::size_t message, std::string what, const char* remedy) const {
    refuse(c_, c_.paths[message], std::move(what), remedy);
  }

  /// A run that goes on tomorrow must read the same.
  void check_date() const {
    constexpr std::time_t other_day = 400 * 86400 + 3 * 3600;
    if (rules_.dated || rendered(c_.messages.size(), false, rules_.now + other_day).text == text_) return;
    fail(0,
         fmt::format("the chat template {} writes the date of today, a text that is the same on every day was expected",
                     chat_.chat().place()),
         "Set data.chat_date.");
  }

  /// The first and the last byte of a message's texts; of one without texts where it would be.
  Bytes extent(std::size_t message, const std::vector<FieldPlace>& places) const {
    Bytes all{std::string::npos, 0};
    for (const FieldPlace& place : places) {
      if (place.message != message) continue;
      all.first = std::min(all.first, place.begin);
      all.second = std::max(all.second, place.end);
    }
    if (all.first == std::string::npos)
      fail(message, "a turn of the assistant without any text, some was expected",
           "Leave the message out of the data.");
    return all;
  }
  /// Where the texts of the messages before `message` end, as far as they stand before `limit`.
  std::size_t end_before(std::size_t message, std::size_t limit) const {
    std::size_t end = 0;
    for (const FieldPlace& place : places_)
      if (place.message != FieldPlace::of_tools && place.message < message && place.end <= limit)
        end = std::max(end, place.end);
    return end;
  }

  std::vector<Bytes> marked(const jinja::Rendered& whole, const std::vector<std::size_t>& turns) const {
    std::vector<Bytes> loss;
    const std::size_t from = end_before(turns.front(), extent(turns.front(), places_).first);
    const std::size_t until = extent(turns.back(), places_).second;
    for (const Bytes& span : whole.generated)
      if (span.first < span.second && span.first >= from && span.first < until) loss.push_back(span);
    for (const std::size_t turn : turns)
      for (const FieldPlace& place : places_) {
        const bool inside = std::any_of(loss.begin(), loss.end(), [&](const Bytes& span) {
          return place.begin >= span.first && place.end <= span.second;
        });
        if (place.message == turn && !inside)
          fail(turn,
               fmt::format("{{% generation %}} of {} leaves out a part of what the assistant writes ({} bytes), "
                           "all of it was expected",
                           chat_.chat().place(), place.end - place.begin),
               "Put all of it between {% generation %} and {% endgeneration %}: reasoning and calls too.");
      }
    return loss;
  }

  std::vector<Bytes> unmarked(const std::vector<std::size_t>& turns) const {
    std::vector<Bytes> loss;
    for (const std::size_t turn : turns) {
      const Bytes texts = extent(turn, places_);
      loss.emplace_back(begin_of(turn, texts.first), end_of(turn, texts.second));
      if (loss.size() > 1 && loss.back().first < loss[loss.size() - 2].second)
        fail(turn, "its place in the rendered text cannot be told from that of the turn before", mark_it);
    }
    return loss;
  }

  std::size_t begin_of(std::size_t turn, std::size_t first) const {
    const std::string prompt = rendered(turn, true, rules_.now).text, without = rendered(turn, false, rules_.now).text;
    const std::string header = prompt.starts_with(without) ? prompt.substr(without.size()) : "";
    if (text_.starts_with(prompt) && prompt.size() <= first) {
      const std::string_view own = std::string_view(text_).substr(prompt.size(), first - prompt.size());
      // Without a prompt for it, a header would count as what the assistant writes.
      if (!header.empty() || own.find_first_not_of(white) == std::string_view::npos) return prompt.size();
      fail(turn,
           fmt::format("{} has no generation prompt there (add_generation_prompt), so where the assistant begins "
                       "is not known",
                       chat_.chat().place()),
           mark_it);
    }
    // What stands before has changed since: the header is sought between the texts before and the turn's own.
    const std::size_t from = end_before(turn, first);
    const std::string_view gap = std::string_view(text_).substr(from, first - from);
    const std::size_t at = header.empty() ? std::string_view::npos : gap.find(header);
    if (at == std::string_view::npos || gap.find(header, at + 1) != std::string_view::npos)
      fail(turn,
           fmt::format("{} writes the turn in another way than its generation prompt begins it, so where the "
                       "assistant begins is not known",
                       chat_.chat().place()),
           mark_it);
    return from + at + header.size();
  }

  std::size_t end_of(std::size_t turn, std::size_t last) const {
    const std::string until = turn + 1 == c_.messages.size() ? text_ : rendered(turn + 1, false, rules_.now).text;
    std::string tail;
    if (text_.starts_with(until) && until.size() >= last) {
      tail = until.substr(last);
    } else {
      const std::vector<FieldPlace> then = fields(turn + 1, until);
      tail = until.substr(extent(turn, then).second);
      if (text_.compare(last, tail.size(), tail) != 0)
        fail(turn,
             fmt::format("{} ends the turn in another way once messages follow, so where it ends is not known",
                         chat_.chat().place()),
             mark_it);
    }
    return last + length_of_end(tail);
  }

  /// Of what follows a turn's texts, how much the assistant writes.
  std::size_t length_of_end(const std::string& tail) const {
    std::size_t end = 0;
    for (const std::string& token : rules_.special_tokens)
      if (const std::size_t at = tail.rfind(token); !token.empty() && at != std::string::npos)
        end = std::max(end, at + token.size());
    if (end > 0) return end;
    const std::size_t last = tail.find_last_not_of(white);
    return last == std::string::npos ? tail.size() : last + 1;
  }

  const Conversation& c_;
  const ModelChat& chat_;
  const TurnRules& rules_;
  std::string text_;
  std::vector<FieldPlace> places_;
};

}  // namespace

ConversationText write_conversation(const Conversation& conversation, const ModelChat& chat, const TurnRules& rules) {
  FOURMI_CHECK(!conversation.plain, "a pair of texts has no template");
  return Writer(conversation, chat, rules).write();
}

}  // namespace fourmi

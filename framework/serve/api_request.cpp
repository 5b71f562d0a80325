#include "framework/serve/api_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/tokenizer/json_depth.h"

namespace fourmi {

namespace {

using Json = nlohmann::ordered_json;  // templates write out what they are given, in the order in which it came
constexpr std::size_t max_prompts = 128, max_stops = 16, max_stop_bytes = 1024, max_keys = 1024;

[[noreturn]] void refuse(const std::string& param, const std::string& message) {
  throw ApiError(400, fmt::format("{}: {}", param, message), param);
}

/// One field after the other; what nobody took is refused at the end.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  const Json* find(const std::string& name) {
    seen_.insert(name);
    const auto it = json_.find(name);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  double number(const std::string& name, double otherwise, double least, double most) {
    const Json* j = find(name);
    if (!j) return otherwise;
    if (!j->is_number()) refuse(name, "a number was expected");
    const double value = j->get<double>();
    if (!(value >= least && value <= most))
      refuse(name, fmt::format("a number from {} to {} was expected", least, most));
    return value;
  }
  std::int64_t integer(const std::string& name, std::int64_t otherwise, std::int64_t least, std::int64_t most) {
    const Json* j = find(name);
    if (!j) return otherwise;
    if (!j->is_number_integer() || (j->is_number_unsigned() && j->get<std::uint64_t>() > std::uint64_t{1} << 62) ||
        j->get<std::int64_t>() < least || j->get<std::int64_t>() > most)
      refuse(name, fmt::format("a whole number from {} to {} was expected", least, most));
    return j->get<std::int64_t>();
  }
  bool flag(const std::string& name, bool otherwise) {
    const Json* j = find(name);
    if (!j) return otherwise;
    if (!j->is_boolean()) refuse(name, "true or false was expected");
    return j->get<bool>();
  }
  std::string text(const std::string& name) {
    const Json* j = find(name);
    if (!j) return "";
    if (!j->is_string()) refuse(name, "a text was expected");
    return j->get<std::string>();
  }
  /// Of what is not supported: only the value that changes nothing.
  void only(const std::string& name, const std::vector<Json>& values) {
    const Json* j = find(name);
    if (j && std::find(values.begin(), values.end(), *j) == values.end())
      refuse(name, fmt::format("not supported; leave it out or say {}", values.front().dump()));
  }
  void ignore(const std::string& name) { seen_.insert(name); }
  void end() const {
    for (const auto& [name, value] : json_.items())
      if (!seen_.contains(name)) refuse(name.substr(0, 64), "is not a field that is known here");
  }

 private:
  const Json& json_;
  std::set<std::string> seen_;
};

bool is_tokens(const Json& j) {
  return j.is_array() && !j.empty() &&
         std::all_of(j.begin(), j.end(), [](const Json& e) { return e.is_number_integer(); });
}

Prompt one_prompt(const Json& j) {
  if (j.is_string()) return {.text = j.get<std::string>()};
  if (!is_tokens(j)) refuse("prompt", "a text, a list of token ids, or a list of one of them was expected");
  Prompt p{.is_text = false};
  for (const Json& e : j) {
    if (e.get<double>() < 0 || e.get<double>() > std::numeric_limits<std::int32_t>::max())
      refuse("prompt", fmt::format("{} is no token id", e.dump()));
    p.tokens.push_back(e.get<std::int32_t>());
  }
  return p;
}

std::vector<Prompt> parse_prompts(const Json* j) {
  if (!j) refuse("prompt", "is missing");
  if (!j->is_array() || is_tokens(*j)) return {one_prompt(*j)};
  if (j->empty() || j->size() > max_prompts)
    refuse("prompt", fmt::format("1 to {} prompts were expected", max_prompts));
  std::vector<Prompt> prompts;
  for (const Json& e : *j) prompts.push_back(one_prompt(e));
  return prompts;
}

std::vector<std::string> parse_stops(const Json* j) {
  if (!j) return {};
  std::vector<std::string> stops;
  for (const Json& e : j->is_array() ? *j : Json::array({*j})) {
    if (!e.is_string()) refuse("stop", "a text or a list of texts was expected");
    stops.push_back(e.get<std::string>());
    if (stops.back().empty() || stops.back().size() > max_stop_bytes)
      refuse("stop", fmt::format("texts of 1 to {} bytes were expected", max_stop_bytes));
  }
  if (stops.size() > max_stops) refuse("stop", fmt::format("at most {} texts were expected", max_stops));
  return stops;
}

void parse_likelihood(Fields& f, ApiRequest& r) {
  if (!r.chat) {
    r.num_likeliest = static_cast<int>(f.integer("logprobs", -1, 0, 20));
    return;
  }
  const bool wanted = f.flag("logprobs", false);
  const auto count = f.integer("top_logprobs", 0, 0, 20);
  if (count > 0 && !wanted) refuse("top_logprobs", "needs logprobs: true");
  r.num_likeliest = wanted ? static_cast<int>(count) : -1;
}

void parse_messages(Fields& f, ApiRequest& r) {
  const Json* messages = f.find("messages");
  if (!messages || !messages->is_array() || messages->empty()) refuse("messages", "a list of messages was expected");
  r.messages = messages->dump();
  if (const Json* tools = f.find("tools")) {
    if (!tools->is_array()) refuse("tools", "a list was expected");
    if (!tools->empty()) r.tools = tools->dump();
  }
  if (const Json* variables = f.find("chat_template_kwargs")) {
    if (!variables->is_object()) refuse("chat_template_kwargs", "an object was expected");
    r.variables = variables->dump();
  }
  f.only("tool_choice", {"auto", "none"});
  f.only("response_format", {{{"type", "text"}}});
  f.ignore("parallel_tool_calls");
}

/// In the order of its keys, so looking for one takes the longer the more there are.
Json parse(std::string_view body) {
  std::vector<std::size_t> keys;
  return Json::parse(
      body,
      [&](int depth, Json::parse_event_t event, Json&) {
        keys.resize(static_cast<std::size_t>(depth) + 1);  // those of what has ended are gone
        if (event != Json::parse_event_t::key) return true;
        if (++keys.back() > max_keys)
          throw ApiError(400, fmt::format("an object of more than {} keys was found", max_keys));
        return true;
      },
      false);
}

}  // namespace

ApiRequest parse_api_request(std::string_view body, bool chat) {
  if (is_json_deeper(body))
    throw ApiError(400, fmt::format("the body has more than {} lists and objects in each other", most_json_depth));
  const Json json = parse(body);
  if (json.is_discarded()) throw ApiError(400, "the body is no JSON");
  if (!json.is_object()) throw ApiError(400, "a JSON object was expected");
  Fields f(json);
  ApiRequest r{.chat = chat};
  r.model = f.text("model");
  if (chat)
    parse_messages(f, r);
  else
    r.prompts = parse_prompts(f.find("prompt"));
  constexpr std::int64_t most = std::int64_t{1} << 31;
  std::string name = "max_tokens";
  if (chat && f.find("max_completion_tokens")) name = "max_completion_tokens";
  r.has_max_tokens = f.find(name) != nullptr;
  r.max_tokens = f.integer(name, 16, 0, most);
  if (chat) f.ignore("max_tokens");
  r.sampling.temperature = f.number("temperature", 1, 0, 100);
  r.sampling.top_p = f.number("top_p", 1, 0, 1);
  r.has_seed = f.find("seed") != nullptr;
  r.sampling.seed = static_cast<std::uint64_t>(
      f.integer("seed", 0, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()));
  parse_likelihood(f, r);
  if (!chat) r.echo = f.flag("echo", false);
  r.stream = f.flag("stream", false);
  if (const Json* options = f.find("stream_options")) {
    if (!options->is_object()) refuse("stream_options", "an object was expected");
    r.stream_usage = options->value("include_usage", Json(false)) == Json(true);
  }
  r.stops = parse_stops(f.find("stop"));
  f.only("n", {1});
  f.only("best_of", {1});
  f.only("presence_penalty", {0});
  f.only("frequency_penalty", {0});
  f.only("logit_bias", {Json::object()});
  f.only("suffix", {""});
  for (const char* name_of_nothing : {"user", "metadata", "store", "service_tier", "prompt_cache_key"})
    f.ignore(name_of_nothing);
  f.end();
  if (r.stream && r.prompts.size() > 1) refuse("stream", "one prompt at a time is streamed");
  if (r.stream && r.echo) refuse("stream", "an echo is not streamed");
  return r;
}

}  // namespace fourmi

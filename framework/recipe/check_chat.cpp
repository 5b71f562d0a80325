#include "framework/recipe/check_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

bool is_chat(const DataSource& source) {
  return source.format == "messages" || source.format == "prompt-completion";
}

/// Keys of `columns` that are given, in the order of the table.
std::vector<std::pair<std::string, std::string>> names_in(const ColumnNames& c) {
  std::vector<std::pair<std::string, std::string>> names{
      {"prompt", c.prompt}, {"completion", c.completion}, {"role", c.role},           {"content", c.content},
      {"user", c.user},     {"input", c.input},           {"assistant", c.assistant}, {"system", c.system}};
  std::erase_if(names, [](const auto& name) { return name.second.empty(); });
  return names;
}

/// `element`: "data.train[0]".
void column_issues(const Reading& reading, const std::string& element, const DataSource& source, Issues& issues) {
  const std::string columns = element + ".columns";
  if (!reading.given(columns)) return;
  const auto refuse = [&](const std::string& key, std::string found, std::string expected) {
    issues.add(reading.place(columns + "." + key), std::move(found), std::move(expected));
  };
  const auto is_one_of = [](std::string_view key, std::initializer_list<std::string_view> keys) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  const bool pair = source.format == "prompt-completion", exchange = !source.columns.user.empty();
  std::vector<std::pair<std::string, std::string>> in_lines, in_messages;
  for (const auto& [key, name] : names_in(source.columns)) {
    if (!reading.good(columns + "." + key)) continue;
    const bool of_pair = is_one_of(key, {"prompt", "completion"}), of_list = is_one_of(key, {"role", "content"});
    if (pair ? !of_pair && !of_list : of_pair)
      refuse(key, fmt::format("found `columns.{}` for the format `{}`", key, source.format),
             pair ? "expected `prompt`, `completion`, `role` or `content`" : "expected `format: prompt-completion`");
    else if (of_list && exchange)
      refuse(key, fmt::format("found `columns.{}` beside `columns.user`, which says that a line is one exchange", key),
             "expected one of them: a list of messages has roles");
    else if (!pair && !of_list && (!exchange || source.columns.assistant.empty()))
      refuse(key, fmt::format("found `columns.{}` without `columns.{}`", key, exchange ? "assistant" : "user"),
             "expected `user` and `assistant` both");
    auto& before = of_list ? in_messages : in_lines;
    for (const auto& [other, same] : before)
      if (same == name)
        refuse(key, fmt::format("found `{}` as `columns.{}` and as `columns.{}`", shown(name), other, key),
               "expected a key of its own for each");
    before.emplace_back(key, name);
  }
  if (exchange && reading.given(element + ".field"))
    issues.add(reading.place(element + ".field"), "found `field` beside `columns.user`",
               "expected none: such a line has no list of messages");
}

bool is_date(const std::string& text) {
  int year = 0, month = 0, day = 0, end = 0;
  const bool read = text.size() == 10 && std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &end) == 3;
  return read && end == 10 && year >= 1900 && month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

}  // namespace

void chat_issues(const Reading& reading, Issues& issues) {
  const DataSection& data = reading.recipe.data;
  bool chats = false;
  const auto sources = [&](const std::string& list, const std::vector<DataSource>& all) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::string element = fmt::format("{}[{}]", list, i);
      if (!reading.good(element + ".format")) continue;
      chats = chats || is_chat(all[i]);
      if (is_chat(all[i])) column_issues(reading, element, all[i], issues);
      for (const char* key : {"loss_on", "reasoning", "columns"}) {
        const std::string path = element + "." + key;
        if (is_chat(all[i]) || !reading.given(path) || !reading.good(path)) continue;
        issues.add(reading.place(path), fmt::format("found `{}` for the format `{}`", key, all[i].format),
                   "expected `format: messages` or `prompt-completion` beside it");
      }
    }
  };
  sources("data.train", data.train);
  sources("data.validation", data.validation);
  if (reading.good("data.packing") && reading.good("data.overlong") && data.packing && data.overlong != "error" &&
      !chats)
    issues.add(reading.place("data.overlong"), "found `overlong` with `packing: true`, which cuts no document off",
               "expected `packing: false` or a source of conversations beside it, or none");
  if (reading.good("data.chat_date") && !data.chat_date.empty() && !is_date(data.chat_date))
    issues.add(reading.place("data.chat_date"), fmt::format("found `{}`", shown(data.chat_date)),
               "expected a date, YYYY-MM-DD");
}

}  // namespace fourmi::recipe

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
      for (const char* key : {"loss_on", "reasoning"}) {
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

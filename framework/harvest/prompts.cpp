#include "framework/harvest/prompts.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "framework/data/text.h"
#include "framework/digest/sha256.h"
#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using nlohmann::json;

Prompt prompt_of(const DataSource& source, const std::string& line, const std::string& place) {
  const json row = json::parse(line, nullptr, false);
  if (!row.is_object()) throw Error(ExitStatus::input, place, "no JSON object was found, one a line was expected");
  const auto text = row.find(source.field);
  if (text == row.end() || !text->is_string() || text->get_ref<const std::string&>().empty())
    throw Error(ExitStatus::input, place,
                fmt::format("no text was found as `{}`, a prompt was expected there", source.field),
                fmt::format("Name the prompts' column: distill.harvest.prompts.{}.column", source.name));
  Prompt prompt;
  prompt.text = *text;
  prompt.source = source.name;
  prompt.id = place;
  prompt.license = source.license;
  if (!source.reference.empty()) {
    const auto reference = row.find(source.reference);
    if (reference == row.end())
      throw Error(ExitStatus::input, place,
                  fmt::format("no `{}` was found, what an answer is held against was expected there", source.reference),
                  fmt::format("Name its column: distill.harvest.prompts.{}.reference", source.name));
    prompt.reference = reference->dump();
  }
  prompt.key = sha256(prompt.text);
  return prompt;
}

}  // namespace

Prompts read_prompts(const std::vector<DataSource>& sources) {
  Prompts prompts;
  std::unordered_set<std::string> seen;
  for (const DataSource& source : sources) {
    const std::string place = "distill.harvest.prompts." + source.name;
    for (const std::filesystem::path& file : find_files(source.path, place)) {
      std::string bytes;
      append_file(file, bytes);
      std::int64_t number = 0;
      for (std::size_t begin = 0; begin < bytes.size();) {
        const std::size_t end = std::min(bytes.find('\n', begin), bytes.size());
        const std::string line = bytes.substr(begin, end - begin);
        begin = end + 1, ++number;
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        Prompt prompt = prompt_of(source, line, fmt::format("{}:{}", file.string(), number));
        seen.insert(prompt.key).second ? prompts.all.push_back(std::move(prompt)) : void(++prompts.duplicates);
      }
    }
  }
  if (prompts.all.empty())
    throw Error(ExitStatus::input, "distill.harvest.prompts", "no prompt was found, at least one was expected");
  return prompts;
}

}  // namespace fourmi::harvest

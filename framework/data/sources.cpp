#include "framework/data/sources.h"

#include <fmt/format.h>

#include "framework/data/input_file.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

std::string place_of(const std::string& list, const DataSource& source, const char* key) {
  return fmt::format("{}.{}.{}", list, source.name, key);
}

void open_all(const std::vector<DataSource>& sources, const std::string& list) {
  for (const DataSource& source : sources) {
    const std::string place = place_of(list, source, "path");
    if (source.format == "synthetic") continue;
    if (source.format == "bin") {
      const TokenFiles files(source.path, place);
      continue;
    }
    for (const std::filesystem::path& path : find_files(source.path, place)) {
      const InputFile file(path);
      std::byte first;
      if (file.size() > 0) file.read(0, std::span(&first, 1));
    }
  }
}

}  // namespace

void open_inputs(const DataSection& data) {
  open_all(data.train, "data.train");
  open_all(data.validation, "data.validation");
}

std::int64_t LoadedSource::num_bytes() const {
  return text ? std::ssize(text->bytes) : tokens ? tokens->num_bytes() : chat ? std::ssize(chat->bytes) : 0;
}

std::uint32_t LoadedSource::checksum() const {
  return text ? text->checksum() : tokens ? tokens->checksum() : chat ? chat->checksum() : 0;
}

std::vector<LoadedSource> load_sources(const std::vector<DataSource>& sources, const std::string& place) {
  std::vector<LoadedSource> loaded;
  for (const DataSource& source : sources) {
    const std::string path = place_of(place, source, "path");
    LoadedSource one{source};
    if (source.format == "text")
      one.text = std::make_shared<const Text>(read_text(source.path, path));
    else if (source.format == "jsonl")
      one.text = std::make_shared<const Text>(read_json_lines(source.path, source.field, path));
    else if (source.format == "bin")
      one.tokens = std::make_shared<const TokenFiles>(source.path, path);
    else if (source.format == "messages" || source.format == "prompt-completion")
      one.chat = std::make_shared<const ChatLines>(read_chat_lines(source.path, path));
    else if (source.format != "synthetic")
      throw Error(
          ExitStatus::usage, place_of(place, source, "format"),
          fmt::format(
              "'{}' was found, 'text', 'jsonl', 'bin', 'messages', 'prompt-completion' or 'synthetic' was expected",
              source.format));
    loaded.push_back(std::move(one));
  }
  return loaded;
}

std::string format_of_name(const std::string& path) {
  std::string name = path;
  for (const std::string_view packed : {".gz", ".zst"})
    if (name.ends_with(packed)) name.resize(name.size() - packed.size());
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return "jsonl";
  return name.ends_with(".bin") || name.ends_with(".idx") ? "bin" : "text";
}

}  // namespace fourmi

#include "framework/data/text.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

#include "framework/data/input_file.h"
#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

std::string read_whole(const fs::path& path) {
  const InputFile file(path);
  std::string bytes(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  file.check_unchanged();
  return bytes;
}

/// Compressions that are not read: without this they would be taken for text.
void refuse_other_compressions(std::string_view bytes, const fs::path& file) {
  using Kind = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Kind, 2> kinds{Kind{"\xfd"
                                           "7zXZ",
                                           "xz"},
                                      Kind{"BZh", "bzip2"}};
  for (const auto& [magic, name] : kinds)
    if (bytes.starts_with(magic) && (name != "bzip2" || file.extension() == ".bz2"))
      throw Error(ExitStatus::input, file.string(), fmt::format("{} data, plain text, gzip or zstd was expected", name),
                  "Decompress it, or compress it with gzip or zstd.");
}

void add_folder(const fs::path& folder, std::vector<fs::path>& files) {
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    const bool into = it->is_directory() && !it->is_symlink();
    if (it->path().filename().string().starts_with('.')) {
      if (into) it.disable_recursion_pending();
    } else if (it->is_regular_file()) {
      files.push_back(it->path());
    } else if (!into) {
      throw Error(ExitStatus::input, it->path().string(),
                  it->is_directory() ? "a link to a folder inside of a folder, files and folders were expected"
                                     : "neither a file nor a folder, files and folders were expected",
                  "Name its target in the recipe, or take it out of the folder.");
    }
  }
}

std::vector<std::string> expand(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

/// Debian's dictionaries lie in /usr/share/dictd/<name>.dict.dz, and their packages are called dict-<name>.
std::string remedy_for(const std::string& path) {
  const fs::path p(path);
  const std::string name = p.filename().string();
  const std::string stem = name.substr(0, name.find('.'));
  if (p.parent_path() != "/usr/share/dictd" || stem.empty() || stem.find_first_of("*?[") != std::string::npos)
    return "Correct the path.";
  return fmt::format("Install it: apt-get install dict-{}", stem);
}

}  // namespace

std::vector<fs::path> find_files(const std::string& path, const std::string& place) {
  std::vector<fs::path> files;
  try {
    // A name that exists is meant literally, even if it holds a bracket.
    const bool exists = fs::exists(path);
    for (const std::string& one : exists ? std::vector<std::string>{path} : expand(path)) {
      if (fs::is_directory(one))
        add_folder(one, files);
      else
        files.emplace_back(one);
    }
    if (files.empty())
      throw Error(ExitStatus::input, place,
                  path + (exists ? " is a folder without files, text files were expected"
                                 : " does not exist, a file, a folder or a glob was expected"),
                  exists ? "" : remedy_for(path));
  } catch (const fs::filesystem_error& failure) {
    throw Error(ExitStatus::input, place, fmt::format("{}, a readable path was expected", failure.what()));
  }
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return files;
}

void append_file(const fs::path& file, std::string& out) {
  std::string bytes = read_whole(file);
  const std::string ending = file.extension().string();
  if (bytes.starts_with("\x1f\x8b")) return append_gzip(bytes, file.string(), out);
  if (bytes.starts_with("\x28\xb5\x2f\xfd")) return append_zstd(bytes, file.string(), out);
  const char* kind = ending == ".gz" || ending == ".dz" ? "gzip" : ending == ".zst" ? "zstd" : nullptr;
  if (kind)
    throw Error(ExitStatus::input, fmt::format("{}: byte 0", file.string()),
                bytes.empty() ? fmt::format("an empty file, a whole {} file was expected", kind)
                              : fmt::format("no {0} header, a whole {0} file was expected", kind),
                "Fetch or install the file again.");
  refuse_other_compressions(bytes, file);
  out.empty() ? out.swap(bytes) : void(out.append(bytes));
}

Text read_text(const std::string& path, const std::string& place) {
  Text text;
  text.files = find_files(path, place);
  for (const fs::path& file : text.files) {
    append_file(file, text.bytes);
    text.file_ends.push_back(static_cast<std::int64_t>(text.bytes.size()));
  }
  if (text.bytes.empty())
    throw Error(ExitStatus::input, place, fmt::format("{} holds no text at all, at least one byte was expected", path));
  text.bytes.shrink_to_fit();
  return text;
}

Text read_json_lines(const std::string& path, const std::string& field, const std::string& place) {
  Text text;
  text.files = find_files(path, place);
  for (const fs::path& file : text.files) {
    std::string lines;
    append_file(file, lines);
    append_json_lines(std::move(lines), field, file.string(), text);
  }
  if (text.bytes.empty())
    throw Error(ExitStatus::input, place, fmt::format("{} holds no text at all, at least one byte was expected", path));
  text.bytes.shrink_to_fit();
  return text;
}

Utf8Flaws find_utf8_flaws(std::string_view text) {
  Utf8Flaws flaws;
  const auto eight_letters = [&](std::size_t i) {  // most text is ASCII
    std::uint64_t bytes = 0;
    if (i + sizeof bytes > text.size()) return false;
    std::memcpy(&bytes, text.data() + i, sizeof bytes);
    return (bytes & 0x8080808080808080u) == 0;
  };
  for (std::size_t i = 0; i < text.size();) {
    if (eight_letters(i)) {
      i += 8;
      continue;
    }
    const std::size_t length = utf8::character(text.substr(i, 4));
    if (length == 0 && flaws.count++ == 0) flaws.first = static_cast<std::int64_t>(i);
    i += length == 0 ? 1 : length;
  }
  return flaws;
}

}  // namespace fourmi

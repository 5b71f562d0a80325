#include "framework/data/text.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

std::string read_whole(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in)
    throw Error(ExitStatus::input, file.string(),
                fmt::format("{}, a readable file was expected", std::strerror(errno)));
  std::string bytes;
  std::error_code failure;
  const auto size = fs::file_size(file, failure);
  if (!failure) bytes.reserve(size);
  std::array<char, 1 << 16> piece;
  while (in.read(piece.data(), piece.size()) || in.gcount() > 0)
    bytes.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  if (in.bad())
    throw Error(ExitStatus::input, fmt::format("{}: byte {}", file.string(), bytes.size()),
                "a read error, the rest of the file was expected");
  return bytes;
}

/// Compressions that are not read: without this they would be taken for text.
void refuse_other_compressions(std::string_view bytes, const fs::path& file) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kinds{{{"\xfd"
                                                                                 "7zXZ",
                                                                                 "xz"},
                                                                                {"\x28\xb5\x2f\xfd", "zstd"},
                                                                                {"BZh", "bzip2"}}};
  for (const auto& [magic, name] : kinds)
    if (bytes.starts_with(magic) && (name != "bzip2" || file.extension() == ".bz2"))
      throw Error(ExitStatus::input, file.string(), fmt::format("{} data, plain text or gzip was expected", name),
                  "Decompress it, or compress it with gzip.");
}

void add_folder(const fs::path& folder, std::vector<fs::path>& files) {
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    if (it->path().filename().string().starts_with('.')) {
      if (it->is_directory()) it.disable_recursion_pending();
    } else if (it->is_regular_file()) {
      files.push_back(it->path());
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
  const bool named_gzip = file.extension() == ".gz" || file.extension() == ".dz";
  if (bytes.starts_with("\x1f\x8b")) return append_gzip(bytes, file.string(), out);
  if (named_gzip)
    throw Error(ExitStatus::input, fmt::format("{}: byte 0", file.string()),
                bytes.empty() ? "an empty file, a whole gzip file was expected"
                              : "no gzip header, a whole gzip file was expected",
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

}  // namespace fourmi

#include "framework/interop/stored_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t most_index_bytes = std::int64_t{100} << 20;

/// A file of the folder itself: a name from outside leads nowhere else.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

std::string list_names(const std::vector<std::string>& names, std::size_t most) {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) list += (i ? "; " : "") + names[i];
  if (names.size() > most) list += fmt::format("; and {} more", names.size() - most);
  return list;
}

fs::path behind_links(const fs::path& path) {
  std::error_code failure;
  fs::path end = fs::canonical(path, failure);
  return failure ? path : end;
}

StoredModel::StoredModel(fs::path folder, Disk& disk) : folder_(std::move(folder)), disk_(disk) {
  std::error_code ignored;
  if (fs::exists(folder_ / index_name, ignored)) {
    for (const std::string& name : read_index()) open(name);
  } else if (fs::exists(folder_ / single_file_name, ignored)) {
    open(std::string(single_file_name));
  } else {
    throw Error(ExitStatus::input, folder_.string(),
                fmt::format("found neither {} nor {}, expected one of them", single_file_name, index_name),
                "Name a folder that Hugging Face's libraries saved a model to, with its weights as safetensors");
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const Entry& a, const Entry& b) { return a.tensor.name < b.tensor.name; });
  for (std::size_t i = 1; i < tensors_.size(); ++i)
    if (tensors_[i].tensor.name == tensors_[i - 1].tensor.name)
      throw Error(ExitStatus::input, folder_.string(),
                  fmt::format("tensor `{}` is in {} and in {}, expected it once", tensors_[i].tensor.name,
                              files_[tensors_[i - 1].file].name, files_[tensors_[i].file].name));
  if (!index_.empty()) check_index();
}

std::vector<std::string> StoredModel::read_index() {
  using nlohmann::json;
  const fs::path path = folder_ / index_name;
  const auto fail = [&](const std::string& found) {
    throw Error(ExitStatus::input, path.string(), found + ", expected `weight_map`: a file's name for each tensor",
                "Fetch the file again");
  };
  const json root = json::parse(read_text(disk_, behind_links(path), most_index_bytes), nullptr, false);
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object() ||
      root["weight_map"].empty())
    fail("found no index of a model");
  std::vector<std::string> names;
  for (const auto& [tensor, file] : root["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()))
      fail(fmt::format("tensor `{}` has no file of this folder", tensor));
    index_.emplace_back(tensor, file.get<std::string>());
    names.push_back(index_.back().second);
  }
  std::sort(index_.begin(), index_.end());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void StoredModel::open(const std::string& name) {
  const fs::path path = folder_ / name;
  auto reader = std::make_unique<FileReader>(disk_, behind_links(path));
  std::string eight(static_cast<std::size_t>(std::min<std::int64_t>(8, reader->size())), '\0');
  reader->read(std::as_writable_bytes(std::span(eight)), 0);
  const std::int64_t length = header_length(eight, reader->size(), path.string());
  std::string text(static_cast<std::size_t>(length), '\0');
  reader->read(std::as_writable_bytes(std::span(text)), 8);
  bytes_read_ += 8 + length;
  const std::int64_t data_begin = 8 + length, bytes = reader->size();
  for (StoredTensor& t : parse_safetensors_header(text, bytes - data_begin, path.string()).tensors)
    tensors_.push_back({std::move(t), files_.size()});
  files_.push_back({name, data_begin, bytes, std::move(reader)});
}

void StoredModel::check_index() const {
  std::vector<std::string> problems;
  for (const auto& [tensor, file] : index_) {
    const Entry* e = find(tensor);
    if (!e)
      problems.push_back(fmt::format("{} is missing in {}", tensor, file));
    else if (files_[e->file].name != file)
      problems.push_back(fmt::format("{} is in {}, not in {}", tensor, files_[e->file].name, file));
  }
  for (const Entry& e : tensors_) {
    const auto at = std::lower_bound(index_.begin(), index_.end(), std::pair(e.tensor.name, std::string()));
    if (at == index_.end() || at->first != e.tensor.name)
      problems.push_back(fmt::format("{} of {} is not in the index", e.tensor.name, files_[e.file].name));
  }
  if (problems.empty()) return;
  throw Error(ExitStatus::input, (folder_ / index_name).string(),
              fmt::format("index and files differ ({}), expected them to agree", list_names(problems)),
              "Fetch the folder again");
}

const WeightSource::Entry* WeightSource::find(std::string_view name) const {
  const std::vector<Entry>& all = tensors();
  const auto at = std::lower_bound(all.begin(), all.end(), name,
                                   [](const Entry& e, std::string_view n) { return e.tensor.name < n; });
  return at != all.end() && at->tensor.name == name ? &*at : nullptr;
}

std::int64_t StoredModel::bytes() const {
  std::int64_t sum = 0;
  for (const File& f : files_) sum += f.bytes;
  return sum;
}

std::vector<fs::path> StoredModel::parts() const {
  std::vector<fs::path> all{folder_ / "config.json"};
  for (const File& f : files_) all.push_back(folder_ / f.name);
  return all;
}

void StoredModel::read_values(const Entry& entry, std::int64_t first, std::span<float> out) const {
  const std::int64_t size = size_of(entry.tensor.type);
  std::vector<std::byte> stored(out.size() * static_cast<std::size_t>(size));
  read(entry, first * size, stored);
  widen(entry.tensor.type, stored, out);
}

void StoredModel::read(const Entry& entry, std::int64_t begin, std::span<std::byte> out) const {
  const StoredTensor& t = entry.tensor;
  const auto n = static_cast<std::int64_t>(out.size());
  FOURMI_CHECK(begin >= 0 && begin + n <= t.bytes(), "{}: {} bytes from {}", t.name, n, begin);
  const File& file = files_[entry.file];
  try {
    file.reader->read(out, file.data_begin + t.begin + begin);
  } catch (const Error& e) {
    throw Error(e.status(), (folder_ / file.name).string(), fmt::format("tensor `{}`: {}", t.name, e.cause()),
                e.remedy());
  }
  bytes_read_ += n;
}

}  // namespace fourmi::interop

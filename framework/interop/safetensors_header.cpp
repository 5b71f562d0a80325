#include "framework/interop/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace fourmi::interop {
namespace {

using nlohmann::json;

constexpr const char* remedy = "The file is damaged, or no safetensors file: fetch it again";

class HeaderReader {
 public:
  HeaderReader(std::int64_t data_bytes, const std::string& place) : data_bytes_(data_bytes), place_(place) {}

  SafetensorsHeader read(std::string_view text) {
    const json root = parse(text);
    if (!root.is_object()) fail("the header is no JSON object", "one that begins with `{`");
    for (const auto& [name, value] : root.items()) {
      if (name == "__metadata__")
        read_metadata(value);
      else
        header_.tensors.push_back(read_tensor(name, value));
    }
    check_places();
    return std::move(header_);
  }

 private:
  [[noreturn]] void fail(const std::string& found, const std::string& expected) const {
    throw Error(ExitStatus::input, place_, found + ", expected " + expected, remedy);
  }

  json parse(std::string_view text) const {
    if (text.empty() || text.front() != '{') fail("the header is no JSON object", "one that begins with `{`");
    std::vector<std::set<std::string>> open;
    std::string twice;
    const json::parser_callback_t look = [&](int, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::object_start) open.emplace_back();
      if (event == json::parse_event_t::object_end) open.pop_back();
      if (event == json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second && twice.empty())
        twice = parsed.get<std::string>();
      return true;
    };
    try {
      json root = json::parse(text.begin(), text.end(), look);
      if (!twice.empty()) fail(fmt::format("the header has `{}` twice", twice), "each name once");
      return root;
    } catch (const json::exception&) {
      fail("the header is no JSON", "a JSON object");
    }
  }

  void read_metadata(const json& value) {
    if (!value.is_object()) fail("`__metadata__` is no object", "texts by name");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) fail(fmt::format("`__metadata__.{}` is no text", key), "texts by name");
      header_.metadata[key] = text.get<std::string>();
    }
  }

  std::int64_t whole(const json& value, const std::string& what) const {
    const bool good =
        value.is_number_unsigned() &&
        value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!good) fail(what + " is no whole number from 0", "one");
    return value.get<std::int64_t>();
  }

  StoredTensor read_tensor(const std::string& name, const json& value) const {
    const std::string what = fmt::format("tensor `{}`", name);
    if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
        !value.contains("data_offsets"))
      fail(what + " has other members", "dtype, shape and data_offsets");
    StoredTensor t;
    t.name = name;
    if (!value["dtype"].is_string()) fail(what + " has a dtype that is no text", "a type's name");
    t.type_name = value["dtype"].get<std::string>();
    const std::optional<std::int64_t> element = element_bytes(t.type_name);
    if (!element) fail(fmt::format("{} has the type `{}`", what, t.type_name), "one that the format has");
    t.type = parse_stored_type(t.type_name);

    const json& shape = value["shape"];
    if (!shape.is_array() || shape.size() > t.shape.dims.size())
      fail(what + " has no shape of at most five dims", "whole numbers");
    std::int64_t bytes = *element;
    for (const json& dim : shape) {
      const std::int64_t n = whole(dim, what + "'s shape");
      t.shape.dims[static_cast<std::size_t>(t.shape.rank++)] = n;
      if (__builtin_mul_overflow(bytes, n, &bytes)) fail(what + " has more than 2^63 bytes", "a shape of its bytes");
    }
    const json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) fail(what + " has no two data_offsets", "begin and end");
    t.begin = whole(offsets[0], what + "'s begin");
    t.end = whole(offsets[1], what + "'s end");
    if (t.begin > t.end || t.end > data_bytes_)
      fail(fmt::format("{} lies from byte {} to {} of {}", what, t.begin, t.end, data_bytes_), "bytes inside the file");
    if (t.bytes() != bytes)
      fail(fmt::format("{} of {} {} has {} bytes", what, t.type_name, to_string(t.shape), t.bytes()),
           fmt::format("{}", bytes));
    return t;
  }

  void check_places() {
    std::vector<StoredTensor>& all = header_.tensors;
    std::sort(all.begin(), all.end(), [](const StoredTensor& a, const StoredTensor& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::int64_t at = 0;
    for (const StoredTensor& t : all) {
      if (t.begin != at)
        fail(fmt::format("tensor `{}` begins at byte {}, {}", t.name, t.begin,
                         t.begin < at ? "inside the tensor before it" : "with a gap before it"),
             fmt::format("byte {}", at));
      at = t.end;
    }
    if (at != data_bytes_)
      fail(fmt::format("{} bytes belong to no tensor", data_bytes_ - at), "every byte to belong to one");
  }

  std::int64_t data_bytes_;
  const std::string& place_;
  SafetensorsHeader header_;
};

}  // namespace

std::int64_t header_length(std::string_view first_eight, std::int64_t file_bytes, const std::string& place) {
  FOURMI_CHECK(first_eight.size() == 8 || file_bytes < 8);
  if (file_bytes < 8)
    throw Error(ExitStatus::input, place, fmt::format("the file has {} bytes, expected at least 8", file_bytes),
                remedy);
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(first_eight[i]);
  if (length > most_header_bytes || static_cast<std::int64_t>(length) > file_bytes - 8)
    throw Error(ExitStatus::input, place,
                fmt::format("the header is said to have {} bytes, expected at most {} ({} are left in the file)",
                            length, most_header_bytes, file_bytes - 8),
                remedy);
  return static_cast<std::int64_t>(length);
}

SafetensorsHeader parse_safetensors_header(std::string_view text, std::int64_t data_bytes, const std::string& place) {
  return HeaderReader(data_bytes, place).read(text);
}

void lay_out(std::vector<StoredTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    const std::int64_t width_a = size_of(a.type), width_b = size_of(b.type);
    return width_a != width_b ? width_a > width_b : a.name < b.name;
  });
  std::int64_t at = 0;
  for (StoredTensor& t : tensors) {
    t.begin = at;
    t.end = at += t.shape.num_elements() * size_of(t.type);
  }
}

std::string safetensors_header_text(const std::vector<StoredTensor>& tensors) {
  nlohmann::ordered_json root;
  root["__metadata__"]["format"] = "pt";  // readers of other frameworks look for it
  for (const StoredTensor& t : tensors) {
    nlohmann::ordered_json& j = root[t.name];
    j["dtype"] = name_of(t.type);
    j["shape"] = nlohmann::ordered_json::array();
    for (int i = 0; i < t.shape.rank; ++i) j["shape"].push_back(t.shape[i]);
    j["data_offsets"] = {t.begin, t.end};
  }
  std::string text = root.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

}  // namespace fourmi::interop

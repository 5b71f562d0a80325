#include "framework/interop/gguf/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

constexpr std::int64_t most_keys = 1 << 16, most_tensors = 1 << 20, most_entries = 1 << 24, longest_name = 1 << 16,
                       longest_text = 1 << 24;

enum ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64, num_types };
constexpr std::int64_t type_bytes[num_types] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};  // of texts: at least

/// Reads the header's bytes in order, a piece of the file at a time.
class Cursor {
 public:
  Cursor(const ByteSource& file, const std::string& place) : file_(file), place_(place), size_(file.size()) {}

  [[noreturn]] void refuse(const std::string& what, const std::string& remedy = {}) const {
    throw Error(ExitStatus::input, fmt::format("{}: {}", place_, what_.empty() ? fmt::format("byte {}", at_) : what_),
                what, remedy);
  }
  /// What is being read, for messages.
  void reading(std::string what) { what_ = std::move(what); }
  std::int64_t at() const { return at_; }
  std::int64_t left() const { return size_ - at_; }

  void bytes(void* to, std::int64_t count) {
    if (count > left())
      refuse(fmt::format("the file ends {} bytes too early, a whole GGUF file was expected", count - left()),
             "Fetch the file again");
    auto* out = static_cast<std::byte*>(to);
    while (count > 0) {
      if (at_ < begin_ || at_ >= begin_ + static_cast<std::int64_t>(piece_.size())) {
        piece_.resize(static_cast<std::size_t>(std::min<std::int64_t>(piece_bytes, left())));
        begin_ = at_;
        file_.read(begin_, piece_);
      }
      const std::int64_t part = std::min(count, begin_ + static_cast<std::int64_t>(piece_.size()) - at_);
      std::memcpy(out, piece_.data() + (at_ - begin_), static_cast<std::size_t>(part));
      out += part;
      at_ += part;
      count -= part;
    }
  }
  template <class T>
  T number() {
    T value;
    bytes(&value, sizeof value);
    return value;
  }
  /// A count of things that take at least `bytes_each` in the file.
  std::int64_t count(std::int64_t most, std::int64_t bytes_each, const char* of) {
    const auto n = number<std::uint64_t>();
    if (n > static_cast<std::uint64_t>(std::min(most, left() / bytes_each)))
      refuse(fmt::format("{} {}, at most {} (the file has {} bytes left) were expected", n, of, most, left()));
    return static_cast<std::int64_t>(n);
  }
  std::string string(std::int64_t longest) {
    std::string out(static_cast<std::size_t>(count(longest, 1, "bytes of text")), '\0');
    bytes(out.data(), static_cast<std::int64_t>(out.size()));
    return out;
  }
  std::string name(const char* of) {
    reading("");
    std::string out = string(longest_name);
    const bool good = !out.empty() && utf8::valid_prefix(out) == out.size() &&
                      std::none_of(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!good) refuse(fmt::format("a name of a {} that is no text", of));
    return out;
  }

 private:
  static constexpr std::int64_t piece_bytes = 1 << 16;
  const ByteSource& file_;
  const std::string& place_;
  std::int64_t size_, at_ = 0, begin_ = 0;
  std::vector<std::byte> piece_;
  std::string what_;
};

std::int64_t integer(Cursor& in, std::uint32_t type) {
  switch (type) {
    case u8:
      return in.number<std::uint8_t>();
    case i8:
      return in.number<std::int8_t>();
    case u16:
      return in.number<std::uint16_t>();
    case i16:
      return in.number<std::int16_t>();
    case u32:
      return in.number<std::uint32_t>();
    case i32:
      return in.number<std::int32_t>();
    case i64:
      return in.number<std::int64_t>();
    default:
      break;
  }
  const auto value = in.number<std::uint64_t>();
  if (value > static_cast<std::uint64_t>(INT64_MAX))
    in.refuse(fmt::format("{}, a number below 2^63 was expected", value));
  return static_cast<std::int64_t>(value);
}

double real(Cursor& in, std::uint32_t type) {
  if (type == f64) return in.number<double>();
  const auto value = in.number<float>();
  // 1e-05f is a number near 1e-05: what was meant is the shortest that is nearest to it.
  const std::string shortest = fmt::format("{}", value);
  double meant = value;
  std::from_chars(shortest.data(), shortest.data() + shortest.size(), meant);
  return meant;
}

bool truth(Cursor& in) {
  const auto value = in.number<std::uint8_t>();
  if (value > 1) in.refuse(fmt::format("{} as a truth value, 0 or 1 was expected", value));
  return value == 1;
}

std::uint32_t type_of(Cursor& in) {
  const auto type = in.number<std::uint32_t>();
  if (type >= num_types)
    in.refuse(fmt::format("a value of type {}, one from 0 to {} was expected", type, num_types - 1));
  return type;
}

GgufValue value_of(Cursor& in) {
  const std::uint32_t type = type_of(in);
  if (type == boolean) return truth(in);
  if (type == f32 || type == f64) return real(in, type);
  if (type == text) return in.string(longest_text);
  if (type != array) return integer(in, type);
  const std::uint32_t element = type_of(in);
  if (element == array) in.refuse("an array of arrays, an array of values was expected");
  const std::int64_t count = in.count(most_entries, type_bytes[element], "entries");
  const auto all = [&]<class T>(std::vector<T> list, auto read) {
    list.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) list.push_back(read());
    return GgufValue(std::move(list));
  };
  if (element == boolean) return all(std::vector<bool>{}, [&] { return truth(in); });
  if (element == f32 || element == f64) return all(std::vector<double>{}, [&] { return real(in, element); });
  if (element == text) return all(std::vector<std::string>{}, [&] { return in.string(longest_text); });
  return all(std::vector<std::int64_t>{}, [&] { return integer(in, element); });
}

GgufTensor tensor_of(Cursor& in) {
  GgufTensor tensor;
  tensor.name = in.name("tensor");
  in.reading("tensor " + tensor.name);
  const auto dims = in.number<std::uint32_t>();
  if (dims < 1 || dims > 4) in.refuse(fmt::format("{} dimensions, 1 to 4 were expected", dims));
  std::int64_t elements = 1;
  for (std::uint32_t i = 0; i < dims; ++i) {
    const std::int64_t extent = integer(in, u64);
    if (extent < 1 || __builtin_mul_overflow(elements, extent, &elements) || elements > INT64_MAX / 8)
      in.refuse(fmt::format("an extent of {}, one from 1 on, of a tensor that fits into memory, was expected", extent));
    tensor.shape.insert(tensor.shape.begin(), extent);
  }
  const auto number = in.number<std::uint32_t>();
  const GgufTypeInfo* info = find_gguf_type(number);
  if (info == nullptr)
    in.refuse(fmt::format("elements of type {} ({}), F32, F16, BF16, Q8_0 or Q4_1 was expected", number,
                          ggml_type_name(number)),
              "Take a file of the model in one of these types");
  if (tensor.shape.back() % info->block_elements != 0)
    in.refuse(fmt::format("rows of {} elements, a multiple of {} ({}) was expected", tensor.shape.back(),
                          info->block_elements, info->name));
  tensor.type = info->type;
  tensor.bytes = elements / info->block_elements * info->block_bytes;
  tensor.begin = integer(in, u64);
  return tensor;
}

const char* kind_of(const GgufValue& value) {
  constexpr const char* kinds[] = {
      "a truth value",        "an integer",          "a number",         "a text", "an array of truth values",
      "an array of integers", "an array of numbers", "an array of texts"};
  return kinds[value.index()];
}

void read_keys(Cursor& in, std::int64_t count, GgufHeader& header) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::string key = in.name("key");
    in.reading("key " + key);
    GgufValue value = value_of(in);
    if (!header.values.emplace(std::move(key), std::move(value)).second) in.refuse("the key twice, once was expected");
  }
}

/// Tensors lie one after the other, each at a multiple of `alignment`, and end where the file ends.
void place_tensors(GgufHeader& header, std::int64_t after_header, std::int64_t file_bytes, std::int64_t alignment) {
  const auto refuse = [&](const std::string& where, const std::string& what) {
    throw Error(ExitStatus::input, fmt::format("{}: {}", header.place, where), what, "Fetch the file again");
  };
  const auto aligned = [&](std::int64_t n) { return (n + alignment - 1) / alignment * alignment; };
  const std::int64_t data = aligned(after_header);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.begin < b.begin; });
  std::int64_t next = 0;
  for (GgufTensor& tensor : header.tensors) {
    const std::string where = "tensor " + tensor.name;
    if (tensor.begin != next) refuse(where, fmt::format("at byte {} of the data, {} was expected", tensor.begin, next));
    if (tensor.bytes > file_bytes - data - next)
      refuse(where, fmt::format("it ends beyond the file's {} bytes, a whole GGUF file was expected", file_bytes));
    next = aligned(next + tensor.bytes);
    tensor.begin += data;
  }
  if (file_bytes > data + next)
    refuse(fmt::format("byte {}", data + next),
           fmt::format("{} bytes that no tensor has, the file's end was expected", file_bytes - data - next));
  std::map<std::string_view, int> names;
  for (const GgufTensor& tensor : header.tensors)
    if (++names[tensor.name] == 2) refuse("tensor " + tensor.name, "the tensor twice, once was expected");
}

}  // namespace

const GgufTensor* GgufHeader::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const GgufTensor& t) { return t.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

template <class T>
const T& GgufHeader::get(const std::string& key) const {
  const auto found = values.find(key);
  const std::string expected = fmt::format("{} was expected", kind_of(GgufValue(T{})));
  if (found == values.end()) throw Error(ExitStatus::input, place, fmt::format("no key {}, {}", key, expected));
  if (const T* value = std::get_if<T>(&found->second)) return *value;
  throw Error(ExitStatus::input, fmt::format("{}: key {}", place, key),
              fmt::format("{} was found, {}", kind_of(found->second), expected));
}
template const bool& GgufHeader::get(const std::string&) const;
template const std::int64_t& GgufHeader::get(const std::string&) const;
template const double& GgufHeader::get(const std::string&) const;
template const std::string& GgufHeader::get(const std::string&) const;
template const std::vector<std::int64_t>& GgufHeader::get(const std::string&) const;
template const std::vector<double>& GgufHeader::get(const std::string&) const;
template const std::vector<std::string>& GgufHeader::get(const std::string&) const;

GgufHeader read_gguf_header(const ByteSource& file, const std::string& place) {
  GgufHeader header;
  header.place = place;
  Cursor in(file, place);
  char magic[4];
  in.bytes(magic, 4);
  if (std::memcmp(magic, "GGUF", 4) != 0) in.refuse("another format, a GGUF file was expected");
  const auto version = in.number<std::uint32_t>();
  if (version != 2 && version != 3)
    in.refuse(fmt::format("version {}{}, 2 or 3 was expected", version,
                          version >> 24 != 0 && version << 8 == 0 ? " of the other byte order" : ""));
  const std::int64_t num_tensors = in.count(most_tensors, 24, "tensors");
  const std::int64_t num_keys = in.count(most_keys, 13, "keys");
  read_keys(in, num_keys, header);
  for (std::int64_t i = 0; i < num_tensors; ++i) header.tensors.push_back(tensor_of(in));
  const auto alignment = header.get_or<std::int64_t>("general.alignment", 32);
  if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)) != 0)
    throw Error(ExitStatus::input, place + ": key general.alignment",
                fmt::format("{}, a power of two up to 2^20 was expected", alignment));
  place_tensors(header, in.at(), file.size(), alignment);
  return header;
}

}  // namespace fourmi::interop

#include "framework/checkpoint/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

using nlohmann::json;

std::int64_t TensorEntry::row_bytes() const {
  Shape row = shape;
  row.dims[0] = 1;
  return row.num_elements() * size_of(dtype);
}

std::int64_t TensorEntry::bytes_of(const Rectangle& part) const {
  return shape_of(part, shape).num_elements() * size_of(dtype);
}

const TensorEntry* Manifest::find(std::string_view name) const {
  const auto it = std::lower_bound(tensors.begin(), tensors.end(), name,
                                   [](const TensorEntry& t, std::string_view n) { return t.name < n; });
  if (it != tensors.end() && it->name == name) return &*it;
  for (const TensorEntry& t : tensors)
    if (t.alias == name && !name.empty()) return &t;
  return nullptr;
}

std::int64_t Manifest::bytes() const {
  std::int64_t total = 0;
  for (const FileEntry& f : files) total += f.bytes;
  return total;
}

std::string rank_file_name(int rank) {
  return fmt::format("rank-{:05}.h5", rank);
}

bool can_hold(DType dtype) {
  return dtype != DType::fx128;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (DType d : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8})
    if (name_of(d) == name) return d;
  return std::nullopt;
}

bool is_dataset_name(std::string_view name) {
  if (name.size() < 2 || name.size() > 1024 || name.front() != '/') return false;
  for (char c : name)
    if (c <= ' ' || c > '~') return false;
  for (std::size_t begin = 1; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::optional<std::int64_t> checked_bytes(const Shape& shape, DType dtype) {
  std::int64_t bytes = size_of(dtype);
  bool zero = false;
  for (int i = 0; i < shape.rank; ++i) {
    if (shape[i] < 0) return std::nullopt;
    zero |= shape[i] == 0;
    // A zero elsewhere must not hide dims whose product overflows: other code multiplies in another order.
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(shape[i], 1), &bytes)) return std::nullopt;
  }
  return zero ? 0 : bytes;
}

namespace {

std::string line(std::string_view name, DType dtype, const Shape& shape, uint128 d) {
  return fmt::format("{} {} {} {}\n", name, name_of(dtype), to_string(shape), digest_text(d));
}

json training_json(const CheckpointState& state) {
  json training = json::parse(state.training, nullptr, false);
  FOURMI_CHECK(training.is_object(), "training state {}", state.training);
  return training;
}

}  // namespace

std::string root_digest(const std::vector<TensorEntry>& tensors, const CheckpointState& state) {
  std::string text = json{{"step", state.step}, {"tokens", state.tokens}, {"training", training_json(state)}}.dump();
  const Tensor bytes(text.data(), DType::u8, {static_cast<std::int64_t>(text.size())});
  std::vector<std::string> lines{line("/state", DType::u8, bytes.shape, digest("/state", bytes, 0))};
  for (const TensorEntry& t : tensors) lines.push_back(line(t.name, t.dtype, t.shape, t.digest));
  std::sort(lines.begin(), lines.end());
  Sha256 hash;
  for (const std::string& l : lines) hash.add(std::as_bytes(std::span(l)));
  return hash.finish();
}

}  // namespace fourmi

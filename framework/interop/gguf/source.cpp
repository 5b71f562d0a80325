#include "framework/interop/gguf/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "kernels/runtime/error.h"

namespace fourmi::interop {

namespace {

StoredType stored_type(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return StoredType::f32;
    case GgufType::f16:
      return StoredType::f16;
    case GgufType::bf16:
      return StoredType::bf16;
    case GgufType::q8_0:
    case GgufType::q4_1:
      return StoredType::blocks;
  }
  return StoredType::other;
}

Shape shape_of(const LlamaTensor& t) {
  return t.shape.size() == 1 ? Shape{t.shape[0]} : Shape{t.shape[0], t.shape[1]};
}

}  // namespace

GgufSource::GgufSource(std::filesystem::path file) : file_(std::move(file)), model_(file_) {
  for (const LlamaTensor& t : model_.tensors()) {
    const GgufTypeInfo& info = info_of(t.type);
    const std::int64_t bytes = t.rows() * t.columns() / info.block_elements * info.block_bytes;
    tensors_.push_back(
        {{t.name, std::string(info.name), stored_type(t.type), shape_of(t), t.begin, t.begin + bytes}, 0});
  }
}

void GgufSource::read_values(const Entry& entry, std::int64_t first, std::span<float> out) const {
  const LlamaTensor* t = model_.find(entry.tensor.name);
  FOURMI_CHECK(t != nullptr, "{} is not of this file", entry.tensor.name);
  model_.read_elements(*t, first, out);
}

void GgufSource::read(const Entry& entry, std::int64_t, std::span<std::byte>) const {
  FOURMI_CHECK(false, "{}: the bytes of a GGUF file are of use to its own reader only", entry.tensor.name);
}

std::string GgufSource::most_used_type() const {
  std::map<std::string, std::int64_t> elements;
  for (const Entry& e : tensors_) elements[e.tensor.type_name] += e.tensor.shape.num_elements();
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string name = most == elements.end() ? "" : most->first;
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return name;
}

}  // namespace fourmi::interop

#include "framework/checkpoint/diff.h"

#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/slice.h"

namespace fourmi {

namespace {

double value_at(const std::byte* p, DType dtype) {
  const auto as = [p](auto value) {
    std::memcpy(&value, p, sizeof(value));
    return static_cast<double>(value);
  };
  switch (dtype) {
    case DType::f64:
      return as(double{});
    case DType::f32:
      return as(float{});
    case DType::bf16:
      return as(bfloat16{});
    case DType::i64:
      return as(std::int64_t{});
    case DType::i32:
      return as(std::int32_t{});
    case DType::u8:
      return as(std::uint8_t{});
    default:
      return 0;
  }
}

void compare_values(Disk& disk, const Checkpoint& a, const TensorEntry& ta, const Checkpoint& b, const TensorEntry& tb,
                    TensorDifference& d) {
  const std::int64_t row = ta.row_bytes(),
                     rows_at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / std::max<std::int64_t>(1, row));
  const std::int64_t element = size_of(ta.dtype);
  std::vector<std::byte> bytes_a, bytes_b;
  double difference = 0, norm = 0;
  d.num_elements = ta.shape.num_elements();
  for (std::int64_t r = 0; r < ta.shape[0]; r += rows_at_once) {
    const std::int64_t n = std::min(rows_at_once, ta.shape[0] - r);
    bytes_a.resize(static_cast<std::size_t>(n * row));
    bytes_b.resize(static_cast<std::size_t>(n * row));
    const Rectangle rows{r, n, 0, columns_of(ta.shape)};
    read_part(disk, a.folder, a.manifest, ta, rows, bytes_a.data());
    read_part(disk, b.folder, b.manifest, tb, rows, bytes_b.data());
    for (std::int64_t i = 0; i < n * row; i += element) {
      const double va = value_at(bytes_a.data() + i, ta.dtype);
      norm += va * va;
      if (std::memcmp(bytes_a.data() + i, bytes_b.data() + i, static_cast<std::size_t>(element)) == 0) continue;
      const double vb = value_at(bytes_b.data() + i, ta.dtype), distance = std::abs(va - vb);
      if (d.num_different++ == 0) {
        d.first = (r * row + i) / element;
        d.value_a = va;
        d.value_b = vb;
      }
      d.max_abs = std::isnan(distance) || std::isnan(d.max_abs) ? std::nan("") : std::max(d.max_abs, distance);
      difference += distance * distance;
    }
  }
  d.relative = difference == 0 ? 0 : std::sqrt(difference) / std::sqrt(norm);
}

std::string shape_text(const TensorEntry& t) {
  return fmt::format("{} {}", name_of(t.dtype), to_string(t.shape));
}

}  // namespace

CheckpointDifference compare_checkpoints(const Checkpoint& a, const Checkpoint& b, Disk& disk) {
  CheckpointDifference result;
  result.root_a = a.manifest.root;
  result.root_b = b.manifest.root;
  result.step_a = a.manifest.state.step;
  result.step_b = b.manifest.state.step;
  result.training_state_differs = a.manifest.state.training != b.manifest.state.training;
  std::map<std::string, std::pair<const TensorEntry*, const TensorEntry*>> both;
  for (const TensorEntry& t : a.manifest.tensors) both[t.name].first = &t;
  for (const TensorEntry& t : b.manifest.tensors) both[t.name].second = &t;
  for (const auto& [name, pair] : both) {
    const auto [ta, tb] = pair;
    TensorDifference d;
    d.name = name;
    if (!ta || !tb) {
      d.what = ta ? "only in A" : "only in B";
    } else if (ta->dtype != tb->dtype || ta->shape != tb->shape) {
      d.what = shape_text(*ta) + " and " + shape_text(*tb);
    } else if (ta->digest == tb->digest) {
      ++result.num_equal;
      continue;
    } else {
      compare_values(disk, a, *ta, b, *tb, d);
    }
    result.tensors.push_back(d);
  }
  return result;
}

std::string to_text(const CheckpointDifference& r) {
  std::string text = fmt::format("A  step {}  root {}\nB  step {}  root {}\n", r.step_a, r.root_a, r.step_b, r.root_b);
  std::size_t width = 6;
  for (const TensorDifference& d : r.tensors) width = std::max(width, d.name.size());
  for (const TensorDifference& d : r.tensors) {
    if (!d.what.empty()) {
      text += fmt::format("{:<{}}  {}\n", d.name, width, d.what);
      continue;
    }
    text += fmt::format("{:<{}}  {} of {} elements, relative {:.2e}, at most {:.3e}; first at {}: {} and {}\n", d.name,
                        width, d.num_different, d.num_elements, d.relative, d.max_abs, d.first, d.value_a, d.value_b);
  }
  if (r.training_state_differs) text += "the training state (data position and the like) differs\n";
  text += fmt::format("{} tensors are equal, {} differ\n", r.num_equal, r.tensors.size());
  return text;
}

std::string to_json(const CheckpointDifference& r) {
  using nlohmann::ordered_json;
  ordered_json j = {{"same", r.same()},
                    {"a", {{"step", r.step_a}, {"root", r.root_a}}},
                    {"b", {{"step", r.step_b}, {"root", r.root_b}}},
                    {"equal", r.num_equal},
                    {"training_state_differs", r.training_state_differs},
                    {"different", ordered_json::array()}};
  for (const TensorDifference& d : r.tensors) {
    ordered_json e = {{"name", d.name}};
    if (!d.what.empty())
      e["what"] = d.what;
    else
      e.update({{"elements", d.num_elements},
                {"different", d.num_different},
                {"first", d.first},
                {"value_a", d.value_a},
                {"value_b", d.value_b},
                {"max_abs", d.max_abs},
                {"relative", d.relative}});
    j["different"].push_back(e);
  }
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace fourmi

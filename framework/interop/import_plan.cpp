#include "framework/interop/import_plan.h"

#include <cstring>
#include <map>
#include <memory>

#include "framework/digest/sha256.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

std::string master_name(const Parameter& p) {
  return (p.set == ParameterSet::router_bias ? "/model/" : "/optimizer/master/") + p.name;
}

std::string kept_scales_name(const std::string& parameter) {
  return "/imported/" + parameter + std::string(scale_suffix);
}

ImportPlan::ImportPlan(const ModelSection& model, const WeightSource& stored, std::int64_t file_bytes)
    : table_(model), stored_(stored), map_(match_weights(model, table_, stored)) {
  for (const Weight& w : map_.weights) {
    add(w, false, file_bytes);
    if (w.scale) add(w, true, file_bytes);
    has_fp8_ |= w.scale != nullptr;
  }
  std::string facts = fmt::format("import 1, files of {}\n", file_bytes);
  for (const fs::path& path : stored.parts()) {
    std::error_code ignored;
    const auto time = fs::last_write_time(path, ignored).time_since_epoch().count();
    facts += fmt::format("{} {} {}\n", path.filename().string(), fs::file_size(path, ignored), time);
  }
  for (const PlannedFile& f : files_)
    for (const StreamedTensor& t : f.tensors) facts += t.name + " " + to_string(t.shape) + "\n";
  fingerprint_ = sha256(facts);
}

void ImportPlan::add(const Weight& w, bool scale, std::int64_t file_bytes) {
  const Parameter& p = *w.parameter;
  StreamedTensor t{master_name(p), p.set == ParameterSet::router_bias ? "" : "/model/" + p.name, DType::f32, p.shape};
  if (scale) t = {kept_scales_name(p.name), "", DType::f32, w.scale->tensor.shape};
  std::int64_t bytes = t.bytes();
  if (!files_.empty())
    for (const StreamedTensor& other : files_.back().tensors) bytes += other.bytes();
  if (files_.empty() || (bytes > file_bytes && !scale)) files_.emplace_back();  // scales stay with their weight
  files_.back().tensors.push_back(t);
  files_.back().weights.push_back(&w);
  files_.back().is_scale.push_back(scale);
}

BlockScales read_scales(const WeightSource& stored, const Weight& w) {
  BlockScales scales{w.parameter->shape[1], {}};
  scales.values.resize(static_cast<std::size_t>(w.scale->tensor.shape.num_elements()));
  stored.read(*w.scale, 0, std::as_writable_bytes(std::span(scales.values)));
  check_scales(scales, stored.file_of(*w.scale).string(), w.scale->tensor.name);
  return scales;
}

TensorSource ImportPlan::source(std::size_t file) const {
  struct State {
    std::map<const Weight*, BlockScales> scales;  // of 4 GiB of masters: 256 kB
    std::vector<std::byte> stored;
    std::vector<float> values;
  };
  return [this, &plan = files_[file], state = std::make_shared<State>()](std::size_t index, std::int64_t begin,
                                                                         std::span<std::byte> out) {
    const Weight& w = *plan.weights[index];
    if (w.scale && !state->scales.contains(&w)) state->scales.emplace(&w, read_scales(stored_, w));
    if (plan.is_scale[index]) {
      std::memcpy(out.data(), reinterpret_cast<const std::byte*>(state->scales.at(&w).values.data()) + begin,
                  out.size());
      return;
    }
    const std::int64_t first = begin / 4;
    state->values.resize(out.size() / 4);
    if (w.scale) {
      state->stored.resize(state->values.size());  // a byte an element
      stored_.read(*w.stored, first, state->stored);
      dequantise(state->stored, first, state->scales.at(&w), state->values, stored_.file_of(*w.stored).string(),
                 w.stored->tensor.name);
    } else {
      stored_.read_values(*w.stored, first, state->values);
    }
    std::memcpy(out.data(), state->values.data(), out.size());
  };
}

}  // namespace fourmi::interop

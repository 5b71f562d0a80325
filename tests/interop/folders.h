// Folders for tests: a temporary one, and models written into it.
#pragma once

#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <set>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/float8.h"
#include "kernels/numerics/random.h"
#include "tests/interop/golden.h"

namespace fourmi::interop {

/// A folder of its own, gone with it.
struct Folder {
  Folder() {
    std::string name = "/dev/shm/fourmi-interop-XXXXXX";  // in memory: each import forces files to the disk
    path = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
  }
  std::filesystem::path path;
};

struct MadeTensor {
  StoredTensor stored;
  std::string bytes;
};

/// A file of these tensors, as the format's own library lays it out.
inline std::string file_of(const std::vector<MadeTensor>& tensors) {
  std::vector<StoredTensor> stored;
  std::map<std::string, std::string> bytes;
  for (const MadeTensor& t : tensors) {
    stored.push_back(t.stored);
    bytes[t.stored.name] = t.bytes;
  }
  lay_out(stored);
  std::string text = safetensors_header_text(stored);
  for (const StoredTensor& t : stored) text += bytes.at(t.name);
  return text;
}

/// Deterministic values around zero, of bytes that a type takes: no NaN, no infinity.
inline MadeTensor made(const std::string& name, StoredType type, const Shape& shape) {
  MadeTensor t{{name, "", type, shape, 0, 0}, {}};
  const RandomKey key = random_key(5, "interop", name);
  for (std::int64_t i = 0; i < shape.num_elements(); ++i) {
    const auto x = static_cast<float>(0.1 * random_normal(key, static_cast<std::uint64_t>(i)));
    char raw[4];
    std::memcpy(raw, &x, 4);
    if (type == StoredType::bf16) {
      const bfloat16 y(x);
      std::memcpy(raw, &y, 2);
    } else if (type == StoredType::f8_e4m3) {
      const float8_e4m3 y(x * 1000);
      std::memcpy(raw, &y, 1);
    }
    t.bytes.append(raw, static_cast<std::size_t>(size_of(type)));
  }
  return t;
}

/// Every tensor by its name, as bytes.
inline std::map<std::string, std::string> tensors_of(const std::filesystem::path& folder) {
  const StoredModel model(folder);
  std::map<std::string, std::string> all;
  for (const StoredModel::Entry& e : model.tensors()) {
    std::string bytes(static_cast<std::size_t>(e.tensor.bytes()), '\0');
    model.read(e, 0, std::as_writable_bytes(std::span(bytes)));
    all[e.tensor.name] = std::string(name_of(e.tensor.type)) + to_string(e.tensor.shape) + bytes;
  }
  return all;
}

/// A golden model's architecture with weights of another type, in one file or several. With `blocks` the linear maps
/// are FP8 with scales that no rule would derive.
inline void make_model(
    const std::filesystem::path& golden, const std::filesystem::path& to, bool blocks,
    const std::function<void(nlohmann::json&)>& change = [](nlohmann::json&) {}, std::size_t files = 1) {
  auto config = nlohmann::json::parse(content(golden / "config.json"));
  config["dtype"] = "bfloat16";
  if (blocks)
    config["quantization_config"] = {
        {"activation_scheme", "dynamic"}, {"fmt", "e4m3"}, {"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  change(config);
  std::filesystem::create_directories(to);
  std::ofstream(to / "config.json") << config.dump(2) << "\n";
  const ModelSection model = model_recipe(to / "config.json", {.name = "made"}).model;
  const ParameterTable table(model);
  std::vector<MadeTensor> all;
  for (const Parameter& p : table.all()) {
    const bool fp8 = blocks && p.is_map && !p.name.ends_with("eh_proj.weight");
    StoredType type = p.set == ParameterSet::router_bias ? StoredType::f32 : StoredType::bf16;
    all.push_back(made(p.name, fp8 ? StoredType::f8_e4m3 : type, p.shape));
    if (!fp8) continue;
    all.push_back(made(p.name + "_scale_inv", StoredType::f32, scale_shape(p.shape)));
    for (std::size_t i = 0; i < all.back().bytes.size(); i += 4) all.back().bytes[i + 3] = 0x3b;  // positive, small
  }
  for (const auto& [name, of] : second_copies(model)) {
    if (name == "lm_head.weight") continue;
    MadeTensor copy = made(of, StoredType::bf16, table.find(of).shape);
    copy.stored.name = name;
    all.push_back(copy);
  }
  if (files == 1) {
    std::ofstream(to / "model.safetensors", std::ios::binary) << file_of(all);
    return;
  }
  nlohmann::json index;
  std::vector<std::vector<MadeTensor>> parts(files);
  for (std::size_t i = 0; i < all.size(); ++i) parts[i % files].push_back(all[i]);
  for (std::size_t i = 0; i < files; ++i) {
    const std::string name = fmt::format("part-{}.safetensors", i);
    std::ofstream(to / name, std::ios::binary) << file_of(parts[i]);
    for (const MadeTensor& t : parts[i]) index["weight_map"][t.stored.name] = name;
  }
  std::ofstream(to / "model.safetensors.index.json") << index.dump();
}

}  // namespace fourmi::interop

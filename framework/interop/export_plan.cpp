#include "framework/interop/export_plan.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "framework/interop/import_plan.h"
#include "framework/interop/stored_model.h"

namespace fourmi::interop {
namespace {

bool is_in_blocks(const Parameter& p, const Manifest& checkpoint, ExportType type, bool kept) {
  if (type != ExportType::fp8_block) return false;
  if (kept) return checkpoint.find(kept_scales_name(p.name)) != nullptr;
  return p.is_map && p.shape.rank == 2 && !p.name.ends_with(".eh_proj.weight");
}

ExportedTensor tensor_of(const Parameter& p, std::string name, ExportType type, bool blocks) {
  ExportedTensor t{{std::move(name), "", StoredType::bf16, p.shape, 0, 0}, &p, false, blocks};
  if (type == ExportType::fp32 || p.set == ParameterSet::router_bias) t.stored.type = StoredType::f32;
  if (blocks) t.stored.type = StoredType::f8_e4m3;
  return t;
}

std::int64_t bytes_of(const ExportedTensor& t) {
  return t.stored.shape.num_elements() * size_of(t.stored.type);
}

void lay_out_file(ExportedFile& file) {
  std::vector<StoredTensor> stored;
  std::map<std::string, ExportedTensor> by_name;
  for (const ExportedTensor& t : file.tensors) {
    stored.push_back(t.stored);
    by_name[t.stored.name] = t;
  }
  lay_out(stored);
  file.header = safetensors_header_text(stored);
  file.tensors.clear();
  for (StoredTensor& t : stored) {
    file.tensors.push_back(by_name.at(t.name));
    file.tensors.back().stored = std::move(t);
  }
}

}  // namespace

std::string_view name_of(ExportType type) {
  constexpr std::string_view names[] = {"bf16", "fp8-block", "fp32"};
  return names[static_cast<std::size_t>(type)];
}

ExportType type_after(std::string_view stored) {
  return stored == "fp32" ? ExportType::fp32 : stored == "fp8-block" ? ExportType::fp8_block : ExportType::bf16;
}

std::vector<ExportedFile> plan_export(const ModelSection& model, const ParameterTable& table,
                                      const Manifest& checkpoint, ExportType type, std::int64_t file_bytes) {
  const bool kept = std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                                [](const TensorEntry& t) { return t.name.starts_with("/imported/"); });
  std::vector<ExportedFile> files;
  std::int64_t bytes = 0;
  const auto add = [&](const Parameter& p, const std::string& name) {
    std::vector<ExportedTensor> together;
    const bool blocks = is_in_blocks(p, checkpoint, type, kept);
    together.push_back(tensor_of(p, name, type, blocks));
    if (blocks)
      together.push_back(
          {{name + std::string(scale_suffix), "", StoredType::f32, scale_shape(p.shape), 0, 0}, &p, true, false});
    std::int64_t more = 0;
    for (const ExportedTensor& t : together) more += bytes_of(t);
    if (files.empty() || bytes + more > file_bytes) files.emplace_back(), bytes = 0;
    bytes += more;
    for (ExportedTensor& t : together) files.back().tensors.push_back(std::move(t));
  };
  for (const Parameter& p : table.all()) add(p, p.name);
  for (const auto& [name, of] : second_copies(model))
    if (name != "lm_head.weight") add(table.find(of), name);  // beside a tied embedding none is written
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1 ? std::string(single_file_name)
                                      : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
    lay_out_file(files[i]);
  }
  return files;
}

std::int64_t export_bytes(const ModelSection& model, ExportType type) {
  const ParameterTable table(model);
  std::int64_t bytes = 0;
  for (const ExportedFile& f : plan_export(model, table, {}, type, most_file_bytes)) bytes += f.data_bytes();
  return bytes;
}

std::string index_text(const std::vector<ExportedFile>& files) {
  std::int64_t bytes = 0;
  std::map<std::string, std::string> map;
  for (const ExportedFile& f : files) {
    bytes += f.data_bytes();
    for (const ExportedTensor& t : f.tensors) map[t.stored.name] = f.name;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = bytes;
  index["weight_map"] = map;
  return index.dump(2) + "\n";
}

}  // namespace fourmi::interop

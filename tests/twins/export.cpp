// twin_export FAMILY FOLDER: what a twin in PyTorch begins with. recipe.yaml (resolved), weights.bin (f32, one after
// another) with weights.json (name, shape, weight decay), batches.bin: for each step i32 tokens [B, T], then targets
// [B, T].
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "framework/recipe/write.h"
#include "tests/twins/run_twin.h"

namespace fourmi {
namespace {

template <class T>
void write(std::ofstream& file, const T* data, std::int64_t count) {
  file.write(reinterpret_cast<const char*>(data), count * static_cast<std::int64_t>(sizeof(T)));
}

void export_twin(const std::string& family, const std::filesystem::path& folder) {
  const Recipe recipe = twin_recipe(family);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "recipe.yaml") << to_yaml(recipe);
  TwinRun run(recipe);
  std::ofstream weights(folder / "weights.bin", std::ios::binary), index(folder / "weights.json");
  std::string separator = "[";
  for (const Parameter& p : run.engine().table().all()) {
    const Tensor w = run.engine().store().weight(run.engine().store().slot(p.name));
    write(weights, w.as<float>(), w.num_elements());
    std::string shape;
    for (int d = 0; d < p.shape.rank; ++d) shape += fmt::format("{}{}", d ? ", " : "", p.shape[d]);
    index << separator
          << fmt::format("{{\"name\": \"{}\", \"shape\": [{}], \"decay\": {}}}", p.name, shape, p.weight_decay);
    separator = ",\n ";
  }
  index << "]\n";
  std::ofstream batches(folder / "batches.bin", std::ios::binary);
  Position position = run.loader().start();
  for (std::int64_t step = 0; step < *recipe.run.steps; ++step) {
    const StepPlan plan = run.loader().plan_step(position);
    const Batch batch = run.loader().batch(plan, 0, recipe.data.global_batch_size);
    for (std::size_t i = 0; i < batch.tokens.size(); ++i)
      FOURMI_CHECK(batch.positions[i] == static_cast<std::int32_t>(i % 64) &&
                       batch.key_begin[i] == static_cast<std::int32_t>(i / 64 * 64),
                   "a twin's sequences are one document each");
    write(batches, batch.tokens.data(), static_cast<std::int64_t>(batch.tokens.size()));
    write(batches, batch.targets.data(), static_cast<std::int64_t>(batch.targets.size()));
    position = plan.next;
  }
}

}  // namespace
}  // namespace fourmi

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "usage: twin_export FAMILY FOLDER\n", 2;
  fourmi::export_twin(argv[1], argv[2]);
}

// A golden model of tests/golden: what transformers computed for a tiny random model (tests/golden/make.py).
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/interop/model_recipe.h"
#include "framework/interop/stored_model.h"
#include "framework/interop/weight_map.h"
#include "framework/model/model.h"
#include "kernels/ops/reduce.h"

namespace fourmi::interop {

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(FOURMI_SOURCE_DIR) / "tests/golden";
}

inline std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::vector<float> all_of(const StoredModel& stored, const StoredModel::Entry& entry) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(entry.tensor.bytes()));
  stored.read(entry, 0, bytes);
  std::vector<float> values(static_cast<std::size_t>(entry.tensor.shape.num_elements()));
  widen(entry.tensor.type, bytes, values);
  return values;
}

/// The model with its weights in memory, computing in fp32.
struct LoadedModel {
  LoadedModel(const std::filesystem::path& folder, Compute compute, Model::Use use, BatchSizes sizes)
      : recipe(model_recipe(folder / "config.json", {.name = "golden", .compute = Compute::fp32})),
        stored(folder),
        table(recipe.model),
        types(model_types(compute, Reproducibility::run)),
        arena({"golden", Arena::Mode::allocate, true}, 256 << 20),
        store(table, types, arena, &arena),
        model(recipe.model, store, 64, arena) {
    model.allocate(sizes, use, arena);
    for (const Weight& w : match_weights(recipe.model, table, stored).weights) {
      const Tensor to = store.weight(store.slot(w.parameter->name));
      const std::vector<float> values = all_of(stored, *w.stored);
      for (std::size_t i = 0; i < values.size(); ++i)
        if (to.dtype == DType::f64)
          to.as<double>()[i] = static_cast<double>(values[i]);
        else
          to.as<float>()[i] = values[i];
    }
    for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
      fill_zero(stream, store.gradients(set));
    options.attention_block = 4;
  }

  Recipe recipe;
  StoredModel stored;
  ParameterTable table;
  ModelTypes types;
  Arena arena;
  ThreadPool pool{1};
  Stream stream{pool};
  ParameterStore store;
  Model model;
  Context options;
};

/// golden.json as a micro-batch.
struct GoldenBatch {
  explicit GoldenBatch(const std::filesystem::path& folder) {
    const auto facts = nlohmann::json::parse(content(folder / "golden.json"));
    loss = facts["loss"].get<double>();
    has_mtp = facts.contains("loss_mtp");
    if (has_mtp) loss_mtp = facts["loss_mtp"].get<double>(), weights.mtp = facts["mtp_weight"].get<double>();
    sequences = std::ssize(facts["tokens"]);
    length = std::ssize(facts["tokens"][0]);
    for (std::int64_t s = 0; s < sequences; ++s)
      for (std::int64_t t = 0; t < length; ++t) {
        const auto at = [&](const char* key) {
          return facts[key][static_cast<std::size_t>(s)][static_cast<std::size_t>(t)].get<std::int32_t>();
        };
        const auto first = static_cast<std::int32_t>(s * length);
        tokens.push_back(at("tokens"));
        targets.push_back(at("targets") < 0 ? -1 : at("targets"));
        num_targets += at("targets") >= 0;
        positions.push_back(at("positions"));
        begin.push_back(first + at("key_begin"));
        end.push_back(first + static_cast<std::int32_t>(t) + 1);
        if (!has_mtp) continue;
        mtp_tokens.push_back(at("mtp_tokens"));
        mtp_targets.push_back(at("mtp_targets") < 0 ? -1 : at("mtp_targets"));
        num_mtp_targets += at("mtp_targets") >= 0;
      }
  }
  BatchTensors tensors() {
    auto t = [](std::vector<std::int32_t>& v) {
      return Tensor(v.data(), DType::i32, {static_cast<std::int64_t>(v.size())});
    };
    return {t(tokens),
            t(targets),
            t(positions),
            t(begin),
            t(end),
            has_mtp ? t(mtp_tokens) : Tensor(),
            has_mtp ? t(mtp_targets) : Tensor()};
  }

  double loss = 0, loss_mtp = 0;  ///< means over their own targets
  LossWeights weights;
  bool has_mtp = false;
  std::int64_t sequences = 0, length = 0, num_targets = 0, num_mtp_targets = 0;
  std::vector<std::int32_t> tokens, targets, positions, begin, end, mtp_tokens, mtp_targets;
};

}  // namespace fourmi::interop

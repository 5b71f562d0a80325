#include "framework/interop/weight_map.h"

#include <map>
#include <set>

#include "framework/interop/stored_model.h"
#include "framework/model/family.h"

namespace fourmi::interop {
namespace {

constexpr std::string_view embedding = "model.embed_tokens.weight", head = "lm_head.weight";

bool follows_from_config(const std::string& name) {
  return name.ends_with(".rotary_emb.inv_freq");
}

class Matcher {
 public:
  Matcher(const ModelSection& model, const WeightSource& stored) : model_(model), stored_(stored) {}

  WeightMap match(const ParameterTable& table) {
    for (const Parameter& p : table.all()) match_parameter(p);
    for (const auto& [name, of] : second_copies(model_)) match_copy(name, of);
    for (const WeightSource::Entry& e : stored_.tensors()) {
      if (used_.contains(&e)) continue;
      if (follows_from_config(e.tensor.name))
        map_.not_needed.push_back(&e);
      else
        say("not expected", e.tensor.name);
    }
    report();
    return std::move(map_);
  }

 private:
  void say(const std::string& kind, const std::string& what) { problems_[kind].push_back(what); }

  const WeightSource::Entry* take(const std::string& name) {
    const WeightSource::Entry* e = stored_.find(name);
    if (e) used_.insert(e);
    return e;
  }

  bool has_shape(const WeightSource::Entry& e, const Shape& shape) {
    if (e.tensor.shape == shape) return true;
    say("of another shape",
        fmt::format("{} is {}, not {}", e.tensor.name, to_string(e.tensor.shape), to_string(shape)));
    return false;
  }

  void match_parameter(const Parameter& p) {
    const WeightSource::Entry* e = take(p.name);
    if (!e) return say("missing", p.name);
    has_shape(*e, p.shape);
    Weight w{&p, e, nullptr};
    if (e->tensor.type == StoredType::other) {
      say("of another type", fmt::format("{} is {}", p.name, e->tensor.type_name));
    } else if (e->tensor.type == StoredType::f8_e4m3) {
      const std::string name = p.name + std::string(scale_suffix);
      w.scale = take(name);
      if (p.shape.rank != 2) say("of another type", fmt::format("{} is F8_E4M3", p.name));
      if (!w.scale)
        say("missing", name);
      else if (p.shape.rank == 2 && has_shape(*w.scale, scale_shape(p.shape)) &&
               w.scale->tensor.type != StoredType::f32)
        say("of another type", fmt::format("{} is {}, not F32", name, w.scale->tensor.type_name));
    }
    map_.weights.push_back(w);
  }

  void match_copy(const std::string& name, const std::string& of) {
    const WeightSource::Entry *copy = take(name), *original = stored_.find(of);
    if (!copy || !original) return;
    if (has_shape(*copy, original->tensor.shape)) map_.copies.push_back({copy, original});
  }

  void report() const {
    if (problems_.empty()) return;
    std::string all;
    for (const auto& [kind, names] : problems_)
      all += fmt::format("{}{} {}: {}", all.empty() ? "" : ". ", names.size(), kind, list_names(names));
    throw Error(ExitStatus::input, stored_.place().string(),
                fmt::format("found tensors that are not those of a {} with this config.json ({}), expected exactly its "
                            "tensors",
                            model_.model_type, all),
                "Weights and config.json must be of one model");
  }

  const ModelSection& model_;
  const WeightSource& stored_;
  WeightMap map_;
  std::set<const WeightSource::Entry*> used_;
  std::map<std::string, std::vector<std::string>> problems_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> second_copies(const ModelSection& m) {
  std::vector<std::pair<std::string, std::string>> copies;
  const std::string original(m.tie_word_embeddings ? embedding : head);
  if (m.tie_word_embeddings) copies.emplace_back(head, embedding);
  for (std::int64_t d = 0; d < m.num_nextn_predict_layers; ++d) {
    const std::string p = layer_prefix(m.num_hidden_layers + d);
    copies.emplace_back(p + "embed_tokens.weight", embedding);
    copies.emplace_back(p + "shared_head.head.weight", original);
  }
  return copies;
}

Shape scale_shape(const Shape& w) {
  return {(w[0] + scale_block - 1) / scale_block, (w[1] + scale_block - 1) / scale_block};
}

WeightMap match_weights(const ModelSection& model, const ParameterTable& table, const WeightSource& stored) {
  return Matcher(model, stored).match(table);
}

}  // namespace fourmi::interop

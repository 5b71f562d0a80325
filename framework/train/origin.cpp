#include "framework/train/origin.h"

#include <algorithm>
#include <map>
#include <set>

#include "framework/checkpoint/agree.h"
#include "framework/interop/import.h"
#include "framework/recipe/compare.h"
#include "framework/recipe/read.h"
#include "framework/run/start.h"

namespace fourmi {

namespace {

constexpr std::string_view master_prefix = "/optimizer/master/", model_prefix = "/model/";
constexpr std::size_t most_named = 12;

bool is_weight(std::string_view name) {
  return name.starts_with(master_prefix) || name.starts_with(model_prefix);
}

std::string box_name(const Parameter& p) {
  return std::string(p.set == ParameterSet::router_bias ? model_prefix : master_prefix) + p.name;
}

/// Keys under `model` of which the weights know nothing.
bool may_differ(const std::string& key) {
  static const std::set<std::string> keys{"model.from", "model.config", "model.max_position_embeddings",
                                          "model.rope_theta", "model.initializer_range"};
  return keys.contains(key) || key.starts_with("model.rope_scaling");
}

void compare_architecture(const Checkpoint& origin, const Recipe& recipe, std::vector<std::string>& differ,
                          std::vector<std::string>& messages) {
  const Recipe theirs = parse_recipe(origin.manifest.state.recipe, (origin.folder / "manifest.json").string());
  for (const ChangedKey& change : compare(theirs, recipe)) {
    const bool same_tokenizer = theirs.data.tokenizer_sha256 == recipe.data.tokenizer_sha256;
    if (change.key == "data.tokenizer" && (!same_tokenizer || recipe.data.tokenizer_sha256.empty()))
      messages.push_back(fmt::format("model.from: other tokens mean other things ({})", to_string(change)));
    if (change.key == "data.begin_of_text")
      messages.push_back(fmt::format("model.from: its texts begin otherwise ({})", to_string(change)));
    if (!change.key.starts_with("model.")) continue;
    if (!may_differ(change.key))
      differ.push_back(to_string(change));
    else if (change.key != "model.from" && change.key != "model.config")
      messages.push_back("model.from: " + to_string(change));
  }
}

void compare_tensors(const Checkpoint& origin, const ParameterTable& table, std::vector<std::string>& differ) {
  std::map<std::string, const TensorEntry*> theirs;
  for (const TensorEntry& t : origin.manifest.tensors)
    if (is_weight(t.name)) theirs.emplace(t.name, &t);
  for (const Parameter& p : table.all()) {
    const auto found = theirs.find(box_name(p));
    if (found == theirs.end()) {
      differ.push_back(p.name + " is missing");
      continue;
    }
    if (found->second->shape != p.shape)
      differ.push_back(fmt::format("{} is {}, not {}", p.name, to_string(found->second->shape), to_string(p.shape)));
    theirs.erase(found);
  }
  for (const auto& [name, tensor] : theirs)
    differ.push_back(name.substr(name.starts_with(master_prefix) ? master_prefix.size() : model_prefix.size()) +
                     " is not of this model");
}

/// What another program made is imported into the run's own directory first, where a further launch finds it: ledger,
/// small files and cuts for any layout are then those of every other beginning.
std::filesystem::path as_run(Group& group, const Recipe& recipe, std::vector<std::string>& messages) {
  if (!interop::foreign_kind(recipe.model.from)) return recipe.model.from;
  const std::filesystem::path to = std::filesystem::path(recipe.run.directory) / "imported";
  const interop::ImportReport report = interop::import_model(group, recipe.model.from, to);
  messages.push_back(fmt::format("model.from: {} is {}, imported to {}", recipe.model.from,
                                 interop::name_of(report.kind), to.string()));
  messages.insert(messages.end(), report.warnings.begin(), report.warnings.end());
  return to;
}

}  // namespace

Checkpoint open_origin(Group& group, const Recipe& recipe, const ParameterTable& table,
                       std::vector<std::string>& messages) {
  agreed(group, [&] {
    if (!std::filesystem::exists(recipe.model.from))
      throw Error(ExitStatus::input, "model.from",
                  fmt::format("found no {}, expected a run directory, a checkpoint, a Hugging Face folder or a GGUF "
                              "file",
                              recipe.model.from),
                  "Name a folder <run.directory> or <run.directory>/checkpoints/step-..., or another program's model");
  });
  CheckpointChoice choice = open_model(group, as_run(group, recipe, messages));
  messages.insert(messages.end(), choice.messages.begin(), choice.messages.end());
  const Checkpoint& origin = *choice.checkpoint;
  agreed(group, [&] {
    std::vector<std::string> differ;
    compare_architecture(origin, recipe, differ, messages);
    compare_tensors(origin, table, differ);
    if (differ.empty()) return;
    std::string list;
    for (std::size_t i = 0; i < std::min(differ.size(), most_named); ++i) list += (i ? "; " : "") + differ[i];
    if (differ.size() > most_named) list += fmt::format("; and {} more", differ.size() - most_named);
    throw Error(ExitStatus::input, "model.from",
                fmt::format("found another model in {} ({}), expected this recipe's", origin.folder.string(), list),
                "Take its keys of `model` over, or name another model");
  });
  return origin;
}

void take_weights(Engine& engine, Group& group, const Checkpoint& origin) {
  std::vector<Box> wanted;
  for (const Box& box : engine.boxes())
    if (is_weight(box.name)) wanted.push_back(box);
  load_boxes(group, origin, wanted);
  engine.state_loaded();
}

}  // namespace fourmi

#include "framework/recipe/origin.h"

#include <filesystem>

#include "framework/recipe/read_bytes.h"
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view word = "model";  ///< of data.tokenizer

const Node* given(const Node* map, std::string_view key) {
  const Node* node = map && map->kind == Node::Kind::map ? map->find(key) : nullptr;
  return node && node->kind != Node::Kind::null ? node : nullptr;
}

/// Of a key that holds a text; empty where it does not.
std::string text_at(const Node* map, std::string_view key) {
  const Node* node = given(map, key);
  return node && node->kind == Node::Kind::scalar ? node->text : "";
}

fs::path run_directory(const Node& root) {
  const Node* run = root.find("run");
  const std::string directory = text_at(run, "directory");
  return directory.empty() ? fs::path("runs") / text_at(run, "name") : fs::path(directory);
}

/// The recipe that an earlier launch of this run left, if it began with the same model; else nothing.
Node recorded_recipe(const Node& root, const std::string& from, std::string& name, std::string& text) {
  name = (run_directory(root) / "recipe.yaml").string();
  if (!read_bytes(name, kMostBytes, text).empty()) return {};
  Issues unheard;
  Node recorded = parse_tree(text, unheard.add_source(name), unheard);
  return unheard.empty() && text_at(recorded.find("model"), "from") == from ? recorded : Node{};
}

OriginTokenizer tokenizer_of(const Node& recipe) {
  const Node* data = recipe.find("data");
  return {text_at(data, "tokenizer"), text_at(data, "tokenizer_sha256"), text_at(data, "end_of_document"),
          text_at(data, "begin_of_text")};
}

/// The section `model` of a resolved recipe under this one's, whose keys win.
bool merge_recipe(Node& model, const OriginModel& origin, int source, Issues& issues) {
  Node recipe = parse_tree(origin.text, source, issues);
  Node* theirs = recipe.kind == Node::Kind::map ? recipe.find("model") : nullptr;
  if (!given(theirs, "model_type")) {
    issues.add({source, 1, 1}, "found no architecture", "expected the recipe of a model, with `model.model_type`");
    return false;
  }
  std::erase_if(theirs->entries,
                [](const auto& entry) { return entry.first.name == "from" || entry.first.name == "config"; });
  const Place place = model.place;
  merge(*theirs, std::move(model), "model");
  model = std::move(*theirs);
  model.place = place;
  return true;
}

void take_tokenizer(Node& data, const OriginTokenizer& origin) {
  Node* tokenizer = data.find("tokenizer");
  const Place place = tokenizer->place;
  const auto text_node = [&](const std::string& text) {
    Node node;
    node.kind = Node::Kind::scalar;
    node.quoted = true;  // text, whatever it looks like
    node.text = text;
    node.place = place;
    return node;
  };
  *tokenizer = text_node(origin.tokenizer);
  for (const auto& [key, value] :
       {std::pair("tokenizer_sha256", &origin.tokenizer_sha256), std::pair("end_of_document", &origin.end_of_document),
        std::pair("begin_of_text", &origin.begin_of_text)}) {
    if (!value->empty() && !data.find(key)) data.entries.emplace_back(Key{key, place}, text_node(*value));
  }
}

}  // namespace

bool take_origin(Node& root, const Origins& origins, const std::function<int(const std::string&)>& add_source,
                 Issues& issues) {
  Node *model = root.find("model"), *data = root.find("data");
  const std::string from = text_at(model, "from");
  const bool wants_tokenizer = text_at(data, "tokenizer") == word;
  const bool wants_model = origins.model && !from.empty() && !given(model, "model_type") && !given(model, "config");
  if (wants_tokenizer && (from.empty() || !origins.tokenizer)) {
    issues.add(data->find("tokenizer")->place, "found `tokenizer: model` without a `model.from`",
               "expected one, whose tokenizer that is", "A folder of that name is `./model`");
    return false;
  }
  if (!wants_model && !wants_tokenizer) return true;
  const Place place = model->find("from")->place;
  std::error_code unreadable;
  if (fs::exists(from, unreadable)) {
    if (wants_tokenizer) take_tokenizer(*data, origins.tokenizer(from));
    if (!wants_model) return true;
    const OriginModel origin = origins.model(from);
    const int source = add_source(origin.name);
    return origin.is_recipe ? merge_recipe(*model, origin, source, issues)
                            : merge_config(*model, origin.text, source, issues);
  }
  // A run that has begun needs its origin no more: what it took is in its own recipe.
  OriginModel recorded{.text = {}, .name = {}, .is_recipe = true};
  const Node recipe = recorded_recipe(root, from, recorded.name, recorded.text);
  if (recipe.kind != Node::Kind::map) {
    issues.add(place,
               fmt::format("found no `{}`, of which the recipe takes the {}", shown(from),
                           wants_model ? "architecture" : "tokenizer"),
               "expected a run directory, a checkpoint, a Hugging Face folder or a GGUF file",
               wants_model ? "Name one that is there, or write its architecture (`model_type`, or `config`)"
                           : "Name one that is there, or the tokenizer");
    return false;
  }
  if (wants_tokenizer) take_tokenizer(*data, tokenizer_of(recipe));
  return !wants_model || merge_recipe(*model, recorded, add_source(recorded.name), issues);
}

}  // namespace fourmi::recipe

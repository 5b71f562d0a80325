// Hugging Face's config.json spells the rotary embedding in three ways; the field table knows one of them.
#include <algorithm>

#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

void rename(Node& map, std::string_view from, std::string_view to) {
  if (map.find(to)) return;
  for (auto& [key, value] : map.entries) {
    if (key.name == from) key.name = to;
  }
}

void erase(Node& map, std::string_view name) {
  std::erase_if(map.entries, [&](const auto& entry) { return entry.first.name == name; });
}

bool is_number(const Node* node, double value) {
  return node && node->kind == Node::Kind::scalar && to_number(node->text) == value;
}

/// Two spellings of one value side by side are one, if they agree; else the second stays and is refused as unknown.
bool same_text(const Node& a, const Node& b) {
  return a.kind == Node::Kind::scalar && b.kind == Node::Kind::scalar &&
         (a.text == b.text || (to_number(a.text) && to_number(a.text) == to_number(b.text)));
}

}  // namespace

void unify_spelling(Node& model) {
  if (model.kind != Node::Kind::map) return;
  rename(model, "rope_parameters", "rope_scaling");
  Node* rope = model.find("rope_scaling");
  if (!rope || rope->kind != Node::Kind::map) return;
  rename(*rope, "rope_type", "type");
  const Node *type = rope->find("type"), *other = rope->find("rope_type");
  if (other && same_text(*type, *other)) erase(*rope, "rope_type");
  if (is_number(rope->find("partial_rotary_factor"), 1)) erase(*rope, "partial_rotary_factor");
  const auto theta = std::find_if(rope->entries.begin(), rope->entries.end(),
                                  [](const auto& entry) { return entry.first.name == "rope_theta"; });
  if (theta != rope->entries.end()) {
    const std::pair<Key, Node> inside = *theta;
    const Node* outside = model.find("rope_theta");
    if (!outside || same_text(*outside, inside.second)) {
      erase(*rope, "rope_theta");
      if (!outside) model.entries.push_back(inside);
      rope = model.find("rope_scaling");
    }
  }
  type = rope->find("type");
  if (rope->entries.size() == 1 && type && type->text == "default") {
    const Place place = rope->place;
    *rope = Node{};
    rope->place = place;
  }
}

}  // namespace fourmi::recipe

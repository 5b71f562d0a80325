#include <charconv>

#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

std::string below(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

/// run.tokens in a later file takes the place of run.steps in an earlier one.
void drop_alternatives(Node& map, const std::string& path, const std::string& name) {
  const Field* field = find_field(below(path, name));
  if (!field || field->instead_of.empty()) return;
  std::erase_if(map.entries, [&](const auto& entry) {
    const Field* other = find_field(below(path, entry.first.name));
    return other && other != field && other->instead_of == field->instead_of;
  });
}

/// An element of a list, by the value of its `name` or by its index; nullptr: none.
Node* element(Node& list, const std::string& name) {
  for (Node& item : list.items) {
    const Node* named = item.find("name");
    if (named && named->kind == Node::Kind::scalar && named->text == name) return &item;
  }
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  return whole && index < list.items.size() ? &list.items[index] : nullptr;
}

void forget_lines(Node& node) {
  node.place.line = node.place.column = 0;
  for (Node& item : node.items) forget_lines(item);
  for (auto& [key, value] : node.entries) {
    key.place.line = key.place.column = 0;
    forget_lines(value);
  }
}

}  // namespace

void merge(Node& under, Node&& over, const std::string& path) {
  if (under.kind != Node::Kind::map || over.kind != Node::Kind::map) {
    under = std::move(over);
    return;
  }
  for (const auto& [key, value] : over.entries) {
    if (value.kind != Node::Kind::null) drop_alternatives(under, path, key.name);
  }
  std::unordered_map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < under.entries.size(); ++i) index.emplace(under.entries[i].first.name, i);
  under.place = over.place;
  for (auto& [key, value] : over.entries) {
    const auto found = index.find(key.name);
    if (found == index.end()) {
      under.entries.emplace_back(std::move(key), std::move(value));
    } else {
      auto& [old_key, old_value] = under.entries[found->second];
      merge(old_value, std::move(value), below(path, key.name));
      old_key = std::move(key);
    }
  }
}

void apply_override(Node& root, const std::string& text, int source, Issues& issues) {
  const Place place{source, 0, 0};
  const auto refuse = [&](std::string found, std::string expected) {
    issues.add(place, std::move(found), std::move(expected));
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return refuse("found no `=`", "expected section.key=value");
  std::vector<std::string> parts{""};
  for (const char c : text.substr(0, equals)) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (const std::string& part : parts) {
    if (part.empty()) return refuse("found an empty name before `=`", "expected section.key=value");
  }
  if (parts.size() > static_cast<std::size_t>(kDeepest)) {
    return refuse(fmt::format("found {} names before `=`", parts.size()), "expected section.key=value");
  }
  if (parts.front() == "base") return refuse("found the override of `base`", "expected `base` only in a file");
  Node value = parse_tree(text.substr(equals + 1), source, issues);
  forget_lines(value);

  Node* node = &root;
  std::string path;
  for (const std::string& part : parts) {
    if (node->kind == Node::Kind::sequence) {
      Node* item = element(*node, part);
      if (!item) {
        return refuse(fmt::format("found no element `{}` in the list `{}`", shown(part), path),
                      fmt::format("expected the name of one, or an index below {}", node->items.size()));
      }
      node = item;
      path += "[]";
      continue;
    }
    if (node->kind != Node::Kind::map) {
      *node = {};
      node->kind = Node::Kind::map;
      node->place = place;
    }
    if (value.kind != Node::Kind::null) drop_alternatives(*node, path, part);
    Node* child = node->find(part);
    if (!child) {
      node->entries.emplace_back(Key{part, place}, Node{});
      child = &node->entries.back().second;
      child->place = place;
    }
    node = child;
    path = below(path, part);
  }
  merge(*node, std::move(value), path);
}

}  // namespace fourmi::recipe

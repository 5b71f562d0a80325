// A recipe file as a strict tree: every key and value knows its line and column. Read through yaml-cpp's event handler,
// since its Node interface hides duplicate keys, expands aliases and reads 010 as eight.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/recipe/issue.h"

namespace fourmi::recipe {

struct Node;
struct Key {
  std::string name;
  Place place;
};

/// A value of the tree. Trees are at most kDeepest levels deep, so code that walks them may recurse.
struct Node {
  // Written out below, where Node is complete: a vector of pairs with Node in them cannot be made or destroyed before.
  Node();
  Node(const Node&);
  Node(Node&&) noexcept;
  Node& operator=(const Node&);
  Node& operator=(Node&&) noexcept;
  ~Node();

  /// `broken`: an error was already reported here; nothing more is to be said about it.
  enum class Kind { null, scalar, sequence, map, broken };
  Kind kind = Kind::null;
  bool quoted = false;  ///< of a scalar: written in quotes (or as a block), hence text whatever it looks like
  Place place;
  std::string text;                           ///< of a scalar
  std::vector<Node> items;                    ///< of a sequence
  std::vector<std::pair<Key, Node>> entries;  ///< of a map, in the file's order, no key twice

  const Node* find(std::string_view name) const;
  Node* find(std::string_view name);
};

inline Node::Node() = default;
inline Node::Node(const Node&) = default;
inline Node::Node(Node&&) noexcept = default;
inline Node& Node::operator=(const Node&) = default;
inline Node& Node::operator=(Node&&) noexcept = default;
inline Node::~Node() = default;

inline constexpr int kDeepest = 32;
inline constexpr std::size_t kMostBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMostNodes = 100000;

/// Reads one YAML document. Errors go to `issues`; the tree holds what could be read (nothing after a syntax error).
/// Refused: duplicate keys, aliases, anchors, tags, more than one document, bytes that are no UTF-8 text, control
/// characters, more than kMostBytes, kMostNodes or kDeepest levels.
Node parse_tree(const std::string& text, int source, Issues& issues);

/// A short description for messages: the number 3, the text "abc", a list, a section, nothing.
std::string describe(const Node& node);

}  // namespace fourmi::recipe

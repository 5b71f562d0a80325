#include "framework/recipe/tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <optional>
#include <sstream>
#include <unordered_map>

#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

/// Ends the reading; the issue was already added.
struct Stop {};

/// Offset of the first byte that is neither UTF-8 nor allowed in YAML, or npos.
std::size_t first_bad_byte(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned char lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      if ((lead < 0x20 && lead != '\t' && lead != '\n' && lead != '\r') || lead == 0x7F) return i;
      ++i;
      continue;
    }
    const int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || i + static_cast<std::size_t>(length) > text.size()) return i;
    std::uint32_t code = lead & (0x7Fu >> length);
    for (int k = 1; k < length; ++k) {
      const unsigned char next = static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)]);
      if ((next & 0xC0) != 0x80) return i;
      code = (code << 6) | (next & 0x3Fu);
    }
    constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return i;
    i += static_cast<std::size_t>(length);
  }
  return std::string_view::npos;
}

/// Turns yaml-cpp's positions (lines from 0, bytes) into a user's (lines and characters from 1).
class Positions {
 public:
  Positions(std::string_view text, int source) : text_(text), source_(source) {
    starts_.push_back(0);
    characters_.reserve(text.size() + 1);
    int characters = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      characters_.push_back(characters);
      if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ++characters;
      if (text[i] == '\n') starts_.push_back(i + 1);
    }
    characters_.push_back(characters);
  }

  Place of_offset(std::size_t offset) const {
    std::size_t line = 0;
    while (line + 1 < starts_.size() && starts_[line + 1] <= offset) ++line;
    return at(line, offset - starts_[line]);
  }

  Place of(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= starts_.size()) return at(starts_.size() - 1, 0);
    return at(static_cast<std::size_t>(mark.line), static_cast<std::size_t>(std::max(mark.column, 0)));
  }

  char byte(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= starts_.size()) return 0;
    const std::size_t offset = starts_[static_cast<std::size_t>(mark.line)] + static_cast<std::size_t>(mark.column);
    return offset < text_.size() ? text_[offset] : 0;
  }

 private:
  Place at(std::size_t line, std::size_t column) const {
    const std::size_t begin = starts_[line];
    const std::size_t here = std::min(begin + column, text_.size());
    return {source_, static_cast<int>(line) + 1, characters_[here] - characters_[begin] + 1};
  }

  std::string_view text_;
  int source_;
  std::vector<std::size_t> starts_;
  std::vector<int> characters_;  ///< before each byte
};

class Builder : public YAML::EventHandler {
 public:
  Builder(const Positions& positions, Issues& issues) : positions_(positions), issues_(issues) {}

  Node take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++num_documents_ > 1) {
      issues_.add(positions_.of(mark), "found a second document", "expected one document in a recipe");
      throw Stop();
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node = start(mark, "", anchor);
    finish(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Node node = start(mark, "", YAML::anchor_t{});
    issues_.add(node.place, "found an alias (*)", "expected the value itself", "Recipes have no anchors and aliases");
    node.kind = Node::Kind::broken;
    finish(std::move(node));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = start(mark, tag, anchor);
    if (node.kind != Node::Kind::broken) node.kind = Node::Kind::scalar;
    node.quoted = tag != "?";
    node.text = value;
    finish(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::sequence);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    std::optional<Key> key;  ///< of a map: read, its value is still to come
    bool drop_value = false;
    std::unordered_map<std::string, int> lines;  ///< of a map: where each key was seen
  };

  Node start(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (++num_nodes_ > kMostNodes) {
      issues_.add(positions_.of(mark), fmt::format("found more than {} values", kMostNodes), "expected a recipe");
      throw Stop();
    }
    Node node;
    node.place = positions_.of(mark);
    if (anchor != YAML::anchor_t{}) {
      issues_.add(node.place, "found an anchor (&)", "expected a plain value", "Recipes have no anchors and aliases");
    }
    // yaml-cpp gives "?" to plain and "!" to quoted values that have no tag; "!" may also stand in the file.
    const bool tagged = !tag.empty() && tag != "?" && (tag != "!" || positions_.byte(mark) == '!');
    if (tagged) {
      issues_.add(node.place, "found a tag (!)", "expected a value without a tag", "Recipes have no tags");
      node.kind = Node::Kind::broken;
    }
    return node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    Frame frame;
    frame.node = start(mark, tag, anchor);
    frame.node.kind = kind;
    if (stack_.size() >= static_cast<std::size_t>(kDeepest)) {
      issues_.add(frame.node.place, fmt::format("found more than {} nested levels", kDeepest), "expected a recipe");
      throw Stop();
    }
    stack_.push_back(std::move(frame));
  }

  void close() {
    Node node = std::move(stack_.back().node);
    stack_.pop_back();
    finish(std::move(node));
  }

  void finish(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = stack_.back();
    if (parent.node.kind == Node::Kind::sequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      take_key(parent, std::move(node));
    } else {
      // The mark of an absent value is that of whatever comes next: its key says where it is missing.
      if (node.kind == Node::Kind::null) node.place = parent.key->place;
      if (!parent.drop_value) parent.node.entries.emplace_back(std::move(*parent.key), std::move(node));
      parent.key.reset();
      parent.drop_value = false;
    }
  }

  void take_key(Frame& parent, Node node) {
    parent.key = Key{node.text, node.place};
    if (node.kind != Node::Kind::scalar || node.text.empty()) {
      parent.drop_value = true;
      if (node.kind != Node::Kind::broken)
        issues_.add(node.place, "found " + describe(node) + " as a key", "expected a name");
      return;
    }
    const auto [seen, is_new] = parent.lines.emplace(node.text, node.place.line);
    if (!is_new) {
      parent.drop_value = true;
      issues_.add(node.place,
                  fmt::format("found the key `{}` again (first in line {})", shown(node.text), seen->second),
                  "expected each key once");
    }
  }

  const Positions& positions_;
  Issues& issues_;
  Node root_;
  std::vector<Frame> stack_;
  int num_documents_ = 0;
  std::size_t num_nodes_ = 0;
};

}  // namespace

const Node* Node::find(std::string_view name) const {
  for (const auto& [key, value] : entries) {
    if (key.name == name) return &value;
  }
  return nullptr;
}

Node* Node::find(std::string_view name) {
  return const_cast<Node*>(std::as_const(*this).find(name));
}

Node parse_tree(const std::string& text, int source, Issues& issues) {
  if (text.size() > kMostBytes) {
    issues.add({source, 1, 1}, "found more than 1 MiB", "expected a recipe of at most 1 MiB");
    return {};
  }
  const Positions positions(text, source);
  if (const std::size_t bad = first_bad_byte(text); bad != std::string_view::npos) {
    issues.add(positions.of_offset(bad), fmt::format("found the byte 0x{:02x}", static_cast<unsigned char>(text[bad])),
               "expected UTF-8 text");
    return {};
  }
  Builder builder(positions, issues);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Stop&) {
    return {};
  } catch (const YAML::Exception& error) {
    issues.add(positions.of(error.mark), "found what is no YAML (" + error.msg + ")", "expected YAML 1.2");
    return {};
  }
  return builder.take_root();
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::sequence:
      return "a list";
    case Node::Kind::map:
      return "a section";
    case Node::Kind::broken:
      return "an error";
    case Node::Kind::scalar:
      break;
  }
  if (node.quoted) return "the text \"" + shown(node.text) + "\"";
  switch (shape_of(node.text)) {
    case Shape::number:
      return "the number " + shown(node.text);
    case Shape::trap:
      return shown(node.text) + " (which YAML readers take for different numbers)";
    case Shape::boolean:
      return node.text;
    default:
      return "the text \"" + shown(node.text) + "\"";
  }
}

}  // namespace fourmi::recipe

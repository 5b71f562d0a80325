#include <algorithm>

#include "framework/recipe/read.h"
#include "framework/recipe/read_bytes.h"
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostFiles = 64, kDeepestBase = 16;

/// Reads a file and its bases; remembers which folder each source's relative paths start from.
class Loader {
 public:
  explicit Loader(Issues& issues) : issues_(issues) {}

  /// `named_at`: where another file names this one; nullptr for the recipe itself.
  Node load(const std::string& path, const Place* named_at) {
    const fs::path folder = fs::path(path).parent_path();
    const int source = add_source(path, folder);
    std::string text;
    if (!read(path, named_at ? *named_at : Place{source, 0, 0}, "a recipe", text)) return {};
    return load_text(text, path, folder, source);
  }

  Node load_text(const std::string& text, const std::string& path, const fs::path& folder, int source) {
    Node own = parse_tree(text, source, issues_);
    if (own.kind != Node::Kind::map) {
      failed_ = true;
      if (issues_.empty()) {
        const std::string found = own.kind == Node::Kind::null ? "found an empty file" : "found " + describe(own);
        issues_.add({source, 1, 1}, found, "expected a recipe: sections with keys");
      }
      return {};
    }
    const auto base = std::find_if(own.entries.begin(), own.entries.end(),
                                   [](const auto& entry) { return entry.first.name == "base"; });
    if (base == own.entries.end()) return own;
    const Node named = std::move(base->second);
    own.entries.erase(base);
    Node merged = load_bases(named, path, folder);
    if (merged.kind != Node::Kind::map) return own;
    merge(merged, std::move(own), "");
    return merged;
  }

  /// Whether some file could not be read or parsed: what it holds is unknown, so no more is to be said about the whole.
  bool failed() const { return failed_; }

  /// Reads at most one byte more than a recipe may have, whatever kind of file it is.
  bool read(const std::string& path, Place named_at, const std::string& what, std::string& text) {
    if (const std::string found = read_bytes(path, kMostBytes + 1, text); !found.empty()) {
      issues_.add(named_at, fmt::format("found no file `{}` that can be read ({})", shown(path), found),
                  "expected " + what);
      failed_ = true;
      return false;
    }
    return true;
  }

  int add_source(const std::string& name, const fs::path& folder) {
    folders_.push_back(folder);
    return issues_.add_source(name);
  }

  std::string resolve(const std::string& path, int source) const {
    return (folders_[static_cast<std::size_t>(source)] / path).lexically_normal().string();
  }

 private:
  Node load_bases(const Node& named, const std::string& path, const fs::path& folder) {
    std::vector<const Node*> names;
    if (named.kind == Node::Kind::sequence) {
      for (const Node& item : named.items) names.push_back(&item);
    } else {
      names.push_back(&named);
    }
    chain_.push_back(fs::weakly_canonical(path));
    Node merged;
    for (const Node* name : names) {
      if (name->kind == Node::Kind::broken) continue;
      if (name->kind != Node::Kind::scalar || name->text.empty()) {
        issues_.add(name->place, "found " + describe(*name) + " as `base`",
                    "expected a file's name, or a list of them");
        failed_ = true;
        continue;
      }
      const std::string file = (folder / name->text).lexically_normal().string();
      std::error_code error;
      const fs::path canonical = fs::weakly_canonical(file, error);
      if (std::find(chain_.begin(), chain_.end(), canonical) != chain_.end()) {
        issues_.add(name->place, fmt::format("found the base `{}`, which is based on this file", shown(name->text)),
                    "expected bases without a circle");
        failed_ = true;
      } else if (chain_.size() > kDeepestBase || ++num_files_ > kMostFiles) {
        issues_.add(name->place,
                    fmt::format("found more than {} bases, or more than {} of bases", kMostFiles, kDeepestBase),
                    "expected a handful");
        failed_ = true;
        break;
      } else {
        Node base = load(file, &name->place);
        if (base.kind == Node::Kind::map) merge(merged, std::move(base), "");
      }
    }
    chain_.pop_back();
    return merged;
  }

  Issues& issues_;
  std::vector<fs::path> folders_, chain_;
  std::size_t num_files_ = 0;
  bool failed_ = false;
};

}  // namespace

Node load_tree(const std::string& path, const std::string* text, const std::vector<std::string>& overrides,
               const Origins& origins, Issues& issues) {
  Loader loader(issues);
  Node root = text ? loader.load_text(*text, path, {}, loader.add_source(path, {})) : loader.load(path, nullptr);
  if (loader.failed() || root.kind != Node::Kind::map) return {};
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    const int source = loader.add_source(fmt::format("override {} ({})", i + 1, shown(overrides[i])), {});
    apply_override(root, overrides[i], source, issues);
  }
  Node* model = root.find("model");
  if (model) unify_spelling(*model);
  const auto add_source = [&](const std::string& name) { return loader.add_source(name, {}); };
  if (!take_origin(root, origins, add_source, issues)) return {};
  const Node* config = model && model->kind == Node::Kind::map ? model->find("config") : nullptr;
  if (config && config->kind == Node::Kind::scalar && !config->text.empty()) {
    const std::string file = loader.resolve(config->text, config->place.source);
    std::string config_text;
    if (loader.read(file, config->place, "a config.json", config_text)) {
      const int source = loader.add_source(file, {});
      if (!merge_config(*model, config_text, source, issues)) return {};
    } else {
      return {};
    }
  }
  return root;
}

}  // namespace fourmi::recipe

namespace fourmi {
namespace {

Recipe read_recipe(const std::string& path, const std::string* text, const std::vector<std::string>& overrides,
                   int ranks, const recipe::Origins& origins) {
  recipe::Issues issues;
  const recipe::Node root = recipe::load_tree(path, text, overrides, origins, issues);
  if (root.kind != recipe::Node::Kind::map) {
    issues.raise(path);
    FOURMI_CHECK(false, "{} gave neither a tree nor an error", path);
  }
  recipe::Reading reading = recipe::bind_tree(root, issues);
  recipe::resolve_defaults(reading);
  reading.recipe.data.model_from = reading.recipe.model.from;
  recipe::check_model(reading, issues);
  recipe::check_training(reading, issues);
  recipe::check_ledger(reading, issues);
  recipe::check_distill(reading, issues);
  recipe::check_harvest(reading, issues);
  if (ranks > 0) recipe::check_ranks(reading, ranks, issues);
  issues.raise(path);
  return std::move(reading.recipe);
}

}  // namespace

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides, int ranks,
                   const recipe::Origins& origins) {
  return read_recipe(path.string(), nullptr, overrides, ranks, origins);
}

Recipe parse_recipe(const std::string& text, const std::string& name, const std::vector<std::string>& overrides,
                    int ranks) {
  return read_recipe(name, &text, overrides, ranks, {});
}

}  // namespace fourmi

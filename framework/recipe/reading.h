// A recipe while it is read: the structs, and where each of their keys stands.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "framework/recipe/field.h"
#include "framework/recipe/origin.h"
#include "framework/recipe/tree.h"

namespace fourmi::recipe {

struct Reading {
  Recipe recipe;
  Families family = 0;                            ///< 0: model.model_type is absent or unknown
  std::unordered_map<std::string, Place> places;  ///< of the keys that are given: "data.train[0].weight"
  std::unordered_set<std::string> bad;            ///< keys with an error: further checks leave them alone

  bool given(const std::string& path) const { return places.contains(path); }
  /// No error at the key, nor at a section around it.
  bool good(const std::string& path) const;
  /// Of the key, or of the nearest section around it that is given.
  Place place(const std::string& path) const;
};

/// The recipe's file with its bases, model.config, what model.from supplies, and overrides as one tree.
Node load_tree(const std::string& path, const std::string* text, const std::vector<std::string>& overrides,
               const Origins& origins, Issues& issues);

/// `over` onto `under`: maps merge, all else replaces; a key replaces those that its row's `instead_of` names.
void merge(Node& under, Node&& over, const std::string& path);

/// One override ("section.key=value") onto the tree.
void apply_override(Node& root, const std::string& text, int source, Issues& issues);

/// model.config: the keys of a config.json that are used, under `model` unless given there. False: it could not be
/// read.
bool merge_config(Node& model, const std::string& text, int source, Issues& issues);

/// What model.from supplies, under the keys that are given (origin.h). `add_source` makes a source of this name. False:
/// it could not be found.
bool take_origin(Node& root, const Origins& origins, const std::function<int(const std::string&)>& add_source,
                 Issues& issues);

/// rope_parameters, rope_type, and rope_theta inside of either, into the spelling of the field table.
void unify_spelling(Node& model);

/// The tree into structs by the field table: unknown keys, types, ranges, required keys.
Reading bind_tree(const Node& root, Issues& issues);

/// Issue for a key that `section` (a path of the table) does not have, with the best hint.
void report_unknown(const Key& key, const std::string& section, Families family, Issues& issues);

/// Defaults that depend on other keys.
void resolve_defaults(Reading& reading);

/// What must hold between keys.
void check_model(const Reading& reading, Issues& issues);
void check_training(const Reading& reading, Issues& issues);
void check_ledger(const Reading& reading, Issues& issues);
void check_harvest(const Reading& reading, Issues& issues);
void check_distill(const Reading& reading, Issues& issues);
void check_on_policy(const Reading& reading, Issues& issues);
void check_ranks(const Reading& reading, int ranks, Issues& issues);

}  // namespace fourmi::recipe

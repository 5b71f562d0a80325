// What is wrong with a recipe, and where. All errors of a recipe are collected and reported at once, sorted by place.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/runtime/error.h"

namespace fourmi {

/// One error of a recipe. `text()` is "place: what was found, what was expected. remedy".
struct RecipeIssue {
  std::string place;  ///< "file:line:column", or "override 2 (optimizer.learning_rate=x)"
  std::string found, expected, remedy;
  std::string cause() const { return found + ", " + expected; }
  std::string text() const;
};

/// Every error of a recipe. With one error, place, cause and remedy of `Error` are that error's; with several they
/// count them, and whoever reports prints `issues()` before the last line.
class RecipeErrors : public Error {
 public:
  RecipeErrors(const std::string& recipe, std::vector<RecipeIssue> issues);
  const std::vector<RecipeIssue>& issues() const { return issues_; }

  /// The lines to print before the last one: all errors where there are several, none where what() already is the
  /// error.
  std::vector<std::string> lines() const;

 private:
  std::vector<RecipeIssue> issues_;
};

namespace recipe {

/// A position in one of the sources (files and overrides) that a recipe is made of; line and column from 1, 0: none.
struct Place {
  int source = 0, line = 0, column = 0;
};

/// Collects issues; knows the names of the sources.
class Issues {
 public:
  /// Errors past this number are counted, not kept, so that a hostile file costs neither memory nor a full screen.
  static constexpr std::size_t kMost = 100;

  int add_source(std::string name);
  const std::string& source(int index) const { return sources_[static_cast<std::size_t>(index)]; }
  std::size_t num_sources() const { return sources_.size(); }
  std::string text(Place place) const;

  void add(Place place, std::string found, std::string expected, std::string remedy = {});
  bool empty() const { return entries_.empty(); }
  bool full() const { return entries_.size() >= kMost; }

  /// Throws RecipeErrors, sorted by source, line and column, if there is any issue.
  void raise(const std::string& recipe) const;

 private:
  struct Entry {
    Place place;
    RecipeIssue issue;
  };
  std::vector<std::string> sources_;
  std::vector<Entry> entries_;
  std::size_t dropped_ = 0;
};

}  // namespace recipe
}  // namespace fourmi

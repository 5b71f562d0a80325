#include "framework/recipe/issue.h"

#include <algorithm>
#include <tuple>

namespace fourmi {
namespace {

std::string first_place(const std::string& recipe, const std::vector<RecipeIssue>& issues) {
  return issues.size() == 1 ? issues.front().place : recipe;
}

std::string first_cause(const std::vector<RecipeIssue>& issues) {
  return issues.size() == 1 ? issues.front().cause() : fmt::format("{} errors, expected none", issues.size());
}

std::string first_remedy(const std::vector<RecipeIssue>& issues) {
  return issues.size() == 1 ? issues.front().remedy : "Correct the places named above";
}

}  // namespace

std::string RecipeIssue::text() const {
  std::string line = place + ": " + cause();
  if (!remedy.empty()) line += ". " + remedy;
  return line;
}

RecipeErrors::RecipeErrors(const std::string& recipe, std::vector<RecipeIssue> issues)
    : Error(ExitStatus::usage, first_place(recipe, issues), first_cause(issues), first_remedy(issues)),
      issues_(std::move(issues)) {}

std::vector<std::string> RecipeErrors::lines() const {
  std::vector<std::string> lines;
  if (issues_.size() > 1) {
    for (const RecipeIssue& issue : issues_) lines.push_back(issue.text());
  }
  return lines;
}

namespace recipe {

int Issues::add_source(std::string name) {
  sources_.push_back(std::move(name));
  return static_cast<int>(sources_.size()) - 1;
}

std::string Issues::text(Place place) const {
  const std::string& name = source(place.source);
  return place.line == 0 ? name : fmt::format("{}:{}:{}", name, place.line, place.column);
}

void Issues::add(Place place, std::string found, std::string expected, std::string remedy) {
  if (full()) {
    ++dropped_;
    return;
  }
  entries_.push_back({place, {text(place), std::move(found), std::move(expected), std::move(remedy)}});
}

void Issues::raise(const std::string& recipe) const {
  if (entries_.empty()) return;
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.place.source, a.place.line, a.place.column) <
           std::tie(b.place.source, b.place.line, b.place.column);
  });
  std::vector<RecipeIssue> issues;
  for (Entry& entry : sorted) issues.push_back(std::move(entry.issue));
  if (dropped_ > 0) issues.push_back({recipe, fmt::format("found {} more errors", dropped_), "expected none", ""});
  throw RecipeErrors(recipe, std::move(issues));
}

}  // namespace recipe
}  // namespace fourmi

#include "tests/end_to_end/run_directory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/run/temp_folder.h"

namespace fourmi::testing {

namespace fs = std::filesystem;

namespace {

nlohmann::json parse(const fs::path& path) {
  return nlohmann::json::parse(text_of(path));
}

std::string text(const nlohmann::json& json, const char* key) {
  const auto& value = json.at(key);
  return value.is_null() ? std::string() : value.get<std::string>();
}

std::optional<int> number(const nlohmann::json& json, const char* key) {
  const auto& value = json.at(key);
  if (value.is_null()) return std::nullopt;
  return value.get<int>();
}

}  // namespace

std::vector<StepLine> step_lines(const fs::path& run, const std::string& name) {
  std::vector<StepLine> steps;
  for (const std::string& line : lines_of(run / (name + ".jsonl"))) {
    const auto json = nlohmann::json::parse(line);
    steps.push_back({.step = json.at("step"),
                     .launch = json.at("launch"),
                     .tokens = json.at("tokens"),
                     .loss_bits = json.at("loss_bits"),
                     .grad_norm_bits = json.at("grad_norm_bits"),
                     .learning_rate = json.at("learning_rate")});
  }
  return steps;
}

Status status_of(const fs::path& run) {
  const auto json = parse(run / "status.json");
  Status s;
  s.state = text(json, "state");
  s.exit_status = number(json, "exit_status");
  s.step = json.at("step");
  s.checkpoint = text(json, "checkpoint");
  s.rank = number(json, "rank");
  s.host = text(json, "host");
  s.cause = text(json, "cause");
  s.place = text(json, "place");
  s.remedy = text(json, "remedy");
  s.phase = text(json, "phase");
  s.launches = json.at("launches");
  return s;
}

std::vector<std::string> checkpoint_names(const fs::path& run) {
  std::vector<std::string> names;
  if (fs::exists(run / "checkpoints")) {
    for (const auto& entry : fs::directory_iterator(run / "checkpoints")) names.push_back(entry.path().filename());
  }
  std::erase(names, "latest");
  std::sort(names.begin(), names.end());
  return names;
}

fs::path newest_checkpoint(const fs::path& run) {
  const auto names = checkpoint_names(run);
  return names.empty() ? fs::path() : run / "checkpoints" / names.back();
}

std::string root_of(const fs::path& checkpoint) {
  return parse(checkpoint / "manifest.json").at("root");
}

void expect_each_step_once(const fs::path& run, std::int64_t last) {
  const auto steps = step_lines(run);
  EXPECT_EQ(steps.size(), static_cast<std::size_t>(last)) << run;
  for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i].step, static_cast<std::int64_t>(i + 1)) << run;
}

void expect_same_run(const fs::path& run, const fs::path& reference) {
  const auto ours = step_lines(run), theirs = step_lines(reference);
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(same_bits(ours[i], theirs[i]))
        << "step " << theirs[i].step << ": loss bits " << ours[i].loss_bits << " and " << theirs[i].loss_bits
        << ", gradient norm bits " << ours[i].grad_norm_bits << " and " << theirs[i].grad_norm_bits;
  }
  ASSERT_FALSE(newest_checkpoint(run).empty());
  EXPECT_EQ(newest_checkpoint(run).filename(), newest_checkpoint(reference).filename());
  EXPECT_EQ(root_of(newest_checkpoint(run)), root_of(newest_checkpoint(reference)));
}

}  // namespace fourmi::testing

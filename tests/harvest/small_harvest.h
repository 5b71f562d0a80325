// A harvest of a few prompts in a folder of the test's own.
#pragma once

#include <gtest/gtest.h>

#include <set>

#include "framework/digest/file_digest.h"
#include "framework/harvest/harvest.h"
#include "framework/harvest/output.h"
#include "framework/ledger/harvest_fact.h"
#include "kernels/runtime/error.h"
#include "tests/harvest/fake_endpoint.h"
#include "tests/run/temp_folder.h"

namespace fourmi::testing {

class SmallHarvest : public ::testing::Test {
 protected:
  FakeEndpoint endpoint;
  TempFolder temp;
  Recipe recipe;

  SmallHarvest() {
    TeacherSection& t = recipe.distill.teacher;
    t.name = "Oracle";
    t.model = "oracle-1";
    t.license = "MIT";
    t.endpoint = endpoint.url();
    HarvestSection& h = recipe.distill.harvest;
    h.prompts.resize(1);
    h.prompts[0].name = "maths";
    h.prompts[0].path = (temp.path() / "prompts.jsonl").string();
    h.prompts[0].field = "problem";
    h.prompts[0].license = "Apache-2.0";
    h.output = (temp.path() / "out").string();
    h.concurrency = 4;
    h.max_tokens = 10;
    h.timeout_seconds = 20;
    prompts(12);
  }
  void prompts(int count) {
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += nlohmann::json{{"problem", "prompt " + std::to_string(i)}, {"answer", i}}.dump() + "\n";
    put_text(temp.path() / "prompts.jsonl", lines);
  }
  harvest::Plan plan() const {
    harvest::Plan p = harvest::make_plan(recipe);
    p.backoff = {std::chrono::milliseconds(2), std::chrono::milliseconds(10)};
    return p;
  }
  harvest::Summary harvest_once() {
    harvest::Watch watch;
    watch.say = [this](const std::string& text) { said += text + "\n"; };
    watch.stop = [this] { return stop.load(); };
    return harvest::run_harvest(plan(), watch);
  }
  /// The Error that a harvest ends with.
  Error failure() {
    try {
      harvest_once();
    } catch (const Error& e) {
      return e;
    }
    ADD_FAILURE() << "the harvest came to an end";
    return Error(ExitStatus::ok, "", "");
  }
  /// What the harvest says of itself, as a run that learns from it reads that.
  HarvestFact state() const { return read_harvest(recipe.distill.harvest.output); }
  bool is_complete() const {
    const std::filesystem::path file = harvest::messages_file(recipe.distill.harvest.output);
    return state().complete && state().messages_sha256 == digest_file(file).sha256;
  }
  std::vector<nlohmann::json> messages() const {
    std::vector<nlohmann::json> all;
    for (const std::string& line : lines_of(harvest::messages_file(recipe.distill.harvest.output)))
      all.push_back(nlohmann::json::parse(line));
    return all;
  }
  std::vector<std::string> prompts_answered() const {
    std::vector<std::string> all;
    for (const nlohmann::json& m : messages()) all.push_back(m["messages"][0]["content"]);
    return all;
  }
  std::filesystem::path log() const { return harvest::log_file(recipe.distill.harvest.output); }
  /// Replays the log: the most that was ever spent and reserved together.
  harvest::Money most_at_stake() const {
    harvest::Money most = 0;
    harvest::Records records;
    harvest::Log(log(), [&](std::int64_t offset, const std::string& text) {
      records.apply(offset, text, "log");
      most = std::max(most, records.spent() + records.reserved());
    });
    return most;
  }

  std::string said;
  std::atomic<bool> stop = false;
};

}  // namespace fourmi::testing

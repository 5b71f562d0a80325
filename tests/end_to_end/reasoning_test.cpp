// The way of the recipes r1-*.yaml as a user goes it: a teacher is asked, its right answers are learned, the model is
// exported; and what is refused on the way.
#include <fmt/format.h>
#include <httplib.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path tests_folder = FOURMI_SOURCE_DIR "/tests";

/// Adds what it is asked to add; one answer in three is wrong.
class Adder {
 public:
  Adder() {
    server_.Post("/v1/chat/completions", [this](const httplib::Request& q, httplib::Response& r) { answer(q, r); });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Adder() {
    server_.stop();
    thread_.join();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}/v1", port_); }

 private:
  static void answer(const httplib::Request& q, httplib::Response& r) {
    const json body = json::parse(q.body);
    const std::string prompt = body["messages"][0]["content"];
    const int a = std::stoi(prompt), b = std::stoi(prompt.substr(prompt.find("and") + 4));
    const json message{{"role", "assistant"},
                       {"reasoning_content", fmt::format("{} and {}", a, b)},
                       {"content", std::to_string(a + b + (a % 3 == 0))}};
    r.set_content(json{{"id", "1"},
                       {"model", body["model"]},
                       {"choices", {{{"index", 0}, {"message", message}, {"finish_reason", "stop"}}}},
                       {"usage", {{"prompt_tokens", 5}, {"completion_tokens", 5}}}}
                      .dump(),
                  "application/json");
  }
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

constexpr int num_prompts = 60, num_right = 40;

class Reasoning : public Scene {
 protected:
  /// A small model as another program leaves it, prompts, terms and a verifier.
  void SetUp() override {
    const fs::path imported = folder() / "imported";
    expect_ok(run(fourmi({"import", tests_folder / "interop/gguf/bytes.gguf", imported})));
    expect_ok(run(fourmi({"export", imported, hf()})));
    std::ofstream(hf() / "chat_template.jinja")
        << "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.reasoning_content "
           "}}: {{ m.content }}\n{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
           "{% if add_generation_prompt %}assistant: {% endif %}";
    std::ofstream prompts(folder() / "prompts.jsonl");
    for (int i = 0; i < num_prompts; ++i)
      prompts << json{{"problem", fmt::format("{} and {}", i, i + 1)}, {"answer", 2 * i + 1}}.dump() << "\n";
    std::ofstream(folder() / "key") << "a-key-of-its-own\n";
    std::ofstream(folder() / "terms.txt") << "learn from it\n";
    std::ofstream(folder() / "verify.sh")
        << "sed -E 's/.*\"answer\":\"([0-9]+)\".*\"reference\":([0-9]+).*/\\1 = \\2/' | xargs test\n";
  }
  fs::path hf() const { return folder() / "hf"; }
  fs::path answers() const { return folder() / "answers"; }
  /// reasoning.yaml with the paths and sizes of this test.
  Words words(const Words& first, const Words& more = {}) const {
    Words all = first;
    all.insert(all.begin() + (all[0] == "teacher" ? 2 : 1), (tests_folder / "end_to_end/reasoning.yaml").string());
    for (const std::string& word : Words{
             "run.device=cpu", "run.directory=" + run_directory("run").string(), "model.from=" + hf().string(),
             "distill.teacher.endpoint=" + teacher.url(), "distill.teacher.api_key_file=" + (folder() / "key").string(),
             "distill.teacher.terms.file=" + (folder() / "terms.txt").string(),
             "distill.harvest.prompts.sums.path=" + (folder() / "prompts.jsonl").string(),
             "distill.harvest.output=" + answers().string(),
             "distill.harvest.verify.command=[sh, " + (folder() / "verify.sh").string() + "]",
             "data.train.r1-math.path=" + answers().string(), "data.global_batch_size=4", "precision.compute=fp32",
             std::string("parallel.context=1"), "export.path=" + (folder() / "out").string()})
      all.push_back(word);
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Result harvest(const Words& more = {}) const { return run(fourmi(words({"teacher", "harvest"}, more))); }
  Result learn(int ranks, const Words& more = {}) const { return run(fourmi(words({"train"}, more), ranks)); }
  static json entry_of(const fs::path& run, const std::string& type) {
    std::ifstream in(run / "ledger.jsonl");
    for (std::string line; std::getline(in, line);)
      if (json entry = json::parse(line); entry["type"] == type) return entry["payload"];
    return {};
  }

  Adder teacher;
};

TEST_F(Reasoning, FromQuestionsToAnExportedModel) {
  expect_ok(run(fourmi(words({"validate"}))));
  const Result before = learn(0);
  EXPECT_EQ(before.status, 4);
  EXPECT_NE(before.errors.find("Harvest first: `fourmi teacher harvest`"), std::string::npos) << to_string(before);

  // A request costs 10 millionths and reserves about 91 of them, so some 16 are asked.
  const Words poor{"distill.harvest.budget.cost=250.0e-6", "distill.harvest.concurrency=1"};
  EXPECT_EQ(harvest(poor).status, 8);
  const Result early = learn(2);
  EXPECT_EQ(early.status, 2);
  EXPECT_NE(early.errors.find("of 60 prompts are done"), std::string::npos) << to_string(early);
  EXPECT_NE(early.errors.find("distill.allow_incomplete"), std::string::npos) << to_string(early);
  EXPECT_FALSE(fs::exists(run_directory("run") / "recipe.yaml"));
  const Result dry = run(fourmi(words({"train", "--dry-run"})));
  expect_ok(dry);
  EXPECT_NE(dry.errors.find("of 60 prompts are done"), std::string::npos) << to_string(dry);

  const Result harvested = harvest({"distill.harvest.budget.cost=1"});
  expect_ok(harvested);
  EXPECT_NE(harvested.output.find(fmt::format("{} messages", num_right)), std::string::npos) << to_string(harvested);

  // One step, then on other ranks: the schedule is that of the first launch's epochs.
  const Result first = learn(1, {"run.time=0.001s"});
  EXPECT_EQ(first.status, 6) << to_string(first);
  EXPECT_EQ(step_lines(run_directory("run")).size(), 1u);
  expect_ok(learn(4));
  const std::vector<StepLine> steps = step_lines(run_directory("run"));
  const auto horizon = static_cast<double>(steps.size());
  ASSERT_GT(horizon, 8);
  const std::string recorded = text_of(run_directory("run") / "recipe.yaml");
  EXPECT_NE(recorded.find(fmt::format("horizon_steps: {:.0f}", horizon)), std::string::npos) << recorded;
  const double warmup = std::ceil(0.2 * horizon), highest = 8e-5;
  for (const StepLine& line : steps) {
    const double step = static_cast<double>(line.step), past = (step - warmup) / (horizon - warmup);
    const double expected = step <= warmup ? highest * step / warmup
                                           : highest * (0.1 + 0.45 * (1 + std::cos(3.14159265358979323846 * past)));
    EXPECT_NEAR(line.learning_rate, expected, 1e-12) << line.step;
  }
  EXPECT_TRUE(fs::is_regular_file(folder() / "out/model.safetensors"));

  // The ledger says who wrote the texts, under which terms, for the very data that were learned.
  const json dataset = entry_of(run_directory("run"), "dataset"), fact = entry_of(run_directory("run"), "harvest");
  EXPECT_EQ(dataset["digest_from"], "harvest");
  EXPECT_EQ(fact["dataset"], dataset["id"]);
  EXPECT_EQ(fact["messages"]["sha256"], dataset["sha256"]);
  EXPECT_EQ(fact["messages"]["lines"], num_right);
  EXPECT_EQ(fact["prompts"], num_prompts);
  EXPECT_EQ(fact["complete"], true);
  EXPECT_EQ(fact["teacher"]["name"], "teacher");
  EXPECT_EQ(fact["teacher"]["allows"], json::array({"distill"}));
  EXPECT_EQ(fact["teacher"]["terms_sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(fact["sampling"], R"({"max_tokens":20,"temperature":0.6,"top_p":0.95})");
  const Result shown = run(fourmi({"ledger", "show", run_directory("run")}));
  EXPECT_NE(shown.output.find("40 answers kept of"), std::string::npos) << to_string(shown);
  expect_ok(run(fourmi({"ledger", "verify", run_directory("run"), "--data"})));

  // More epochs do not stretch the schedule.
  const Result longer = learn(2, {"run.epochs=3"});
  expect_ok(longer);
  const std::vector<StepLine> more = step_lines(run_directory("run"));
  ASSERT_GT(more.size(), steps.size());
  for (std::size_t i = steps.size(); i < more.size(); ++i)
    EXPECT_NEAR(more[i].learning_rate, 0.1 * highest, 1e-15) << more[i].step;
  const Result moved = learn(0, {"run.epochs=4", "schedule.horizon_steps=100"});
  EXPECT_EQ(moved.status, 2);
  EXPECT_NE(moved.errors.find("schedule.horizon_steps: found 100"), std::string::npos) << to_string(moved);
}

TEST_F(Reasoning, WhatIsNotWhatTheHarvestWroteIsRefused) {
  const Words poor{"distill.harvest.budget.cost=500.0e-6", "distill.harvest.concurrency=1"};
  ASSERT_EQ(harvest(poor).status, 8);
  const Result allowed = learn(0, {"distill.allow_incomplete=true", "run.directory=" + run_directory("part").string(),
                                   "export.path=" + (folder() / "part-out").string()});
  expect_ok(allowed);
  EXPECT_EQ(allowed.lines("fourmi: warning: ").empty(), false) << to_string(allowed);
  EXPECT_NE(allowed.errors.find("distill.allow_incomplete trains on it"), std::string::npos) << to_string(allowed);
  EXPECT_EQ(entry_of(run_directory("part"), "harvest")["complete"], false);
  EXPECT_NE(text_of(run_directory("part") / "recipe.yaml").find("allow_incomplete: true"), std::string::npos);

  ASSERT_EQ(harvest({"distill.harvest.budget.cost=1"}).status, 0);
  const fs::path messages = answers() / "messages.jsonl";
  const std::string wrote = text_of(messages);
  std::string changed = wrote;
  changed.replace(changed.find("MIT"), 3, "Mit");
  std::ofstream(messages) << changed;
  const Result refused = learn(2);
  EXPECT_EQ(refused.status, 4);
  EXPECT_NE(refused.errors.find("with which the harvest wrote it"), std::string::npos) << to_string(refused);
  EXPECT_EQ(harvest({"distill.harvest.budget.cost=1"}).status, 0) << "it writes them anew, and asks nothing";
  EXPECT_EQ(text_of(messages), wrote);

  // A file that no harvest wrote brings no digest.
  std::ofstream(answers() / "more.jsonl") << wrote;
  const Result more = learn(0);
  EXPECT_EQ(more.status, 2);
  EXPECT_NE(more.errors.find("found no digest of the source `r1-math`"), std::string::npos) << to_string(more);
}

}  // namespace
}  // namespace fourmi::testing

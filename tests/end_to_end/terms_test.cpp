// Terms of teachers as a user meets them: policy before the first step, a teacher that moved on, what exports owe, and
// an exported folder that tells of it all without its run.
#include "tests/end_to_end/two_sources.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Terms : public Scene {
 protected:
  /// A teacher of two steps.
  void make_teacher(const Words& more = {}) const {
    expect_ok(run(train("teacher", 0, joined({"run.steps=2", "checkpoint.every=2", "checkpoint.keep.last=9"}, more))));
  }
  Words online(const Words& more = {}) const {
    return joined({"run.steps=2", "checkpoint.every=1", "distill.mode=online", "distill.teacher.name=Oracle",
                   "distill.teacher.from=" + run_directory("teacher").string()},
                  more);
  }
  void expect_refused(const Result& result, int status, const Words& parts) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, status);
    for (const std::string& part : parts) EXPECT_NE(result.errors.find(part), std::string::npos) << part;
  }
  /// By launch and dry run; by `validate` too where the recipe alone tells it. No step is made.
  void expect_refused_everywhere(const Words& words, const Words& parts, bool by_recipe = true) const {
    expect_refused(run(train("refused", 0, words)), 2, parts);
    EXPECT_FALSE(fs::exists(run_directory("refused") / "metrics.jsonl"));
    expect_refused(run(train("refused", 0, joined(words, {"--dry-run"}))), 2, parts);
    Words validate = overrides("refused", words);
    validate.insert(validate.begin(), {"validate", small_recipe});
    if (by_recipe)
      expect_refused(run(fourmi(validate)), 2, parts);
    else
      expect_ok(run(fourmi(validate)));
  }
  std::string newest(const std::string& name) const { return newest_checkpoint(run_directory(name)).string(); }
};

TEST_F(Terms, APolicyRefusesTeachersBeforeTheFirstStep) {
  make_teacher();
  const std::string deny = "ledger.policy.deny=[no-distill]", allow = "distill.teacher.terms.allows=[distill]";
  expect_refused_everywhere(online({deny}), {"`Oracle`", "distill.teacher.terms.allows", "(no-distill)"});
  expect_refused_everywhere(online({deny, allow, "distill.teacher.license=CC-BY-ND-4.0"}),
                            {"`Oracle` under CC-BY-ND-4.0", "(no-distill)"});
  expect_refused_everywhere(online({"ledger.policy.deny=[non-commercial]", "distill.teacher.license=CC-BY-NC-4.0"}),
                            {"`Oracle` under CC-BY-NC-4.0", "(non-commercial)"});
  expect_refused_everywhere(online({"ledger.policy.require=[license]"}), {"no license of the teacher `Oracle`"});
  const std::string require = "ledger.policy.require=[license, digest, terms]", license = "distill.teacher.license=MIT",
                    digest = "data.train=[{name: made, format: synthetic}]",
                    copy = "distill.teacher.terms.file=" + (folder() / "terms.txt").string(),
                    url = "distill.teacher.terms.url=https://oracle.example/terms";
  expect_refused_everywhere(online({require, license, digest, url}), {"distill.teacher.terms.file"});
  expect_refused_everywhere(online({require, license, digest, copy}), {"distill.teacher.terms.url"});
  expect_refused_everywhere(online({require, license, digest, copy, url, allow}), {"found no file", "terms.txt"},
                            false);
  std::ofstream(folder() / "terms.txt") << "Do as you please.\n";
  expect_ok(run(train("allowed", 0, online({require, license, digest, copy, url, allow, deny}))));

  // What a model learned before counts as well: its teacher, where nothing says that one may learn from it.
  const Result warned = run(train("silent", 0, online()));
  expect_ok(warned);
  EXPECT_NE(warned.errors.find("nothing says that the terms of the teacher `Oracle`"), std::string::npos);
  const json entries = ledger_entries(run_directory("silent"));
  const auto told = std::find_if(entries.begin(), entries.end(), [](const json& e) { return e["type"] == "teacher"; });
  ASSERT_NE(told, entries.end());
  EXPECT_EQ((*told)["payload"]["warnings"].size(), 1u);
  expect_refused_everywhere({"run.steps=1", "model.from=" + run_directory("silent").string(), deny},
                            {"ledger.policy.deny", "`Oracle`", "learned from"}, false);
}

TEST_F(Terms, ATeacherThatMovedOnIsNotLearnedFromUnseen) {
  make_teacher();
  const std::string first = newest("teacher"), first_root = root_of(first);
  expect_ok(run(train("run", 0, online())));
  make_teacher({"run.steps=4"});
  const std::string second = newest("teacher"), second_root = root_of(second);
  ASSERT_NE(first_root, second_root);
  const Words longer = online({"run.steps=4"});
  expect_refused(run(train("run", 0, longer)), 2, {first, second, first_root, second_root, "--accept-changes"});
  EXPECT_EQ(saved_step("run"), 2);
  EXPECT_EQ(step_lines(run_directory("run")).size(), 2u);
  // The remedy: the checkpoint's own folder. It stays where it is however the teacher goes on.
  expect_ok(run(train("run", 0, online({"run.steps=3", "distill.teacher.from=" + first, "--accept-changes"}))));
  make_teacher({"run.steps=6"});
  expect_ok(run(train("run", 0, online({"run.steps=4", "distill.teacher.from=" + first}))));
  // Or the other one, by name and recorded.
  expect_ok(run(train("run", 0, online({"run.steps=5", "--accept-changes"}))));
  const json entries = ledger_entries(run_directory("run"));
  json launch, teacher;
  for (const json& e : entries) {
    if (e["type"] == "launch") launch = e["payload"];
    if (e["type"] == "teacher") teacher = e["payload"];
  }
  EXPECT_EQ(teacher["root"], root_of(newest("teacher")));
  EXPECT_NE(launch["changes"].dump().find(first_root), std::string::npos) << launch;
  // A branch may have another teacher.
  expect_ok(run(train("branch", 0,
                      online({"run.steps=6", "checkpoint.resume=" + newest("run"), "distill.teacher.from=" + first}))));
}

TEST_F(Terms, WhatATeacherAsksBindsExports) {
  make_teacher();
  const std::string asks =
      "distill.teacher.terms.obligations=['name-prefix:Llama', 'notice:Built with Llama', name us in papers]";
  expect_refused_everywhere(online({asks, "export.path=" + (folder() / "mine").string()}),
                            {"`mine`", "`Oracle`", "name-prefix:Llama", "`Llama-mine` would do"});
  expect_ok(run(train("run", 0, online({asks, "export.path=" + (folder() / "Llama-own").string()}))));
  EXPECT_TRUE(fs::exists(folder() / "Llama-own/fourmi_ledger.jsonl"));
  const auto out = [&](const std::string& name) { return (folder() / name).string(); };
  expect_refused(run(fourmi({"export", run_directory("run").string(), out("mine")})), 2,
                 {out("mine"), "`Oracle`", "name-prefix:Llama", "`Llama-mine` would do"});
  EXPECT_FALSE(fs::exists(out("mine")));
  expect_ok(run(fourmi({"export", run_directory("run").string(), out("Llama-mine")})));
  const std::string card = text_of(out("Llama-mine") + "/README.md");
  EXPECT_NE(card.find("\nBuilt with Llama\n"), std::string::npos) << card;
  EXPECT_NE(card.find("Oracle asks, and nothing here checks it: name us in papers"), std::string::npos) << card;
  const Result report = run(fourmi({"ledger", "report", out("Llama-mine")}));
  expect_ok(report);
  EXPECT_NE(report.output.find("name-prefix:Llama; notice:Built with Llama"), std::string::npos) << report.output;

  // It binds what is made of the folder too, and what learns from what learned from it.
  expect_ok(run(fourmi({"import", out("Llama-mine"), out("again")})));
  expect_refused(run(fourmi({"export", out("again"), out("renamed")})), 2, {"`Llama-renamed` would do"});
  expect_refused(run(fourmi({"export", out("Llama-mine"), out("renamed"), "--dtype", "fp32"})), 2, {"name-prefix"});
  expect_ok(run(train("pupil", 0,
                      {"run.steps=1", "checkpoint.every=1", "distill.mode=online",
                       "distill.teacher.from=" + run_directory("run").string()})));
  expect_refused(run(fourmi({"export", run_directory("pupil").string(), out("pupil-out")})), 2, {"name-prefix:Llama"});
  // The run's own export is held to what the lineage asks, which its recipe does not tell.
  expect_refused_everywhere({"run.steps=1", "model.from=" + run_directory("run").string(), "export.path=" + out("x")},
                            {"`x`", "name-prefix:Llama"}, false);
}

TEST_F(Terms, WhoeverWroteAHarvestIsATeacherWhateverTheRecipeSays) {
  const fs::path answers = folder() / "answers", chat = folder() / "chat.jinja";
  fs::create_directories(answers / ".harvest");
  std::ofstream(answers / ".harvest/log") << "what was asked\n";
  std::ofstream messages(answers / "messages.jsonl");
  for (int i = 0; i < 400; ++i)
    messages
        << fmt::format(
               R"({{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "so {}"}}]}})",
               i, i * 7)
        << "\n";
  messages.close();
  std::ofstream(chat) << "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
                         "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
  const json state{{"complete", true},
                   {"prompts", 400},
                   {"prompts_done", 400},
                   {"prompts_sha256", ""},
                   {"answers", 400},
                   {"messages", {{"lines", 400}, {"sha256", ""}}},
                   {"log", {{"digest", ""}}},
                   {"sampling", json::object()},
                   {"teacher",
                    {{"name", "Oracle"},
                     {"model", "oracle-1"},
                     {"endpoint", "https://oracle.example/v1"},
                     {"license", "MIT"},
                     {"terms_url", ""},
                     {"terms_sha256", ""},
                     {"allows", json::array()},
                     {"obligations", {"name-prefix:Oracle"}}}}};
  std::ofstream(answers / ".harvest/state.json") << state;
  const Words words{"run.steps=1",
                    "data.train=[{name: said, path: " + answers.string() + ", format: messages, license: MIT}]",
                    "data.chat_template=" + chat.string()};
  expect_refused_everywhere(joined(words, {"ledger.policy.deny=[no-distill]"}), {"`Oracle`", "(no-distill)"}, false);
  expect_refused_everywhere(joined(words, {"export.path=" + (folder() / "mine").string()}),
                            {"`Oracle`", "`Oracle-mine` would do"}, false);
  const Result learned = run(train("run", 0, words));
  expect_ok(learned);
  EXPECT_NE(learned.errors.find("nothing says that the terms of the teacher `Oracle`"), std::string::npos);
  EXPECT_EQ(verified_trace(run_directory("run")).at("teachers").at(0).at("objective"), "texts");
  expect_refused(run(fourmi({"export", run_directory("run"), (folder() / "mine").string()})), 2,
                 {"name-prefix:Oracle"});
}

TEST_F(Terms, AnExportedFolderTellsOfItsRunWithoutIt) {
  make_teacher();
  const Words words = joined(two_sources(folder()), online({"distill.teacher.terms.allows=[distill]"}));
  expect_ok(run(train("run", 0, words)));
  const fs::path moved = folder() / "elsewhere/model";
  expect_ok(run(fourmi({"export", run_directory("run").string(), (folder() / "out").string()})));
  const json mine = verified_trace(run_directory("run"));
  fs::create_directories(moved.parent_path());
  fs::rename(folder() / "out", moved);
  fs::remove_all(run_directory("run"));
  const json theirs = verified_trace(moved);
  for (const char* key : {"sources", "teachers", "runs", "tokens", "run_tokens", "step"})
    EXPECT_EQ(theirs.at(key), mine.at(key)) << key;
  EXPECT_EQ(ledger_entries(moved).back()["type"], "export");
  const Result spdx = run(fourmi({"ledger", "report", moved, "--format", "spdx"}));
  expect_ok(spdx);
  const json graph = json::parse(spdx.output).at("@graph");
  EXPECT_EQ(
      std::count_if(graph.begin(), graph.end(), [](const json& e) { return e["type"] == "dataset_DatasetPackage"; }),
      2);
  EXPECT_EQ(run(fourmi({"ledger", "report", moved, "--format", "spdx"})).output, spdx.output);

  // A model that goes on from the folder counts its tokens too.
  expect_ok(run(train("tuned", 0, {"run.steps=2", "checkpoint.every=2", "model.from=" + moved.string()})));
  const json tuned = verified_trace(run_directory("tuned"));
  EXPECT_EQ(tuned["tokens"].get<std::int64_t>(), mine["tokens"].get<std::int64_t>() + tuned["run_tokens"].get<int>());
  EXPECT_EQ(tuned["sources"].size(), 3u);

  // Signed, by whoever has the key.
  const fs::path key = folder() / "key.pem", open = folder() / "public.pem";
  std::ofstream(key)
      << "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
         "-----END PRIVATE KEY-----\n";  // the example of RFC 8410
  std::ofstream(open) << "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                         "-----END PUBLIC KEY-----\n";
  const Words signed_by{"ledger", "verify", moved, "--public-key", open};
  expect_refused(run(fourmi(signed_by)), 4, {"fourmi_ledger.", ".sig", "found no file"});
  expect_ok(run(fourmi({"ledger", "sign", moved, "--key", key})));
  const Result proven = run(fourmi(signed_by));
  expect_ok(proven);
  EXPECT_EQ(proven.errors, "");  // the signature is no stranger in the folder

  // One changed byte of a weight, and one of a data file.
  std::fstream(folder() / "prose", std::ios::in | std::ios::out).put('#');
  expect_refused(run(fourmi({"ledger", "verify", moved, "--data"})), 4, {(folder() / "prose").string(), "SHA-256"});
  expect_ok(run(fourmi({"ledger", "verify", moved})));
  const fs::path weights = moved / "model.safetensors";
  std::string text = text_of(weights);
  text[text.size() / 2] ^= 1;
  std::ofstream(weights, std::ios::binary) << text;
  expect_refused(run(fourmi({"ledger", "verify", moved})), 4, {weights.string(), "SHA-256"});
}

}  // namespace
}  // namespace fourmi::testing

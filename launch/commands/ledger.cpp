// fourmi ledger show|verify|trace|report|sign MODEL: where every token of a model came from, and the proof.
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "framework/ledger/card.h"
#include "framework/ledger/signature.h"
#include "framework/ledger/spdx.h"
#include "framework/ledger/trace.h"
#include "framework/run/files.h"
#include "framework/train/model_ledger.h"
#include "launch/commands.h"

namespace fourmi {

namespace {

using nlohmann::ordered_json;

struct Arguments {
  std::string model, format = "card", key, public_key;
  bool json = false, data = false, all = false;
};

std::string text(const ordered_json& j) {
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string mark(const std::string& value) {
  return value.empty() ? "not given" : value;
}

/// The entries of the lineage, from the root; with --all also those of side branches, marked.
void show(const Arguments& a) {
  const ModelLedger m = open_ledger(a.model);
  const auto lineage = m.ledger.lineage(m.head, m.path.string());
  ordered_json entries = ordered_json::array();
  for (const LedgerEntry& e : m.ledger.entries()) {
    const bool mine = std::find(lineage.begin(), lineage.end(), &e) != lineage.end();
    if (!mine && !a.all) continue;
    if (a.json) {
      entries.push_back({{"index", e.index},
                         {"type", e.type},
                         {"time", e.time},
                         {"sha256", e.sha256},
                         {"previous", e.previous.empty() ? ordered_json(nullptr) : ordered_json(e.previous)},
                         {"in_lineage", mine},
                         {"payload", ordered_json::parse(e.payload)}});
    } else {
      std::cout << fmt::format("{:>5}  {}  {}  {:<10}  {}{}\n", e.index, short_digest(e.sha256), e.time, e.type,
                               describe(e, m.path.string()), mine ? "" : "  (side branch)");
    }
  }
  if (a.json)
    std::cout << text(
        {{"ledger", m.path.string()}, {"checkpoint", m.checkpoint.string()}, {"head", m.head}, {"entries", entries}});
  else
    std::cout << fmt::format("{} of {} entries, head {} of {}\n", lineage.size(), m.ledger.entries().size(),
                             short_digest(m.head), m.checkpoint.string());
}

/// The signature's file, if it was asked for and proves.
std::string verified_signature(const Arguments& a, const ModelLedger& m) {
  if (a.public_key.empty()) return {};
  const std::filesystem::path path = signature_path(m.path, m.head);
  const std::optional<std::string> text = files::read(path);
  if (!text)
    throw Error(ExitStatus::input, path.string(),
                fmt::format("found no file, expected the signature of the head {}", short_digest(m.head)),
                "Make it: fourmi ledger sign MODEL --key FILE");
  verify_signature(m.head, *text, a.public_key, path.string());
  return path.string();
}

/// Only what proves is signed.
void sign(const Arguments& a) {
  const ModelLedger m = open_ledger(a.model);
  verify_ledger(m);
  verify_files(m);
  const std::filesystem::path path = signature_path(m.path, m.head);
  files::replace(path, sign_head(m.head, a.key));
  std::cout << fmt::format("{}: signed the head {} of {}\n", path.string(), short_digest(m.head),
                           m.checkpoint.string());
}

void verify(const Arguments& a) {
  const ModelLedger m = open_ledger(a.model);
  const Trace t = verify_ledger(m);
  verify_files(m);
  if (m.exported)
    for (const std::string& other : interop::others_in(*m.exported))
      std::cerr << fmt::format("fourmi: warning: {} was not exported with the others\n",
                               (m.checkpoint / other).string());
  const std::string signature = verified_signature(a, m);
  if (a.data) verify_data(t);
  const std::size_t length = m.ledger.lineage(m.head, m.path.string()).size();
  if (a.json)
    std::cout << text({{"ok", true},
                       {"ledger", m.path.string()},
                       {"checkpoint", m.checkpoint.string()},
                       {"head", m.head},
                       {"entries", length},
                       {"tokens", t.tokens},
                       {"files_verified", m.exported ? m.exported->fact.files.size() : 0},
                       {"signature_verified", !signature.empty()},
                       {"data_verified", a.data}});
  else
    std::cout << fmt::format(
        "{}: {} entries up to {} are whole and fit {} (step {}, {} tokens){}{}{}\n", m.path.string(), length,
        short_digest(m.head), m.checkpoint.string(), t.step, t.run_tokens,
        m.exported ? fmt::format("; its {} files are those that were exported", m.exported->fact.files.size()) : "",
        signature.empty() ? "" : fmt::format("; {} is the key's", signature),
        a.data ? fmt::format("; the files of {} source(s) are those that were read", t.datasets.size()) : "");
}

std::string listed(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : "; ") + word;
  return list;
}

ordered_json teachers_of(const Trace& t) {
  ordered_json teachers = ordered_json::array();
  for (const TeacherFact& f : t.teachers)
    teachers.push_back({{"name", name_of(f)},
                        {"license", f.license},
                        {"path", f.path},
                        {"root", f.root},
                        {"objective", f.objective},
                        {"allows", f.allows},
                        {"obligations", f.obligations}});
  return teachers;
}

void trace_model(const Arguments& a) {
  const ModelLedger m = open_ledger(a.model);
  const Trace t = verify_ledger(m);
  if (a.json) {
    ordered_json sources = ordered_json::array(), runs = ordered_json::array();
    for (const TracedSource& s : t.sources)
      sources.push_back({{"name", s.name},
                         {"license", s.license},
                         {"tokens", s.tokens},
                         {"run_tokens", s.run_tokens},
                         {"source", s.source},
                         {"format", s.format},
                         {"sha256", s.sha256}});
    for (const TracedRun& r : t.runs)
      runs.push_back({{"name", r.name},
                      {"steps", r.steps},
                      {"tokens", r.tokens},
                      {"launches", r.launches},
                      {"recipe_sha256", r.recipe_sha256}});
    std::cout << text({{"ledger", m.path.string()},
                       {"checkpoint", m.checkpoint.string()},
                       {"head", m.head},
                       {"step", t.step},
                       {"tokens", t.tokens},
                       {"run_tokens", t.run_tokens},
                       {"sources", sources},
                       {"teachers", teachers_of(t)},
                       {"runs", runs}});
    return;
  }
  std::cout << fmt::format("{}: {} tokens up to step {}\n", m.checkpoint.string(), t.tokens, t.step);
  for (const TracedSource& s : t.sources)
    std::cout << fmt::format("{:>16} tokens  {:>5.1f}%  {}  licence {}  from {}  SHA-256 {}\n", s.tokens,
                             t.tokens > 0 ? 100.0 * static_cast<double>(s.tokens) / static_cast<double>(t.tokens) : 0.0,
                             s.name, mark(s.license), mark(s.source),
                             s.sha256.empty() ? "none" : short_digest(s.sha256));
  for (const TeacherFact& f : t.teachers)
    std::cout << fmt::format("{:>23}  {} by {}  licence {}{}\n", "teacher", name_of(f), f.objective, mark(f.license),
                             f.obligations.empty() ? "" : "  which asks " + listed(f.obligations));
  for (const TracedRun& r : t.runs)
    if (t.runs.size() > 1)
      std::cout << fmt::format("{:>16} tokens  in {} steps of run {}\n", r.tokens, r.steps, r.name);
}

void report(const Arguments& a) {
  const ModelLedger m = open_ledger(a.model);
  const Trace t = verify_ledger(m);
  std::cout << (a.format == "spdx" ? spdx_json(t, m.exported ? &m.exported->fact : nullptr)
                                   : card_notices(t) + card_section(t));
}

}  // namespace

void add_ledger(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c =
      app.add_subcommand("ledger", "where every token came from: show the record, prove it, sum it up by source");
  c->require_subcommand(1);
  const auto subcommand = [&](const char* name, const char* meaning, void (*work)(const Arguments&)) {
    CLI::App* s = c->add_subcommand(name, meaning);
    s->add_option("MODEL", a->model, "a run directory, a checkpoint, or a folder that fourmi exported")->required();
    s->callback([&status, a, work] {
      work(*a);
      status = ExitStatus::ok;
    });
    return s;
  };
  const auto json = [&](CLI::App* s) {
    s->add_flag("--json", a->json, "one JSON object");
    return s;
  };
  json(subcommand("show", "the entries that led to the model", show))
      ->add_flag("--all", a->all, "also those of side branches: kills, rollbacks, failed saves");
  CLI::App* v = json(subcommand(
      "verify", "prove every entry, and that the checkpoint, or each exported file, is what they tell of", verify));
  v->add_option("--public-key", a->public_key, "PEM: the head must be signed by this Ed25519 key");
  v->add_flag("--data", a->data, "also read all data files and prove their digests");
  json(subcommand("trace", "tokens by source, with their terms", trace_model));
  subcommand("sign", "an Ed25519 signature of the head, beside the ledger", sign)
      ->add_option("--key", a->key, "the private key: PEM, without a pass phrase")
      ->required();
  subcommand("report", "sources, teachers, terms and what they ask, for others to read", report)
      ->add_option("--format", a->format, "card: Markdown; spdx: SPDX 3.0.1 as JSON-LD")
      ->check(CLI::IsMember({"card", "spdx"}));
}

}  // namespace fourmi

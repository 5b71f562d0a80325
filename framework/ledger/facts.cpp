#include "framework/ledger/facts.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "framework/digest/sha256.h"
#include "framework/ledger/capture_fact.h"
#include "framework/ledger/export_fact.h"
#include "framework/ledger/harvest_fact.h"
#include "framework/ledger/import_fact.h"
#include "framework/ledger/teacher_fact.h"
#include "kernels/runtime/error.h"

namespace fourmi {

using nlohmann::json;

namespace {

std::string text_of(const json& payload) {
  return payload.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Reads members of a payload and says which one is wrong.
class Members {
 public:
  Members(const LedgerEntry& entry, const std::string& place)
      : entry_(entry), place_(place), json_(json::parse(entry.payload, nullptr, false)) {
    if (!json_.is_object()) fail("a map");
  }
  Members(const LedgerEntry& entry, const std::string& place, json part)
      : entry_(entry), place_(place), json_(std::move(part)) {
    if (!json_.is_object()) fail("maps in its lists");
  }

  std::string text(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end() || !it->is_string()) fail(fmt::format("{} to be a text", key));
    return it->get<std::string>();
  }
  /// Of a member that older ledgers lack.
  std::string text_or(const char* key) const { return json_.contains(key) ? text(key) : ""; }
  std::int64_t count(const char* key) const {
    const auto it = json_.find(key);
    const bool whole = it != json_.end() && it->is_number_integer();
    const bool fits = whole && (!it->is_number_unsigned() || it->get<std::uint64_t>() < (std::uint64_t{1} << 62)) &&
                      it->get<std::int64_t>() >= 0;
    if (!fits) fail(fmt::format("{} to be a count from 0", key));
    return it->get<std::int64_t>();
  }
  const json& list(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end() || !it->is_array()) fail(fmt::format("{} to be a list", key));
    return *it;
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> out;
    for (const json& part : list(key)) {
      if (!part.is_string()) fail(fmt::format("{} to be a list of texts", key));
      out.push_back(part.get<std::string>());
    }
    return out;
  }
  std::vector<std::string> texts_or(const char* key) const {
    return json_.contains(key) ? texts(key) : std::vector<std::string>{};
  }
  std::vector<Members> parts(const char* key) const {
    std::vector<Members> out;
    for (const json& part : list(key)) out.emplace_back(entry_, place_, part);
    return out;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ExitStatus::input, place_, fmt::format("{} is not right, expected {}", name_of(entry_), expected),
                "Restore ledger.jsonl from a copy");
  }
  const LedgerEntry& entry_;
  const std::string& place_;
  json json_;
};

std::vector<DataFile> files_of(const Members& m) {
  std::vector<DataFile> files;
  for (const Members& file : m.parts("files"))
    files.push_back({file.text("path"), file.count("bytes"), file.text("sha256")});
  return files;
}

json to_json(const std::vector<DataFile>& files) {
  json list = json::array();
  for (const DataFile& f : files) list.push_back({{"path", f.path}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  return list;
}

}  // namespace

std::int64_t DatasetFact::bytes() const {
  return std::accumulate(files.begin(), files.end(), std::int64_t{0},
                         [](std::int64_t sum, const DataFile& f) { return sum + f.bytes; });
}

std::string DatasetFact::id() const {
  return ::fourmi::sha256(
      text_of({{"name", name}, {"format", format}, {"license", license}, {"source", source}, {"sha256", sha256}}));
}

std::string digest_of(const std::vector<DataFile>& files) {
  if (files.empty()) return {};
  if (files.size() == 1) return files.front().sha256;
  std::string lines;
  for (const DataFile& f : files) lines += f.sha256 + "\n";
  return sha256(lines);
}

std::int64_t TokensFact::total() const {
  return std::accumulate(sources.begin(), sources.end(), std::int64_t{0},
                         [](std::int64_t sum, const SourceTokens& s) { return sum + s.tokens; });
}

std::string to_payload(const RunFact& f) {
  return text_of({{"name", f.name}, {"recipe_sha256", f.recipe_sha256}, {"model_type", f.model_type}});
}

std::string to_payload(const DatasetFact& f) {
  return text_of({{"id", f.id()},
                  {"name", f.name},
                  {"format", f.format},
                  {"license", f.license},
                  {"source", f.source},
                  {"files", to_json(f.files)},
                  {"bytes", f.bytes()},
                  {"sha256", f.sha256},
                  {"digest_from", f.digest_from}});
}

std::string to_payload(const LaunchFact& f) {
  return text_of({{"launch", f.launch},
                  {"step", f.step},
                  {"ranks", f.ranks},
                  {"started_as", f.started_as},
                  {"commit", f.commit},
                  {"version", f.version},
                  {"recipe_sha256", f.recipe_sha256},
                  {"hosts", f.hosts},
                  {"changes", f.changes}});
}

std::string to_payload(const TokensFact& f) {
  json sources = json::array();
  for (const SourceTokens& s : f.sources) sources.push_back({{"dataset", s.dataset}, {"tokens", s.tokens}});
  return text_of({{"from_step", f.from_step}, {"to_step", f.to_step}, {"sources", sources}});
}

std::string to_payload(const CheckpointFact& f) {
  return text_of({{"step", f.step}, {"tokens", f.tokens}, {"root", f.root}});
}

std::string to_payload(const RollbackFact& f) {
  return text_of({{"from_step", f.from_step}, {"to_step", f.to_step}, {"cause", f.cause}});
}

std::string to_payload(const PromotionFact& f) {
  return text_of({{"step", f.step}, {"layer", f.layer}});
}

std::string to_payload(const OriginFact& f) {
  return text_of({{"path", f.path}, {"root", f.root}, {"step", f.step}, {"tokens", f.tokens}});
}

std::string to_payload(const ImportFact& f) {
  json members{{"path", f.path}, {"license", f.license}, {"dtype", f.dtype}, {"bytes", f.bytes}};
  if (!f.name.empty()) members["name"] = f.name;
  if (!f.sha256.empty()) members["sha256"] = f.sha256;
  return text_of(members);
}

std::string to_payload(const ExportFact& f) {
  return text_of({{"name", f.name},
                  {"dtype", f.dtype},
                  {"root", f.root},
                  {"run", f.run},
                  {"step", f.step},
                  {"tokens", f.tokens},
                  {"files", to_json(f.files)}});
}

std::string to_payload(const TeacherFact& f) {
  json members{{"name", f.name},
               {"license", f.license},
               {"path", f.path},
               {"root", f.root},
               {"ledger_head", f.ledger_head},
               {"objective", f.objective},
               {"terms_url", f.terms_url},
               {"terms_sha256", f.terms_sha256},
               {"allows", f.allows},
               {"obligations", f.obligations}};
  if (!f.warnings.empty()) members["warnings"] = f.warnings;
  return text_of(members);
}

std::string to_payload(const CaptureFact& f) {
  return text_of({{"path", f.path},
                  {"root", f.root},
                  {"kind", f.kind},
                  {"entries", f.entries},
                  {"rows", f.rows},
                  {"bytes", f.bytes}});
}

std::string to_payload(const UnrecordedFact& f) {
  return text_of({{"step", f.step}, {"tokens", f.tokens}, {"cause", f.cause}});
}

RunFact run_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.text("name"), m.text("recipe_sha256"), m.text("model_type")};
}

DatasetFact dataset_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  DatasetFact f;
  f.name = m.text("name");
  f.format = m.text("format");
  f.license = m.text("license");
  f.source = m.text("source");
  f.sha256 = m.text("sha256");
  f.digest_from = m.text("digest_from");
  f.files = files_of(m);
  if (m.text("id") != f.id() || f.sha256 != digest_of(f.files))
    throw Error(
        ExitStatus::input, place,
        fmt::format("{} has an id or a digest that does not fit what it says, expected its own", name_of(entry)));
  return f;
}

LaunchFact launch_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.count("launch"), m.count("step"),         m.count("ranks"), m.text("started_as"), m.text("commit"),
          m.text("version"), m.text("recipe_sha256"), m.texts("hosts"), m.texts("changes")};
}

TokensFact tokens_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  TokensFact f{m.count("from_step"), m.count("to_step"), {}};
  for (const Members& s : m.parts("sources")) f.sources.push_back({s.text("dataset"), s.count("tokens")});
  return f;
}

CheckpointFact checkpoint_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.count("step"), m.count("tokens"), m.text("root")};
}

RollbackFact rollback_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.count("from_step"), m.count("to_step"), m.text("cause")};
}

PromotionFact promotion_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.count("step"), m.count("layer")};
}

OriginFact origin_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.text("path"), m.text("root"), m.count("step"), m.count("tokens")};
}

ImportFact import_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.text("path"), m.text("license"), m.text("dtype"), m.count("bytes"), m.text_or("name"), m.text_or("sha256")};
}

ExportFact export_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.text("name"),  m.text("dtype"),   m.text("root"), m.text("run"),
          m.count("step"), m.count("tokens"), files_of(m)};
}

TeacherFact teacher_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {.name = m.text("name"),
          .license = m.text("license"),
          .path = m.text("path"),
          .root = m.text("root"),
          .ledger_head = m.text("ledger_head"),
          .objective = m.text("objective"),
          .terms_url = m.text("terms_url"),
          .terms_sha256 = m.text("terms_sha256"),
          .allows = m.texts("allows"),
          .obligations = m.texts("obligations"),
          .warnings = m.texts_or("warnings")};
}

bool is_same(const TeacherFact& a, TeacherFact b) {
  b.warnings = a.warnings;
  return a == b;
}

TeacherRecord record_of(const TeacherFact& f) {
  return {name_of(f), f.license, f.allows, !f.terms_sha256.empty(), !f.terms_url.empty()};
}

std::string name_of(const TeacherFact& f) {
  return f.name.empty() ? f.path : f.name;
}

CaptureFact capture_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.text("path"), m.text("root"), m.text("kind"), m.count("entries"), m.count("rows"), m.count("bytes")};
}

UnrecordedFact unrecorded_fact(const LedgerEntry& entry, const std::string& place) {
  const Members m(entry, place);
  return {m.count("step"), m.count("tokens"), m.text("cause")};
}

}  // namespace fourmi

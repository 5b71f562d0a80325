#include "framework/ledger/harvest_fact.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using HarvestJson = nlohmann::json;

/// As the JSON library's own exceptions say it.
HarvestFact fact_from(const HarvestJson& j) {
  HarvestFact f;
  f.dataset = j.at("dataset");
  f.complete = j.at("complete");
  f.prompts = j.at("prompts");
  f.prompts_done = j.at("prompts_done");
  f.prompts_sha256 = j.at("prompts_sha256");
  f.answers = j.at("answers");
  f.kept = j.at("messages").at("lines");
  f.messages_sha256 = j.at("messages").at("sha256");
  f.log_sha256 = j.at("log").at("digest");
  const HarvestJson& sampling = j.at("sampling");  // of an entry a text: there are no fractions in entries
  f.sampling = sampling.is_string() ? sampling.get<std::string>() : sampling.dump();
  const HarvestJson& t = j.at("teacher");
  f.teacher = t.at("name");
  f.model = t.at("model");
  f.endpoint = t.at("endpoint");
  f.license = t.at("license");
  f.terms_url = t.at("terms_url");
  f.terms_sha256 = t.at("terms_sha256");
  f.allows = t.at("allows").get<std::vector<std::string>>();
  f.obligations = t.at("obligations").get<std::vector<std::string>>();
  return f;
}

}  // namespace

std::string to_payload(const HarvestFact& f) {
  const HarvestJson j{{"dataset", f.dataset},
                      {"complete", f.complete},
                      {"prompts", f.prompts},
                      {"prompts_done", f.prompts_done},
                      {"prompts_sha256", f.prompts_sha256},
                      {"answers", f.answers},
                      {"messages", {{"lines", f.kept}, {"sha256", f.messages_sha256}}},
                      {"log", {{"digest", f.log_sha256}}},
                      {"sampling", f.sampling},
                      {"teacher",
                       {{"name", f.teacher},
                        {"model", f.model},
                        {"endpoint", f.endpoint},
                        {"license", f.license},
                        {"terms_url", f.terms_url},
                        {"terms_sha256", f.terms_sha256},
                        {"allows", f.allows},
                        {"obligations", f.obligations}}}};
  return j.dump(-1, ' ', false, HarvestJson::error_handler_t::replace);
}

HarvestFact harvest_fact(const LedgerEntry& entry, const std::string& place) {
  try {
    return fact_from(HarvestJson::parse(entry.payload));
  } catch (const HarvestJson::exception& problem) {
    throw Error(ExitStatus::input, place,
                fmt::format("{} is not right ({}), what a harvest says was expected", name_of(entry), problem.what()),
                "Restore ledger.jsonl from a copy");
  }
}

std::string describe(const HarvestFact& f) {
  return fmt::format("texts of {} ({} at {}) in dataset {}: {} answers kept of {}, to {} of {} prompts{}, licence {}",
                     f.teacher, f.model, f.endpoint, short_digest(f.dataset), f.kept, f.answers, f.prompts_done,
                     f.prompts, f.complete ? "" : " (not complete)", f.license.empty() ? "not given" : f.license);
}

TeacherFact teacher_of(const HarvestFact& f) {
  return {.name = f.teacher.empty() ? f.model : f.teacher,
          .license = f.license,
          .path = f.endpoint,
          .root = {},
          .ledger_head = {},
          .objective = "texts",
          .terms_url = f.terms_url,
          .terms_sha256 = f.terms_sha256,
          .allows = f.allows,
          .obligations = f.obligations};
}

bool holds_harvest(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(folder / ".harvest" / "log", ignored);
}

HarvestFact read_harvest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / ".harvest" / "state.json";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return {};
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  try {
    HarvestJson j = HarvestJson::parse(text.str());
    j["dataset"] = "";
    return fact_from(j);
  } catch (const HarvestJson::exception& problem) {
    throw Error(ExitStatus::input, path.string(),
                fmt::format("what a harvest says of itself was expected, it cannot be read ({})", problem.what()),
                "`fourmi teacher harvest` writes it anew, and asks nothing that was answered");
  }
}

}  // namespace fourmi

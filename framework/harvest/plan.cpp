#include "framework/harvest/plan.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/digest/file_digest.h"
#include "framework/digest/sha256.h"
#include "framework/recipe/policy.h"
#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using Json = nlohmann::ordered_json;

Json sampling_of(const HarvestSection& h) {
  Json sampling = Json::object();
  if (h.temperature) sampling["temperature"] = *h.temperature;
  if (h.top_p) sampling["top_p"] = *h.top_p;
  if (h.max_tokens) sampling["max_tokens"] = *h.max_tokens;
  return sampling;
}

}  // namespace

std::string Plan::header() const {
  Json header{{"type", "harvest"}, {"version", 1}, {"teacher", teacher.name}, {"model", teacher.model}};
  header["sampling"] = Json::parse(sampling);
  header["currency"] = harvest.currency;
  header["license"] = teacher.license;
  header["terms"] = {{"sha256", terms_sha256},
                     {"url", teacher.terms.url},
                     {"allows", teacher.terms.allows},
                     {"obligations", teacher.terms.obligations}};
  return header.dump();
}

std::string Plan::request(const Prompt& prompt) const {
  Json body{{"model", teacher.model}};
  body["messages"] = Json::array({{{"role", "user"}, {"content", prompt.text}}});
  body.update(Json::parse(sampling));
  return body.dump();
}

Money Plan::most_cost(const Prompt& prompt, std::int64_t overhead) const {
  return prices.of(std::ssize(prompt.text) + overhead, harvest.max_tokens.value_or(0));
}

Plan make_plan(const Recipe& recipe) {
  const HarvestSection& h = recipe.distill.harvest;
  if (h.output.empty())
    throw Error(ExitStatus::usage, "distill.harvest", "no harvest was found in the recipe, one was expected",
                "docs/harvest.md shows one");
  const TeacherSection& t = recipe.distill.teacher;
  check_teacher_terms(t.terms);
  Plan plan;
  plan.teacher = t;
  plan.harvest = h;
  check_certificates(t.ca_file);
  plan.endpoint = {t.endpoint, read_key(t.api_key_file), t.ca_file,
                   std::chrono::milliseconds(static_cast<std::int64_t>(std::min(h.timeout_seconds, 1e6) * 1000))};
  plan.prompts = read_prompts(h.prompts);
  plan.prices = {price_of_token(h.price_input.value_or(0)), price_of_token(h.price_output.value_or(0))};
  plan.budget = money_of(h.cost.value_or(0));
  plan.sampling = sampling_of(h).dump();
  if (!t.terms.file.empty()) plan.terms_sha256 = digest_file(t.terms.file).sha256;
  std::string rule = h.keep_unfinished ? "unfinished too" : "finished";
  for (const std::string& word : h.verify_command) rule += '\n' + word;
  plan.rule = sha256(rule).substr(0, 16);
  return plan;
}

}  // namespace fourmi::harvest

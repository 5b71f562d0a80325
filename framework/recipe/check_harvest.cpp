// What must hold between the keys of a harvest.
#include <algorithm>
#include <set>

#include "framework/recipe/license.h"
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

class HarvestChecks {
 public:
  HarvestChecks(const Reading& reading, Issues& issues) : reading_(reading), r_(reading.recipe), issues_(issues) {}

  void run() {
    if (!good("distill") || !good("distill.teacher") || !good("distill.harvest")) return;
    license("distill.teacher.license", r_.distill.teacher.license, "the teacher");
    endpoint();
    if (!reading_.given("distill.harvest")) return;
    complete();
    prompts();
    budget();
    const HarvestSection& h = r_.distill.harvest;
    if (h.verify_keep && h.verify_command.empty() && good("distill.harvest.verify.command"))
      refuse("distill.harvest.verify", "found `keep` without a command", "expected `distill.harvest.verify.command`");
  }

 private:
  bool good(const std::string& key) const { return reading_.good(key); }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place(key), std::move(found), std::move(expected), std::move(remedy));
  }

  void license(const std::string& key, const std::string& text, const std::string& whose) {
    if (!reading_.given(key) || !good(key)) return;
    const LicenseProblem problem = check_license(text);
    if (!problem.found.empty())
      refuse(key, fmt::format("{} in the licence `{}` of {}", problem.found, shown(text), whose), problem.expected,
             problem.remedy);
  }

  void endpoint() {
    const std::string key = "distill.teacher.endpoint", &url = r_.distill.teacher.endpoint;
    if (!reading_.given(key) || !good(key)) return;
    const std::size_t scheme = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
    // Whatever a secret could hide in is not repeated.
    if (url.find_first_of("@?#") != std::string::npos)
      return refuse(key, "found an endpoint with a user, a query or a fragment", "expected https://HOST/v1",
                    "A key belongs into the file of `api_key_file`");
    const bool plain = std::all_of(url.begin(), url.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; });
    if (scheme == 0 || url.size() == scheme || url[scheme] == '/' || url[scheme] == ':' || !plain)
      return refuse(key, fmt::format("found `{}`", shown(url)), "expected https://HOST/v1 or http://HOST:PORT/v1");
    if (scheme == 7 && !r_.distill.teacher.ca_file.empty() && good("distill.teacher.ca_file"))
      refuse("distill.teacher.ca_file", "found certificates for an endpoint that is asked without TLS",
             "expected https:// in `distill.teacher.endpoint`");
  }

  void complete() {
    const TeacherSection& t = r_.distill.teacher;
    const std::pair<const char*, bool> needed[] = {{"distill.mode", !r_.distill.mode.empty()},
                                                   {"distill.teacher.name", !t.name.empty()},
                                                   {"distill.teacher.endpoint", !t.endpoint.empty()},
                                                   {"distill.teacher.model", !t.model.empty()},
                                                   {"distill.harvest.prompts", !r_.distill.harvest.prompts.empty()},
                                                   {"distill.harvest.output", !r_.distill.harvest.output.empty()}};
    for (const auto& [key, given] : needed)
      if (!given && good(key))
        refuse("distill.harvest", fmt::format("found a harvest without `{}`", key), fmt::format("expected `{}`", key));
  }

  void prompts() {
    std::set<std::string> names;
    const std::vector<DataSource>& all = r_.distill.harvest.prompts;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::string element = fmt::format("distill.harvest.prompts[{}]", i);
      license(element + ".license", all[i].license, fmt::format("the prompts `{}`", shown(all[i].name)));
      if (good(element + ".name") && !names.insert(all[i].name).second)
        refuse(element + ".name", fmt::format("found the name `{}` twice", shown(all[i].name)),
               "expected each name once");
    }
  }

  void budget() {
    const std::string section = "distill.harvest.budget";
    const HarvestSection& h = r_.distill.harvest;
    if (!reading_.given(section) || !good(section)) return;
    const bool letters = h.currency.size() == 3 &&
                         std::all_of(h.currency.begin(), h.currency.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (!letters && good(section + ".currency"))
      refuse(section + ".currency", fmt::format("found `{}` as the currency", shown(h.currency)),
             "expected three capital letters, such as EUR");
    const std::string prices = section + ".price_per_million_tokens";
    if ((!h.price_input || !h.price_output) && good(prices) && good(prices + ".input") && good(prices + ".output"))
      refuse(section, "found a budget without prices", fmt::format("expected `{}: {{input, output}}`", prices));
    if (h.cost && !h.max_tokens && good("distill.harvest.sampling") && good("distill.harvest.sampling.max_tokens"))
      refuse(section + ".cost", "found a budget without a longest answer, so that nothing can be reserved",
             "expected `distill.harvest.sampling.max_tokens`");
  }

  const Reading& reading_;
  const Recipe& r_;
  Issues& issues_;
};

}  // namespace

void check_harvest(const Reading& reading, Issues& issues) {
  HarvestChecks(reading, issues).run();
}

}  // namespace fourmi::recipe

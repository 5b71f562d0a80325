// Terms of the data, the policy on them, and the budget.
#include <algorithm>

#include "framework/recipe/license.h"
#include "framework/recipe/obligation.h"
#include "framework/recipe/policy.h"
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

class LedgerChecks {
 public:
  LedgerChecks(const Reading& reading, Issues& issues) : reading_(reading), r_(reading.recipe), issues_(issues) {}

  void run() {
    terms("data.train", r_.data.train);
    terms("data.validation", r_.data.validation);
    policy();
    teacher();
    budget();
    origin();
  }

 private:
  bool good(const std::string& key) const { return reading_.good(key); }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place(key), std::move(found), std::move(expected), std::move(remedy));
  }

  void terms(const std::string& list, const std::vector<DataSource>& sources) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const std::string element = fmt::format("{}[{}]", list, i);
      const DataSource& s = sources[i];
      if (reading_.given(element + ".license") && good(element + ".license")) {
        const LicenseProblem problem = check_license(s.license);
        if (!problem.found.empty()) {
          bad_terms_ = true;
          refuse(
              element + ".license",
              fmt::format("{} in the licence `{}` of the source `{}`", problem.found, shown(s.license), shown(s.name)),
              problem.expected, problem.remedy);
        }
      }
      const bool digest = s.sha256.size() == 64 && s.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
      if (!reading_.given(element + ".sha256") || !good(element + ".sha256")) continue;
      if (!digest)
        refuse(element + ".sha256", fmt::format("found `{}`", shown(s.sha256)),
               "expected 64 lower-case hexadecimal digits");
      else if (s.format == "synthetic")
        refuse(element + ".sha256", fmt::format("found a digest of the synthetic source `{}`", shown(s.name)),
               "expected none");
    }
  }

  void policy() {
    if (!good("ledger.policy.deny") || !good("ledger.policy.require")) return;
    for (const std::string& word : r_.ledger.deny) {
      const LicenseProblem problem = check_denied_word(word);
      if (!problem.found.empty())
        return refuse("ledger.policy.deny", problem.found + " in `ledger.policy.deny`", problem.expected,
                      problem.remedy);
    }
    if (bad_terms_ || !good("data.train")) return;
    for (std::size_t i = 0; i < r_.data.train.size(); ++i) {
      const std::string element = fmt::format("data.train[{}]", i);
      const DataSource& s = r_.data.train[i];
      const SourceTerms known{s.name, s.license, s.source, !s.sha256.empty() || may_be_harvested(s),
                              s.format == "synthetic"};
      if (const auto broken = breach(r_.ledger, known, may_have_side_file(s)))
        refuse(element, broken->found, broken->expected, broken->remedy);
    }
  }

  /// A mode that takes what was asked for earlier may leave the teacher to what was recorded then.
  void teacher() {
    const TeacherSection& t = r_.distill.teacher;
    if (r_.distill.mode.empty() || t == TeacherSection{}) return;
    for (const char* key : {"distill", "distill.mode", "distill.teacher", "distill.teacher.license",
                            "distill.teacher.terms", "ledger.policy.deny", "ledger.policy.require"})
      if (!good(key)) return;
    obligations(t.terms.obligations);
    const TeacherRecord record = record_of(t);
    for (const auto& broken : {forbidden(record), lacking(r_.ledger, record), denied(r_.ledger, record)})
      if (broken) return refuse(broken->key, broken->found, broken->expected, broken->remedy);
  }

  /// Those that bind are held against the run's own export here, and against every other one when it is made.
  void obligations(const std::vector<std::string>& all) {
    const std::string key = "distill.teacher.terms.obligations";
    std::vector<std::string> prefixes;
    for (const std::string& words : all) {
      const ObligationProblem problem = check_obligation(words);
      if (!problem.found.empty()) return refuse(key, problem.found, problem.expected, problem.remedy);
      const Obligation obligation = parse_obligation(words);
      if (obligation.kind == Obligation::Kind::name_prefix) prefixes.push_back(obligation.text);
    }
    const std::string name = export_name(r_.export_.path);
    if (name.empty() || r_.export_.when == ExportWhen::never || !good("export.path") || !good("export.when")) return;
    for (const std::string& prefix : prefixes)
      if (!name.starts_with(prefix)) {
        const std::string other = name_with(prefixes, name);
        return refuse("export.path",
                      fmt::format("found an export called `{}`, learned from the teacher `{}`", shown(name),
                                  shown(name_of(r_.distill.teacher))),
                      fmt::format("expected a name that begins with `{}`, as the obligation `name-prefix:{}` says",
                                  shown(prefix), shown(prefix)),
                      other.empty() ? "" : fmt::format("`{}` would do", shown(other)));
      }
  }

  void budget() {
    const BudgetSection& b = r_.budget;
    if (b.cost && !b.price_per_gpu_hour && good("budget.price_per_gpu_hour"))
      refuse("budget.cost", "found `budget.cost` without a price", "expected `budget.price_per_gpu_hour` beside it");
    const bool letters = b.currency.size() == 3 &&
                         std::all_of(b.currency.begin(), b.currency.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (reading_.given("budget.currency") && good("budget.currency") && !letters)
      refuse("budget.currency", fmt::format("found `{}`", shown(b.currency)),
             "expected three capital letters, such as EUR");
  }

  void origin() {
    if (!reading_.given("model.from") || !good("model.from") || !good("checkpoint.resume")) return;
    const std::string& resume = r_.checkpoint.resume;
    if (resume != "auto" && resume != "never")
      refuse("model.from",
             fmt::format("found `model.from` beside the branch point `checkpoint.resume: {}`", shown(resume)),
             "expected one of them", "model.from takes the weights only, checkpoint.resume: PATH everything");
  }

  const Reading& reading_;
  const Recipe& r_;
  Issues& issues_;
  bool bad_terms_ = false;
};

}  // namespace

void check_ledger(const Reading& reading, Issues& issues) {
  LedgerChecks(reading, issues).run();
}

}  // namespace fourmi::recipe

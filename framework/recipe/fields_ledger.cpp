// The keys of ledger and budget.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_ledger_fields(std::vector<Field>& table) {
  const auto section = [&](const char* path, const char* meaning, auto is_given) {
    Field field{.path = path, .type = Type::section, .meaning = meaning, .key_class = KeyClass::free};
    field.get = [is_given](const Recipe& r, std::size_t) { return is_given(r) ? Value(true) : Value{}; };
    table.push_back(std::move(field));
  };
  const auto has_policy = [](const Recipe& r) { return !r.ledger.require.empty() || !r.ledger.deny.empty(); };
  section("ledger", "What the run's ledger asks of its data and its teacher.", has_policy);
  section("ledger.policy", "Sources and teachers that break it are refused before the first step.", has_policy);
  table.push_back(
      bind({.path = "ledger.policy.require",
            .type = Type::words,
            .meaning = "What every source of `data.train` must bring: its licence, a digest that was fixed before "
                       "(`sha256`, or by `fourmi tokenize` or `fourmi teacher harvest`), where it comes from. Made-up "
                       "data need none. A teacher must "
                       "bring its licence, and for `terms` a saved copy of its terms with its address.",
            .key_class = KeyClass::free,
            .choices = {"license", "digest", "source", "terms"},
            .default_text = "[]"},
           FOURMI_AT(ledger.require)));
  table.push_back(bind(
      {.path = "ledger.policy.deny",
       .type = Type::words,
       .meaning = "Terms under which no source and no teacher may stand: SPDX identifiers, LicenseRef-NAME, or the "
                  "tags non-commercial, no-derivatives, share-alike, custom; no-distill: teachers of which "
                  "nothing says that their terms allow to learn from them.",
       .key_class = KeyClass::free,
       .default_text = "[]"},
      FOURMI_AT(ledger.deny)));

  const auto has_budget = [](const Recipe& r) {
    const BudgetSection& b = r.budget;
    return b.gpu_hours || b.cost || b.price_per_gpu_hour || !b.currency.empty();
  };
  section("budget", "What all launches of the run together may use up; then a checkpoint, and exit status 8.",
          has_budget);
  table.push_back(
      bind({.path = "budget.gpu_hours",
            .type = Type::number,
            .meaning = "Device hours: ranks x wall-clock hours of each launch, from its start to its end. A rank "
                       "on the CPU counts as a device.",
            .unit = "device hours",
            .key_class = KeyClass::free,
            .nullable = true,
            .least = 0,
            .most = 1e12,
            .above_least = true},
           FOURMI_AT(budget.gpu_hours)));
  table.push_back(bind({.path = "budget.cost",
                        .type = Type::number,
                        .meaning = "The same in money.",
                        .unit = "`currency`",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 0,
                        .most = 1e15,
                        .above_least = true},
                       FOURMI_AT(budget.cost)));
  table.push_back(bind({.path = "budget.price_per_gpu_hour",
                        .type = Type::number,
                        .meaning = "Price of one device hour; with it the log says what the run has cost.",
                        .unit = "`currency`",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 0,
                        .most = 1e9,
                        .above_least = true},
                       FOURMI_AT(budget.price_per_gpu_hour)));
  table.push_back(bind({.path = "budget.currency",
                        .type = Type::text,
                        .meaning = "Of cost and price: three capital letters, such as EUR (ISO 4217).",
                        .key_class = KeyClass::free,
                        .default_text = "none"},
                       FOURMI_AT(budget.currency)));
}

}  // namespace fourmi::recipe

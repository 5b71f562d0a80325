// The budget of a run (recipe section `budget`): what all its launches have used up, what that costs, and whether it is
// spent.
#pragma once

#include <optional>
#include <string>

#include "framework/recipe/recipe.h"
#include "framework/run/device_time.h"

namespace fourmi {

class Spending {
 public:
  Spending(const BudgetSection& budget, const DeviceTime& time) : budget_(&budget), time_(time) {}

  const DeviceTime& time() const { return time_; }

  double hours() const { return time_.hours(); }
  bool spent() const { return is_exceeded(*budget_, hours()); }
  /// "budget.cost: 10.2 of 10 EUR are spent" where it is spent; else empty.
  std::string exceeded() const {
    return is_exceeded(*budget_, hours()) ? exceeded_text(*budget_, hours()) : std::string();
  }

  /// "1.52 of 10 EUR", "0.31 of 4 device hours"; empty without a budget.
  std::string text() const { return text_of(*budget_, hours()); }

  /// In budget.currency; nothing without a price.
  static std::optional<double> cost_of(const BudgetSection& budget, double hours);
  static std::string text_of(const BudgetSection& budget, double hours);
  /// Allocates nothing: asked after every step.
  static bool is_exceeded(const BudgetSection& budget, double hours);
  static std::string exceeded_text(const BudgetSection& budget, double hours);

 private:
  const BudgetSection* budget_;
  DeviceTime time_;
};

}  // namespace fourmi

#include "framework/train/spending.h"

#include <fmt/format.h>

namespace fourmi {

namespace {

std::string unit_of(const BudgetSection& b) {
  return b.currency.empty() ? std::string("units of money") : b.currency;
}

}  // namespace

std::optional<double> Spending::cost_of(const BudgetSection& b, double hours) {
  if (!b.price_per_gpu_hour) return std::nullopt;
  return hours * *b.price_per_gpu_hour;
}

std::string Spending::text_of(const BudgetSection& b, double hours) {
  if (const std::optional<double> cost = cost_of(b, hours)) {
    if (b.cost) return fmt::format("{:.3g} of {:g} {}", *cost, *b.cost, unit_of(b));
    if (!b.gpu_hours) return fmt::format("{:.3g} {}", *cost, unit_of(b));
    return fmt::format("{:.3g} {}, {:.3g} of {:g} device hours", *cost, unit_of(b), hours, *b.gpu_hours);
  }
  return b.gpu_hours ? fmt::format("{:.3g} of {:g} device hours", hours, *b.gpu_hours) : std::string();
}

bool Spending::is_exceeded(const BudgetSection& b, double hours) {
  const std::optional<double> cost = cost_of(b, hours);
  return (b.cost && cost && *cost >= *b.cost) || (b.gpu_hours && hours >= *b.gpu_hours);
}

std::string Spending::exceeded_text(const BudgetSection& b, double hours) {
  const std::optional<double> cost = cost_of(b, hours);
  if (b.cost && cost && *cost >= *b.cost)
    return fmt::format("budget.cost: {:.3g} of {:g} {} are spent", *cost, *b.cost, unit_of(b));
  return fmt::format("budget.gpu_hours: {:.3g} of {:g} device hours are spent", hours, b.gpu_hours.value_or(0));
}

}  // namespace fourmi

#include "framework/train/spike.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/numerics/math.h"

namespace fourmi {

namespace {

constexpr std::int64_t num_near = 16;    // good steps that say where the figure is now: it may fall fast
constexpr double sigma_of_mad = 1.4826;  // of a normal distribution
constexpr double least_log_norm_unit = 0.1, least_loss_unit = 0.02;

/// The middle value; of an even number, the upper of the two. Reorders `x`, which is not empty.
double median(std::vector<double>& x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

std::span<const double> last(std::span<const double> history, std::int64_t n) {
  return history.last(static_cast<std::size_t>(std::min<std::int64_t>(n, std::ssize(history))));
}

double median_of(std::span<const double> history, std::vector<double>& scratch) {
  scratch.assign(history.begin(), history.end());
  return median(scratch);
}

double mad_of(std::span<const double> history, std::vector<double>& scratch) {
  const double middle = median_of(history, scratch);
  for (double& x : scratch) x = std::abs(x - middle);
  return median(scratch);
}

/// A norm of 0 has a logarithm too: of a number that no norm of a run comes near to.
double log_norm(double grad_norm) {
  return log(std::max(grad_norm, 1e-300));
}

void add(std::vector<double>& history, std::int64_t window, double value) {
  const auto most = static_cast<std::size_t>(window);
  history.reserve(most);
  while (history.size() >= most) history.erase(history.begin());
  history.push_back(value);
}

}  // namespace

SpikeFinding find_spike(const SpikeHistory& h, const SpikeRule& rule, double grad_norm, double loss,
                        std::vector<double>& scratch) {
  if (h.num_good < rule.window / 2 || h.log_norms.empty()) return {};
  const std::int64_t spread = std::min(rule.window, h.num_good / 2);
  scratch.reserve(static_cast<std::size_t>(rule.window));
  const auto finding = [&](const char* what, double value, double shown_value, std::span<const double> history,
                           double least_unit) {
    const double near = median_of(last(history, num_near), scratch);
    const double unit = sigma_of_mad * mad_of(last(history, spread), scratch);
    const double z = (value - near) / std::max(unit, least_unit);
    return SpikeFinding{z > rule.z, what, shown_value, near, z};
  };
  SpikeFinding of_norm = finding("gradient norm", log_norm(grad_norm), grad_norm, h.log_norms, least_log_norm_unit);
  of_norm.median = exp(of_norm.median);
  const double least_loss = least_loss_unit * std::abs(median_of(last(h.losses, num_near), scratch));
  const SpikeFinding of_loss = finding("loss", loss, loss, h.losses, least_loss);
  return of_loss.z > of_norm.z ? of_loss : of_norm;
}

void add_good_step(SpikeHistory& h, const SpikeRule& rule, double grad_norm, double loss) {
  add(h.log_norms, rule.window, log_norm(grad_norm));
  add(h.losses, rule.window, loss);
  ++h.num_good;
  h.in_a_row = 0;
}

std::string to_string(const SpikeFinding& f, const SpikeRule& rule) {
  return fmt::format(
      "a spike: {} {:.4g} is {:.1f} robust standard deviations above the {:.4g} of the last good steps, expected at "
      "most {:g}",
      f.what, f.value, f.z, f.median, rule.z);
}

}  // namespace fourmi

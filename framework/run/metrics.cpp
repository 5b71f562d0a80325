#include "framework/run/metrics.h"

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

/// fmt's shortest form parses back to the same bits; JSON has no words for what is not finite.
std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

std::string bits(double value) {
  return fmt::format("{:016x}", std::bit_cast<std::uint64_t>(value));
}

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string to_json_line(const StepMetrics& m) {
  std::string line = fmt::format(
      R"({{"step":{},"tokens":{},"loss":{},"loss_bits":"{}","grad_norm":{},"grad_norm_bits":"{}","learning_rate":{},)"
      R"("step_seconds":{},"tokens_per_second":{},"mfu":{},"speed_of_light":{},"expert_load_max_over_mean":{})",
      m.step, m.tokens, number(m.loss), bits(m.loss), number(m.grad_norm), bits(m.grad_norm), number(m.learning_rate),
      number(m.step_seconds), number(m.tokens_per_second), number(m.mfu), number(m.speed_of_light),
      number(m.expert_load_max_over_mean));
  if (m.loss_mtp) line += fmt::format(R"(,"loss_mtp":{})", number(*m.loss_mtp));
  if (m.loss_balance) line += fmt::format(R"(,"loss_balance":{})", number(*m.loss_balance));
  for (const auto& [key, value] : m.more) line += fmt::format(",{}:{}", quoted(key), number(value));
  return line + fmt::format(R"(,"launch":{}}})", m.launch);
}

void MetricsLog::append(const StepMetrics& metrics) {
  FOURMI_CHECK(metrics.step == last_step_ + 1, "metrics of step {} after step {}", metrics.step, last_step_);
  last_step_ = metrics.step;
  log_.append(to_json_line(metrics));
}

std::string to_json_line(const Evaluation& e) {
  std::string line = fmt::format(R"({{"step":{},"tokens":{})", e.step, e.tokens);
  if (!e.source.empty()) line += fmt::format(R"(,"source":{})", quoted(e.source));
  for (const auto& [key, value] : e.figures) line += fmt::format(",{}:{}", quoted(key), number(value));
  return line + fmt::format(R"(,"launch":{}}})", e.launch);
}

}  // namespace fourmi

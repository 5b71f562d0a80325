#include "framework/train/evaluate.h"

#include <algorithm>

#include "framework/train/batch_tensors.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

double EvaluationResult::perplexity() const {
  return fourmi::exp(loss);
}

EvaluationResult evaluate(Model& model, const Stream& stream, const Context& options, const Validation& validation,
                          Group& group, std::int64_t num_windows, std::int64_t sequences_per_batch) {
  const std::vector<std::int64_t> windows = validation.spread(num_windows);
  if (windows.empty())
    throw Error(ExitStatus::usage, "data.validation", "no held-out data, expected some to evaluate on",
                "Set data.validation, e.g. {holdout: 0.02}");
  // Rank r evaluates the r-th part; all make the same number of batches, the last ones filled with padding.
  const std::int64_t total = static_cast<std::int64_t>(windows.size());
  const std::int64_t share = (total + group.size() - 1) / group.size();
  const std::int64_t begin = std::min(total, share * group.rank()), end = std::min(total, begin + share);
  int128 sums[2] = {0, 0};
  std::int64_t counts[2] = {0, 0};
  for (std::int64_t at = 0; at < share; at += sequences_per_batch) {
    std::vector<std::int64_t> chosen(static_cast<std::size_t>(sequences_per_batch), -1);
    for (std::int64_t i = 0; i < sequences_per_batch && begin + at + i < end; ++i)
      chosen[static_cast<std::size_t>(i)] = windows[static_cast<std::size_t>(begin + at + i)];
    BatchRows rows(validation.batch(chosen));
    const BatchLosses& losses = model.forward(stream, rows.tensors(), options);
    sums[0] += sum_fixed(stream, losses.loss_M);
    counts[0] += std::count_if(rows.batch().targets.begin(), rows.batch().targets.end(), [](auto t) { return t >= 0; });
    if (!losses.loss_mtp_M) continue;
    sums[1] += sum_fixed(stream, losses.loss_mtp_M);
    counts[1] +=
        std::count_if(rows.batch().mtp_targets.begin(), rows.batch().mtp_targets.end(), [](auto t) { return t >= 0; });
  }
  group.all_sum(std::span(sums));
  group.all_sum(std::span(counts));

  EvaluationResult r;
  r.tokens = counts[0];
  r.loss = from_fixed(sums[0]) / static_cast<double>(std::max<std::int64_t>(1, counts[0]));
  r.loss_mtp = from_fixed(sums[1]) / static_cast<double>(std::max<std::int64_t>(1, counts[1]));
  if (validation.num_bytes() > 0)
    r.bits_per_byte = r.loss / 0.693147180559945309 * static_cast<double>(validation.num_targets()) /
                      static_cast<double>(validation.num_bytes());
  return r;
}

}  // namespace fourmi

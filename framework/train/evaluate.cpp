#include "framework/train/evaluate.h"

#include <algorithm>

#include "kernels/numerics/math.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

double EvaluationResult::perplexity() const {
  return fourmi::exp(loss);
}

namespace {

/// Some of the windows, batch by batch; the last ones are filled with padding.
class Windows : public MicroBatches {
 public:
  Windows(const Stream& stream, const Validation& validation, std::span<const std::int64_t> windows,
          std::int64_t sequences)
      : stream_(stream), validation_(validation), windows_(windows), chosen_(static_cast<std::size_t>(sequences)) {}
  void fill(int index, Batch& batch) override {
    for (std::size_t i = 0; i < chosen_.size(); ++i) {
      const std::size_t at = static_cast<std::size_t>(index) * chosen_.size() + i;
      chosen_[i] = at < windows_.size() ? windows_[at] : -1;
    }
    batch = validation_.batch(chosen_);
  }
  void take(const BatchLosses& losses, const BatchTensors& rows) override {
    const auto add = [&](int of, const Tensor& loss, const Tensor& targets_M) {
      if (!loss) return;
      sums[of] += sum_fixed(stream_, loss);
      const auto* target = targets_M.as<std::int32_t>();
      counts[of] += std::count_if(target, target + targets_M.num_elements(), [](auto t) { return t >= 0; });
    };
    add(0, losses.loss_M, rows.targets_M);
    add(1, losses.loss_mtp_M, rows.mtp_targets_M);
  }
  int128 sums[2] = {0, 0};
  std::int64_t counts[2] = {0, 0};

 private:
  const Stream& stream_;
  const Validation& validation_;
  std::span<const std::int64_t> windows_;
  std::vector<std::int64_t> chosen_;
};

}  // namespace

EvaluationResult evaluate(const ForwardPass& forward, const Stream& stream, const Validation& validation, Part part,
                          Group& all, std::int64_t num_windows, std::int64_t sequences_per_batch) {
  const std::vector<std::int64_t> windows = validation.spread(num_windows);
  if (windows.empty())
    throw Error(ExitStatus::usage, "data.validation", "no held-out data, expected some to evaluate on",
                "Set data.validation, e.g. {holdout: 0.02}");
  // All parts make the same number of batches.
  const std::int64_t total = std::ssize(windows), share = (total + part.size - 1) / part.size;
  const std::int64_t begin = std::min(total, share * part.rank), end = std::min(total, begin + share);
  const std::span mine =
      std::span(windows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  Windows work(stream, validation, mine, sequences_per_batch);
  forward(static_cast<int>((share + sequences_per_batch - 1) / sequences_per_batch), work);
  if (!part.counts) {
    std::fill(std::begin(work.sums), std::end(work.sums), int128{0});
    std::fill(std::begin(work.counts), std::end(work.counts), 0);
  }
  all.all_sum(std::span(work.sums));
  all.all_sum(std::span(work.counts));

  EvaluationResult r;
  r.tokens = work.counts[0];
  r.loss = from_fixed(work.sums[0]) / static_cast<double>(std::max<std::int64_t>(1, work.counts[0]));
  r.loss_mtp = from_fixed(work.sums[1]) / static_cast<double>(std::max<std::int64_t>(1, work.counts[1]));
  if (validation.num_bytes() > 0)
    r.bits_per_byte = r.loss / 0.693147180559945309 * static_cast<double>(validation.num_targets()) /
                      static_cast<double>(validation.num_bytes());
  return r;
}

}  // namespace fourmi

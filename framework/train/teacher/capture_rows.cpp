#include "framework/train/teacher/capture_rows.h"

#include <algorithm>

#include "framework/capture/select.h"
#include "framework/model/holding.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/divergence.h"
#include "kernels/runtime/visit.h"

namespace fourmi {

namespace {
constexpr std::int64_t most_captured_logits = std::int64_t{1} << 22;
}

CaptureRows::CaptureRows(const Recipe& placed, const TeacherHead& head, const CacheFormat& format, Arena& arena)
    : head_(head),
      format_(format),
      temperature_(placed.distill.temperature),
      sequence_length_(placed.data.sequence_length) {
  const std::int64_t V = head.num_columns(),
                     chunk = std::clamp<std::int64_t>(most_captured_logits / V, 1, sequence_length_);
  const DType acc = head.store().types().accumulate;
  logits_CV_ = arena.allocate({chunk, V}, acc, "the teacher's logits");
  max_C_ = arena.allocate({chunk}, acc, "of a row"), sum_C_ = arena.allocate({chunk}, acc, "of a row");
}

void CaptureRows::take(const Stream& stream, std::int64_t index, std::int64_t rows, std::uint64_t seed,
                       const std::string& name, std::int64_t first_token, std::uint32_t* entries, float* rest) {
  const Tensor hidden = head_.rows(static_cast<int>(index), sequence_length_);
  const RandomKey key = random_key(seed, "capture", name);
  const std::int64_t chunk = logits_CV_.dim(0), V = logits_CV_.dim(1), K = format_.entries;
  for (std::int64_t begin = 0; begin < rows; begin += chunk) {
    const std::int64_t n = std::min(chunk, rows - begin);
    const Tensor logits = logits_CV_.rows(0, n), max = max_C_.rows(0, n), sum = sum_C_.rows(0, n);
    head_.logits(stream, hidden.rows(begin, begin + n), logits);
    mask_padding(stream, 0, format_.vocab_size, logits);
    softmax_max(stream, logits, max);
    tempered_sum(stream, temperature_, logits, max, sum);
    visit_accumulator(logits.dtype, "capture", [&]<class T>(std::type_identity<T>) {
      stream.pool().parallel_for(n, 8, [&](std::int64_t first, std::int64_t last) {
        TokenSelection selection(format_);
        for (std::int64_t i = first; i < last; ++i) {
          const TeacherRow<T> row{
              std::span(logits.as<T>() + i * V, static_cast<std::size_t>(std::min(V, format_.vocab_size))),
              max.as<T>()[i], sum.as<T>()[i], temperature_};
          rest[begin + i] =
              selection.take(row, key, static_cast<std::uint64_t>(first_token + begin + i), entries + (begin + i) * K);
        }
      });
    });
  }
}

}  // namespace fourmi

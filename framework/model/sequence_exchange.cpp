#include "framework/model/sequence_exchange.h"

#include "kernels/ops/tree_sum.h"

namespace fourmi {

namespace {

constexpr std::int64_t most_at_once = 2;  // gathers or sums under way

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

/// Of one sequence.
Tensor rows_of(const Tensor& all, std::int64_t sequence, std::int64_t num_sequences) {
  const std::int64_t rows = all.dim(0) / num_sequences;
  return all.rows(sequence * rows, (sequence + 1) * rows);
}

}  // namespace

SequenceExchange::SequenceExchange(Group* group, std::int64_t num_sequences)
    : group_(group), num_sequences_(num_sequences), requests_(static_cast<std::size_t>(most_at_once * num_sequences)) {}

Request& SequenceExchange::next() {
  return requests_.at(num_requests_++);
}

void SequenceExchange::gather(const Tensor& mine_M, const Tensor& all_N) {
  for (std::int64_t s = 0; s < num_sequences_; ++s)
    next() =
        group_->start_all_gather(bytes(rows_of(mine_M, s, num_sequences_)), bytes(rows_of(all_N, s, num_sequences_)));
}

void SequenceExchange::sum(const Tensor& partial_N, const Tensor& received_N, const Tensor& y_M) {
  const auto counts = group_->counts(0);
  for (std::size_t& n : counts) n = static_cast<std::size_t>(partial_N.bytes() / num_sequences_ / size());
  for (std::int64_t s = 0; s < num_sequences_; ++s)
    next() = group_->start_all_to_all(bytes(rows_of(partial_N, s, num_sequences_)), counts,
                                      bytes(rows_of(received_N, s, num_sequences_)), counts);
  sums_.at(num_sums_++) = {received_N, y_M};
}

void SequenceExchange::finish(const Stream& stream) {
  {
    const Span span(stream.timeline(), Work::exchange, "wait_for_sequence");
    for (std::size_t i = 0; i < num_requests_; ++i) requests_[i].wait();
  }
  for (std::size_t i = 0; i < num_sums_; ++i)
    for (std::int64_t s = 0; s < num_sequences_; ++s) {
      const Tensor y = rows_of(sums_[i].y_M, s, num_sequences_),
                   parts = rows_of(sums_[i].received_N, s, num_sequences_);
      tree_sum(stream, parts.view({size(), y.num_elements()}), y.view({y.num_elements()}));
    }
  num_requests_ = num_sums_ = 0;
}

}  // namespace fourmi

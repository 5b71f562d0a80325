#include "framework/model/row_exchange.h"

#include "kernels/ops/tree_sum.h"

namespace fourmi {

namespace {

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

Tensor part_of(const Tensor& flat, std::int64_t first, const Shape& shape) {
  return flat.rows(first, first + shape.num_elements()).view(shape);
}

}  // namespace

RowExchange::RowExchange(Group& group, std::int64_t rows, std::int64_t columns, DType accumulate, Arena& arena)
    : group_(&group) {
  if (size() == 1) return;
  partials_ = arena.allocate({rows * columns}, accumulate, "partial sums");
  received_ = arena.allocate({rows * columns}, accumulate, "partial sums received");
}

Tensor RowExchange::Moves::gather(const Tensor& mine_mD, const Tensor& all_MD) {
  if (alone()) return mine_mD;
  const Span span(stream_->timeline(), Work::exchange, "gather_rows");
  requests_.at(count_) = rows_->group_->start_all_gather(bytes(mine_mD), bytes(all_MD));
  sums_[count_++] = {};
  return all_MD;
}

Tensor RowExchange::Moves::partial(const Tensor& y_mD) {
  if (alone()) return y_mD;
  Shape all = y_mD.shape;
  all.dims[0] *= rows_->size();
  const Tensor partial = part_of(rows_->partials_, used_, all);
  used_ += all.num_elements();
  return partial;
}

void RowExchange::Moves::sum(const Tensor& partial_MD, const Tensor& y_mD, const Tensor& residual_mD) {
  if (alone()) return;
  const Span span(stream_->timeline(), Work::exchange, "sum_rows");
  Group& group = *rows_->group_;
  const auto* first = static_cast<const std::byte*>(rows_->partials_.data);
  const std::int64_t at = (static_cast<const std::byte*>(partial_MD.data) - first) / size_of(partial_MD.dtype);
  const Tensor received = part_of(rows_->received_, at, {rows_->size(), y_mD.num_elements()});
  const auto counts = group.counts(0);
  for (std::size_t& n : counts) n = static_cast<std::size_t>(received.bytes() / rows_->size());
  requests_.at(count_) = group.start_all_to_all(bytes(partial_MD), counts, bytes(received), counts);
  sums_[count_++] = {received, y_mD, residual_mD};
}

void RowExchange::Moves::finish() {
  for (std::size_t i = 0; i < count_; ++i) {
    {
      const Span span(stream_->timeline(), Work::exchange, "wait_for_rows");
      requests_[i].wait();
    }
    const Sum& s = sums_[i];
    if (!s.y_mD) continue;
    const Shape flat{s.y_mD.num_elements()};
    tree_sum(*stream_, s.received_PmD, s.y_mD.view(flat), s.residual_mD ? s.residual_mD.view(flat) : Tensor{});
  }
  count_ = 0;
  used_ = 0;
}

}  // namespace fourmi

#include "framework/model/row_exchange.h"

#include <bit>

#include "kernels/ops/tree_sum.h"

namespace fourmi {

namespace {

constexpr std::size_t max_parts = 32;  // 4 partials of 8 ranks

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

Tensor part_of(const Tensor& flat, std::int64_t first, const Shape& shape) {
  return flat.rows(first, first + shape.num_elements()).view(shape);
}

}  // namespace

RowExchange::RowExchange(Group* group, int size, std::int64_t rows, std::int64_t columns, std::int64_t part_columns,
                         DType activation, DType accumulate, Arena& arena)
    : group_(group), size_(size) {
  if (size > 1 || part_columns > 0) partials_ = arena.allocate({rows * columns}, accumulate, "partial sums");
  if (size > 1) received_ = arena.allocate({rows * columns}, accumulate, "partial sums received");
  if (part_columns > 0) part_ = arena.allocate({rows * part_columns}, activation, "columns of wider rows");
}

Tensor RowExchange::Moves::gather(const Tensor& mine_mD, const Tensor& all_MD) {
  if (alone()) return mine_mD;
  const Span span(stream_->timeline(), Work::exchange, "gather_rows");
  requests_.at(count_) = rows_->group_->start_all_gather(bytes(mine_mD), bytes(all_MD));
  sums_[count_++] = {};
  return all_MD;
}

Tensor RowExchange::Moves::partial(const Tensor& y_mD) {
  return alone() ? y_mD : partial_of_several(y_mD);
}

Tensor RowExchange::Moves::partial_of_several(const Tensor& y_mD) {
  Shape all = y_mD.shape;
  all.dims[0] *= rows_->size();
  const Tensor partial = part_of(rows_->partials_, used_, all);
  used_ += all.num_elements();
  return partial;
}

/// Others' rows lie without a gap: what is sent is one piece, and the own rows are not in it.
RowExchange::Split RowExchange::Moves::partial_split(const Tensor& y_mD) {
  const std::int64_t m = y_mD.dim(0), before = rows_->rank() * m, others = (rows_->size() - 1) * m;
  const Tensor all = partial_of_several(y_mD);
  return {all.rows(0, before), all.rows(others, others + m), all.rows(before, others)};
}

void RowExchange::Moves::sum_of_others(const Split& partial, const Tensor& y_mD, const Tensor& residual_mD) {
  const Span span(stream_->timeline(), Work::exchange, "sum_rows");
  Group& group = *rows_->group_;
  const std::int64_t n = y_mD.num_elements(), others = rows_->size() - 1;
  const auto* begin = static_cast<const std::byte*>(rows_->partials_.data);
  const std::int64_t at =
      (static_cast<const std::byte*>(partial.own.data) - begin) / size_of(rows_->partials_.dtype) - others * n;
  const Shape shape{others, n};
  const Tensor sent = part_of(rows_->partials_, at, shape), received = part_of(rows_->received_, at, shape);
  const auto counts = group.counts(0);
  for (std::size_t& c : counts) c = static_cast<std::size_t>(partial.own.bytes());
  counts[static_cast<std::size_t>(rows_->rank())] = 0;
  requests_.at(count_) = group.start_all_to_all(bytes(sent), counts, bytes(received), counts);
  sums_[count_++] = {received, y_mD, residual_mD, partial.own};
}

/// Starts the exchange of one partial's rows.
void RowExchange::Moves::start_sum(const Tensor& partial_MD, const Tensor& received_PmD) {
  const Span span(stream_->timeline(), Work::exchange, "sum_rows");
  Group& group = *rows_->group_;
  const auto counts = group.counts(0);
  for (std::size_t& n : counts) n = static_cast<std::size_t>(partial_MD.bytes() / rows_->size());
  requests_.at(count_) = group.start_all_to_all(bytes(partial_MD), counts, bytes(received_PmD), counts);
  sums_[count_++] = {};
}

void RowExchange::Moves::sum(const Tensor& partial_MD, const Tensor& y_mD, const Tensor& residual_mD) {
  if (alone()) return;
  sum(std::span(&partial_MD, 1), y_mD);
  sums_[count_ - 1].residual_mD = residual_mD;
}

void RowExchange::Moves::sum(std::span<const Tensor> partials_MD, const Tensor& y_mD) {
  const auto num = static_cast<std::int64_t>(partials_MD.size()), n = partials_MD.front().num_elements();
  const auto* begin = static_cast<const std::byte*>(rows_->partials_.data);
  const auto* first = static_cast<const std::byte*>(partials_MD.front().data);
  const std::int64_t at = (first - begin) / size_of(rows_->partials_.dtype);
  Tensor all = alone() ? rows_->partials_ : rows_->received_;
  all = part_of(all, at, {num * rows_->size(), n / rows_->size()});
  for (std::int64_t i = 0; i < num && !alone(); ++i)
    start_sum(partials_MD[static_cast<std::size_t>(i)], all.rows(i * rows_->size(), (i + 1) * rows_->size()));
  if (alone()) sums_.at(count_++) = {};
  sums_[count_ - 1] = {all, y_mD, {}, {}};  // when the last one has come
}

void RowExchange::Moves::finish(const Meanwhile& meanwhile) {
  meanwhile();
  for (std::size_t i = 0; i < count_; ++i) {
    {
      const Span span(stream_->timeline(), Work::exchange, "wait_for_rows");
      requests_[i].wait();
    }
    const Sum& s = sums_[i];
    if (!s.y_mD) continue;
    const Shape flat{s.y_mD.num_elements()};
    std::array<Tensor, max_parts> parts;  // those that are absent fill up the tree
    std::int64_t num = 0;
    for (std::int64_t received = 0; received <= s.received_PmD.dim(0); ++received) {
      if (s.own_mD && received == rows_->rank()) parts[static_cast<std::size_t>(num++)] = s.own_mD.view(flat);
      if (received < s.received_PmD.dim(0))
        parts[static_cast<std::size_t>(num++)] = s.received_PmD.rows(received, received + 1).view(flat);
    }
    tree_sum(*stream_, std::span(parts).first(std::bit_ceil(static_cast<std::size_t>(num))), s.y_mD.view(flat),
             s.residual_mD ? s.residual_mD.view(flat) : Tensor{});
  }
  count_ = 0;
  used_ = 0;
}

}  // namespace fourmi

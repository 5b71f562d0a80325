// Rows of FP8 elements travel with their scales, and cost the wire what they take in memory.
#include "tests/dispatch/member.h"

namespace fourmi::testing {
namespace {

/// A row of token t of a rank: any bytes, none of which the dispatcher may look at.
std::vector<std::byte> row_of(const Layer& l, int rank, std::int64_t t, std::int64_t bytes) {
  std::vector<std::byte> row;
  for (std::int64_t i = 0; i < bytes; ++i) row.push_back(static_cast<std::byte>(l.bits(rank, t, i, 77)));
  return row;
}

/// bytes_across of one dispatch on all ranks.
std::int64_t send(const Layer& l, const Way& way, DType dtype) {
  const std::int64_t row_bytes = bytes_of(dtype, {l.D});
  const auto sent = run_members(static_cast<int>(l.tokens.size()), [&](Group& group) {
    ThreadPool pool(1);
    const Stream stream(pool);
    const int rank = group.rank();
    const OwnDispatcher d(way, group, options_of<float>(l, way));
    Poisoned memory;
    DispatchPlan plan = d->make_plan();
    plan.fields(d->sizes(), memory.visitor());
    DispatchBuffers buffers;
    buffers.fields(d->sizes(), memory.visitor());
    Arrivals arrivals;
    arrivals.fields(d->sizes(), l.D, dtype, DType::f32, memory.visitor());
    const std::int64_t M = l.tokens[static_cast<std::size_t>(rank)];
    std::vector<std::byte> x;
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < M; ++t) {
      for (const std::byte b : row_of(l, rank, t, row_bytes)) x.push_back(b);
      for (const std::int32_t e : l.experts(rank, t)) ids.push_back(e);
    }
    Rows<float> weights = make_rows<float>(l, rank, l.K, of_weights);
    d->plan(stream, Tensor(ids.data(), DType::i32, {M, l.K}), plan, buffers);
    const Arrivals got =
        d->dispatch(stream, plan, 0, Tensor(x.data(), dtype, {M, l.D}), weights.tensor(), arrivals, buffers);
    std::int64_t u = 0;
    for (std::size_t source = 0; source < l.tokens.size(); ++source)
      for (std::int64_t t = 0; t < l.tokens[source]; ++t) {
        const auto experts = l.experts(static_cast<int>(source), t);
        const auto here = [&](std::int32_t e) { return e / d->num_local() == rank; };
        if (std::none_of(experts.begin(), experts.end(), here)) continue;
        if (u >= got.x_UD.dim(0)) return std::int64_t{-1};
        const auto want = row_of(l, static_cast<int>(source), t, row_bytes);
        EXPECT_EQ(0, std::memcmp(got.x_UD.rows(u, u + 1).data, want.data(), want.size())) << "row " << u;
        ++u;
      }
    EXPECT_EQ(u, got.x_UD.dim(0));
    return d->traffic().bytes_across;
  });
  std::int64_t sum = 0;
  for (const std::int64_t bytes : sent) sum += bytes;
  return sum;
}

TEST(DispatchScaledRows, ArriveWholeAndCountedWithTheirScales) {
  Layer l{.D = 2048, .tokens = {9, 14, 0, 11}};
  for (const Way& way : {Way{DispatchMethod::all_to_all}, Way{DispatchMethod::hierarchical, 2},
                         Way{DispatchMethod::device}, Way{DispatchMethod::rail, 2}}) {
    const auto bf16 = static_cast<double>(send(l, way, DType::bf16));
    const auto rows = static_cast<double>(send(l, way, DType::e4m3_rows));
    const auto mx = static_cast<double>(send(l, way, DType::mxe4m3_rows));
    EXPECT_EQ(rows / bf16, (2048 + 16 * 4) / 4096.0);  // 0.516
    EXPECT_EQ(mx / bf16, (2048 + 64) / 4096.0);
  }
  l.D = 100;  // padding travels too
  for (const DispatchMethod method : {DispatchMethod::all_to_all, DispatchMethod::device})
    send(l, {method}, DType::e4m3_rows);
}

}  // namespace
}  // namespace fourmi::testing

// Rows that kernels of ranks move through one another's windows on one card: the ranks are threads, each with a stream
// of its own. What arrives is what the order says, to the byte, sums are sum_copies() of the CPU, and who stops is
// named.
#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "tests/device/card.h"
#include "tests/device/exchange_case.h"

namespace fourmi::testing {
namespace {

using exchange::CardExchange;
using exchange::CardRoute;

/// Device memory as long as the test.
class OnCard {
 public:
  OnCard() = default;
  ~OnCard() {
    for (void* p : held_) test::card().release(p);
  }
  OnCard(const OnCard&) = delete;
  OnCard& operator=(const OnCard&) = delete;
  std::byte* zeros(std::int64_t bytes) {
    held_.push_back(test::card().allocate(std::max<std::int64_t>(bytes, 1), "a test"));
    return static_cast<std::byte*>(held_.back());
  }
  std::byte* of(const Bytes& bytes) {
    std::byte* const p = zeros(static_cast<std::int64_t>(bytes.size()));
    if (!bytes.empty()) test::card().write(p, bytes.data(), static_cast<std::int64_t>(bytes.size()));
    return p;
  }
  Tensor tensor(std::byte* p, DType dtype, const Shape& shape) {
    Tensor t(p, dtype, shape);
    t.device = Device::cuda;
    return t;
  }
  CardRoute route(const ExchangeCase& c) {
    const std::int64_t n = c.num_ranks() * std::int64_t{c.num_channels};
    const auto table = [&](std::int64_t size) { return tensor(zeros(4 * size), DType::i32, {size}); };
    return {table(n), table(n), table(n + 1)};
  }

 private:
  std::vector<void*> held_;
};
/// Bytes to the host by one stream alone: while ranks' kernels wait for one another nobody may wait for the whole card.
class Reader {
 public:
  Reader(DeviceStream& stream, std::int64_t most)
      : stream_(stream), staging_(test::card().allocate_host(std::max<std::int64_t>(most, 1), "a test")), most_(most) {}
  ~Reader() { test::card().release_host(staging_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  Bytes operator()(const void* p, std::int64_t bytes) const {
    FOURMI_CHECK(bytes <= most_, "{} bytes of {}", bytes, most_);
    if (bytes == 0) return {};
    stream_.read(staging_, p, bytes);
    const auto* const first = static_cast<const std::byte*>(staging_);
    return {first, first + bytes};
  }

 private:
  DeviceStream& stream_;
  void* staging_;
  std::int64_t most_;
};

/// All calls of one rank, twice over: rings go on where they ended.
Exchanged on_rank(const ExchangeCase& c, int rank, std::vector<std::byte*>& bases, std::barrier<>& together) {
  const std::unique_ptr<DeviceStream> stream = test::card().make_stream();
  OnCard memory;
  const exchange::Window window = window_of(c);
  const std::int64_t M = c.tokens(rank), D = c.layer.D, most = c.layer.most_tokens() * c.num_ranks();
  bases[static_cast<std::size_t>(rank)] = memory.zeros(window.bytes());
  Bytes ids;
  for (std::int64_t t = 0; t < M; ++t)
    for (const std::int32_t e : c.layer.experts(rank, t)) {
      const auto* p = reinterpret_cast<const std::byte*>(&e);
      ids.insert(ids.end(), p, p + 4);
    }
  exchange::Tokens tokens{.rows = memory.of(bytes_of(c, rank, M, c.row_bytes, of_rows)),
                          .row_bytes = c.row_bytes,
                          .experts_MK = reinterpret_cast<const std::int32_t*>(memory.of(ids)),
                          .weights_MK = memory.of(bytes_of(c, rank, M, c.layer.K * size_of(c.weights), of_own_weights)),
                          .weight_bytes = size_of(c.weights),
                          .num_choices = static_cast<int>(c.layer.K),
                          .experts_each = c.experts_each(),
                          .num_ranks = c.num_ranks(),
                          .record_at = window.sizes().dispatch.slot_bytes - (c.record_bytes() + 15) / 16 * 16};
  exchange::Tokens gradients = tokens;
  gradients.rows = memory.of(bytes_of(c, rank, M, c.row_bytes, of_gradients));
  gradients.weights_MK = nullptr;
  const exchange::ArrivingRows into{.rows = memory.zeros(most * c.row_bytes),
                                    .row_bytes = c.row_bytes,
                                    .capacity = c.capacity < 0 ? most : c.capacity,
                                    .records = memory.zeros(most * c.record_bytes()),
                                    .record_bytes = c.record_bytes(),
                                    .record_at = tokens.record_at};
  const exchange::ArrivingRows other{
      .rows = memory.zeros(most * c.row_bytes), .row_bytes = c.row_bytes, .capacity = most};
  const Tensor y = memory.tensor(memory.zeros(M * D * size_of(c.rows)), c.rows, {M, D}),
               residual = memory.tensor(memory.of(numbers_of(c, rank, M, c.rows, of_residuals)), c.rows, {M, D});
  std::vector<CardRoute> routes;
  std::vector<Tensor> partial;
  for (int q = 0; q < c.num_rounds; ++q) {
    std::int64_t arriving = 0;
    for (int r = 0; r < c.num_ranks(); ++r) arriving += static_cast<std::int64_t>(c.tokens_to(r, rank, q).size());
    routes.push_back(memory.route(c));
    partial.push_back(memory.tensor(memory.of(partial_of(c, rank, q, arriving)), c.copies(), {arriving, D}));
  }
  const Reader back(*stream, std::max({most * c.row_bytes, most * c.record_bytes(), y.bytes(), std::int64_t{1} << 12}));
  together.arrive_and_wait();
  const auto exchange = exchange::make_card_exchange(*stream, bases, window, rank, {c.patience});
  together.arrive_and_wait();  // nothing is allocated while kernels wait for one another

  Exchanged got;
  const auto stops = [&](int call) { return rank == c.who_stops && call >= c.stops_at; };
  try {
    for (std::uint64_t batch = 1; batch <= 2; ++batch) {
      got.rounds.clear();
      for (int q = 0; q < c.num_rounds; ++q) {
        const TokenRun run = c.round(rank, q);
        const CardRoute& route = routes[static_cast<std::size_t>(q)];
        if (!stops(0)) exchange->count(tokens, run, batch, q, route);
        if (!stops(1)) exchange->dispatch(tokens, run, route, into);
        if (!stops(1)) exchange->dispatch(gradients, run, route, other);
        if (!stops(2)) exchange->combine(tokens, run, route, partial[static_cast<std::size_t>(q)], y, residual, {});
        stream->synchronize();
        exchange->check();
        const Bytes first = back(route.first.data, route.first.bytes());
        Exchanged::Round round;
        round.first.resize(first.size() / 4);
        std::memcpy(round.first.data(), first.data(), first.size());
        const std::int64_t U = std::clamp<std::int64_t>(round.first.back(), 0, most);
        round.rows = back(into.rows, U * c.row_bytes);
        round.records = back(into.records, U * c.record_bytes());
        round.gradients = back(other.rows, U * c.row_bytes);
        got.rounds.push_back(round);
      }
    }
    got.y = back(y.data, y.bytes());
  } catch (const Error& e) {
    got.error = fmt::format("{}: {}", static_cast<int>(e.status()), e.what());
  }
  together.arrive_and_wait();
  return got;
}

std::vector<Exchanged> on_ranks(const ExchangeCase& c) {
  std::vector<Exchanged> got(c.layer.tokens.size());
  std::vector<std::byte*> bases(got.size());
  std::barrier<> together(c.num_ranks());
  std::vector<std::jthread> threads;
  for (int r = 0; r < c.num_ranks(); ++r)
    threads.emplace_back([&, r] { got[static_cast<std::size_t>(r)] = on_rank(c, r, bases, together); });
  threads.clear();
  return got;
}

void expect_plain(const ExchangeCase& c) {
  const std::vector<Exchanged> got = on_ranks(c);
  for (int r = 0; r < c.num_ranks(); ++r) {
    const Exchanged& g = got[static_cast<std::size_t>(r)];
    ASSERT_EQ(g.error, "") << "rank " << r;
    for (int q = 0; q < c.num_rounds; ++q) expect_arrivals(c, r, q, g.rounds[static_cast<std::size_t>(q)]);
    EXPECT_TRUE(g.y == expected_sums(c, r)) << "sums of rank " << r;
  }
}

class CardExchangeOf : public ::testing::TestWithParam<int> {
 protected:
  ExchangeCase some(std::int64_t tokens) const {
    const int P = GetParam();
    ExchangeCase c{.layer = {.E = 4 * P, .K = 3, .D = 24, .tokens = {}, .seed = static_cast<unsigned>(P)}};
    for (int r = 0; r < P; ++r) c.layer.tokens.push_back(tokens - r % 3);
    return c;
  }
};

TEST_P(CardExchangeOf, RanksMovesVectors) {
  expect_plain(some(13));
}
TEST_P(CardExchangeOf, RanksMovesFp8RowsWithTheirScalesInRounds) {
  ExchangeCase c = some(9);
  c.rows = DType::bf16, c.layer.D = 136;
  c.row_bytes = ScaledFormat::row_bytes(DType::e4m3_rows, 160);
  c.num_rounds = 2, c.num_slots = 3;
  expect_plain(c);
}
/// So many columns that all warps that sum have some.
TEST_P(CardExchangeOf, RanksMovesRowsThatAreNoVectors) {
  ExchangeCase c = some(7);
  c.rows = DType::bf16, c.layer.D = 261, c.row_bytes = 10, c.weights = DType::f64, c.num_channels = 3, c.num_slots = 2;
  expect_plain(c);
}
TEST_P(CardExchangeOf, RanksHasEmptyOnesAndAllGoToOne) {
  ExchangeCase c = some(6);
  c.layer.tokens[0] = 0;
  c.layer.choose = [](int, std::int64_t) { return std::vector<std::int32_t>{0, 1, 2}; };
  c.rows = DType::f64;
  expect_plain(c);
  for (std::int64_t& tokens : c.layer.tokens) tokens = 0;
  c.layer.tokens[1] = 1;
  expect_plain(c);
}
INSTANTIATE_TEST_SUITE_P(Ranks, CardExchangeOf, ::testing::Values(2, 4, 8));

/// A warp looks at as many tokens as it has lanes: runs are longer here, and few tokens go to the last rank.
TEST(CardExchange, FewOfManyTokens) {
  ExchangeCase c{.layer = {.E = 3, .K = 1, .D = 8, .tokens = {150, 64, 33}}};
  c.layer.choose = [](int rank, std::int64_t t) {
    return std::vector<std::int32_t>{t % 41 == rank ? 2 : static_cast<std::int32_t>(t % 2)};
  };
  expect_plain(c);
}

TEST(CardExchange, NamesWhoStopped) {
  for (int call = 0; call < 3; ++call) {
    ExchangeCase c{.layer = {.E = 4, .K = 4, .D = 8, .tokens = {9, 9, 9, 9}}};
    c.patience = std::chrono::milliseconds(1500), c.stops_at = call;
    const std::vector<Exchanged> got = on_ranks(c);
    for (const int r : {0, 1, 3}) {
      const std::string& error = got[static_cast<std::size_t>(r)].error;
      EXPECT_EQ(error.substr(0, 2), "7:") << "call " << call << ", rank " << r << ": " << error;
      EXPECT_NE(error.find("rank 2 of 4 has"), std::string::npos) << "call " << call << ", rank " << r << ": " << error;
      EXPECT_NE(error.find(call == 0   ? "has not said how many rows"
                           : call == 1 ? "of dispatch in all"
                                       : "of combine in all"),
                std::string::npos)
          << error;
    }
  }
}

TEST(CardExchange, SaysThatMoreArrivesThanThereIsSpaceFor) {
  ExchangeCase c{.layer = {.E = 4, .K = 4, .D = 8, .tokens = {9, 9}}};
  c.patience = std::chrono::milliseconds(1500), c.capacity = 17;
  for (const Exchanged& got : on_ranks(c))
    EXPECT_NE(got.error.find("18 rows arrive where there is space for 17"), std::string::npos) << got.error;
}

TEST(CardExchange, RefusesMoreRanksThanTheKernelsTake) {
  const std::unique_ptr<DeviceStream> stream = test::card().make_stream();
  exchange::WindowSizes sizes;
  sizes.num_ranks = CardExchange::most_ranks + 1;
  const exchange::Window window(sizes);
  const std::vector<std::byte*> bases(CardExchange::most_ranks + 1);
  try {
    exchange::make_card_exchange(*stream, bases, window, 0, {});
    FAIL() << "taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage);
  }
}

}  // namespace
}  // namespace fourmi::testing

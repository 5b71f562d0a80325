// The bodies, and their runs over one rank and over threads. tests/parallel_mpi compiles this file too.
#include "tests/parallel/group_conformance.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>

#include "kernels/numerics/fixed128.h"
#include "parallel/ordered_sum.h"
#include "tests/parallel/here.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

using Bytes = std::vector<std::byte>;

// Byte i of the message number `what` from rank a to rank b.
std::byte pattern(int what, int a, int b, std::size_t i) {
  std::uint64_t x =
      static_cast<std::uint64_t>(what * 1000003 + a * 1009 + b) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;
  x ^= x >> 29;
  x *= 0x94d049bb133111ebu;
  return static_cast<std::byte>(x >> 56);
}

Bytes message(int what, int from, int to, std::size_t size) {
  Bytes m(size);
  for (std::size_t i = 0; i < size; ++i) m[i] = pattern(what, from, to, i);
  return m;
}

void append(Bytes& all, std::span<const std::byte> more) {
  all.insert(all.end(), more.begin(), more.end());
}

struct Body {
  explicit Body(Group& group)
      : g(group), n(static_cast<std::size_t>(group.size())), rank(group.rank()), size(group.size()) {}
  Group& g;
  std::size_t n;
  int rank, size;
  Bytes received;

  void keep(std::span<const std::byte> got, const Bytes& expected, const char* what) {
    EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin(), expected.end())) << what << " on rank " << rank;
    append(received, got);
  }

  void gathers() {
    for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{13}, std::size_t{100000}}) {
      const Bytes mine = message(1, rank, 0, bytes);
      Bytes all(bytes * n, std::byte{0xff}), expected;
      for (int r = 0; r < size; ++r) append(expected, message(1, r, 0, bytes));
      g.all_gather(mine, all);
      keep(all, expected, "all_gather");
      Bytes in_place(bytes * n, std::byte{0xff});
      const auto place = std::span(in_place).subspan(static_cast<std::size_t>(rank) * bytes, bytes);
      std::copy(mine.begin(), mine.end(), place.begin());
      g.all_gather(place, in_place);
      keep(in_place, expected, "all_gather in place");
    }
    std::vector<std::size_t> counts(n);
    Bytes expected;
    for (std::size_t r = 0; r < n; ++r) {
      counts[r] = r % 3 == 1 ? 0 : 7 + 5001 * r;
      append(expected, message(2, static_cast<int>(r), 0, counts[r]));
    }
    Bytes all(expected.size(), std::byte{0xff});
    g.all_gather_v(message(2, rank, 0, counts[static_cast<std::size_t>(rank)]), all, counts);
    keep(all, expected, "all_gather_v");
  }

  void exchanges() {
    const auto count = [&](int from, int to) {
      return (from + to) % 3 == 0 ? std::size_t{0} : static_cast<std::size_t>(11 * from + 3001 * to + 1);
    };
    std::vector<std::size_t> send_counts(n), recv_counts(n);
    Bytes send, expected;
    for (int r = 0; r < size; ++r) {
      send_counts[static_cast<std::size_t>(r)] = count(rank, r);
      recv_counts[static_cast<std::size_t>(r)] = count(r, rank);
      append(send, message(3, rank, r, count(rank, r)));
      append(expected, message(3, r, rank, count(r, rank)));
    }
    Bytes recv(expected.size(), std::byte{0xff});
    g.all_to_all(send, send_counts, recv, recv_counts);
    keep(recv, expected, "all_to_all");

    const std::vector<std::size_t> none(n, 0);
    g.all_to_all({}, none, {}, none);
  }

  void messages() {
    // A ring in both directions, two tags, received in the opposite order of the tags; also to oneself.
    const int next = (rank + 1) % size, before = (rank + size - 1) % size;
    Bytes a(70000), b(5), empty;
    const Bytes out_a = message(4, rank, next, a.size()), out_b = message(5, rank, next, b.size());
    Request rb = g.start_receive(b, before, 9), ra = g.start_receive(a, before, 8);
    Request sa = g.start_send(out_a, next, 8), sb = g.start_send(out_b, next, 9);
    Request se = g.start_send(empty, next, 10), re = g.start_receive(empty, before, 10);
    for (Request* r : {&ra, &rb, &sb, &sa, &re, &se}) r->wait();
    keep(a, message(4, before, rank, a.size()), "message, tag 8");
    keep(b, message(5, before, rank, b.size()), "message, tag 9");

    // One tag: in the order sent.
    std::vector<Bytes> out, in(20, Bytes(3));
    std::vector<Request> requests;
    for (int i = 0; i < 20; ++i) out.push_back(message(100 + i, rank, next, 3));
    for (auto& m : out) requests.push_back(g.start_send(m, next, 0));
    for (auto& m : in) requests.push_back(g.start_receive(m, before, 0));
    requests.clear();  // an unfinished request waits when it goes
    for (int i = 0; i < 20; ++i)
      keep(in[static_cast<std::size_t>(i)], message(100 + i, before, rank, 3), "ordered messages");
  }

  void broadcasts() {
    for (int root = 0; root < size; ++root) {
      Bytes data = rank == root ? message(6, root, 0, 3001) : Bytes(3001, std::byte{0xff});
      g.broadcast(data, root);
      keep(data, message(6, root, 0, 3001), "broadcast");
    }
    g.broadcast({}, 0);
    for (int i = 0; i < 3; ++i) g.barrier();
  }

  // Several collectives at once, with messages in between, waited for in another order.
  void overlap() {
    const auto me = static_cast<std::size_t>(rank);
    std::vector<Bytes> mine, all;
    std::vector<Request> requests;
    for (int i = 0; i < 5; ++i) {
      mine.push_back(message(20 + i, rank, 0, 2000 * static_cast<std::size_t>(i) + 1));
      all.emplace_back(mine.back().size() * n);
    }
    Bytes from_last(17);
    const Bytes to_next = message(30, rank, (rank + 1) % size, 17);
    for (std::size_t i = 0; i < 5; ++i) {
      requests.push_back(g.start_all_gather(mine[i], all[i]));
      if (i == 2) {
        requests.push_back(g.start_send(to_next, (rank + 1) % size, 3));
        requests.push_back(g.start_receive(from_last, (rank + size - 1) % size, 3));
      }
    }
    for (std::size_t k = 0; k < requests.size(); ++k) requests[(k + me) % requests.size()].wait();
    for (int i = 0; i < 5; ++i) {
      Bytes expected;
      for (int r = 0; r < size; ++r) append(expected, message(20 + i, r, 0, mine[static_cast<std::size_t>(i)].size()));
      keep(all[static_cast<std::size_t>(i)], expected, "overlapped all_gather");
    }
    keep(from_last, message(30, (rank + size - 1) % size, rank, 17), "message among collectives");
  }

  void reductions(std::size_t count) {
    std::vector<double> d(count);
    std::vector<std::int64_t> m(count), s(count);
    std::vector<int128> w(count);
    const int128 big = static_cast<int128>(1) << 100;
    for (std::size_t i = 0; i < count; ++i) {
      const auto j = static_cast<std::int64_t>(i);
      d[i] = std::sin(static_cast<double>(i * n) + rank);
      m[i] = (rank % 2 ? -1 : 1) * (j * 7 + rank);
      s[i] = j - 1000000007 * static_cast<std::int64_t>(rank);
      w[i] = big * (rank + 1) - static_cast<int128>(j);
    }
    if (count > 3) {
      if (rank == size - 1) d[0] = std::numeric_limits<double>::quiet_NaN();
      d[1] = rank == 0 ? -0.0 : 0.0;
      d[2] = rank == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::max();
      s[3] = rank == 0 ? std::numeric_limits<std::int64_t>::max() : 1;  // wraps, the same everywhere
    }
    g.all_max(std::span(d));
    g.all_max(std::span(m));
    g.all_sum(std::span(s));
    g.all_sum(std::span(w));
    for (std::size_t i = 4; i < count; ++i) {
      const auto j = static_cast<std::int64_t>(i);
      double largest = -2;
      std::int64_t most = std::numeric_limits<std::int64_t>::min();
      for (int r = 0; r < size; ++r) {
        largest = std::max(largest, std::sin(static_cast<double>(i * n) + r));
        most = std::max(most, (r % 2 ? -1 : 1) * (j * 7 + r));
      }
      const std::int64_t ranks = size, triangle = ranks * (ranks - 1) / 2;
      EXPECT_EQ(d[i], largest);
      EXPECT_EQ(m[i], most);
      EXPECT_EQ(s[i], j * ranks - 1000000007 * triangle);
      EXPECT_TRUE(w[i] == big * (triangle + ranks) - static_cast<int128>(j * ranks));
    }
    if (count > 3) {
      EXPECT_TRUE(std::isnan(d[0]));
      EXPECT_EQ(std::signbit(d[1]), size == 1);
      EXPECT_TRUE(std::isinf(d[2]));
      EXPECT_EQ(static_cast<std::uint64_t>(s[3]),
                static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) + n - 1);
    }
    append(received, std::as_bytes(std::span(d)));
    append(received, std::as_bytes(std::span(m)));
    append(received, std::as_bytes(std::span(s)));
    append(received, std::as_bytes(std::span(w)));
  }

  // Float sums of our own: checked by ordered_sum_test.cpp, here for equal bytes on every back end.
  template <class T>
  void sums(T (*make)(double)) {
    std::vector<std::vector<Piece>> pieces(n);
    for (std::int64_t i = 0; i < 40; ++i)
      pieces[static_cast<std::size_t>(i * 7) % n].push_back({i * 100, 0, (i * 37) % 101});
    const Ownership owners(pieces);
    std::vector<T> flat(4000), mine(static_cast<std::size_t>(owners.num_elements(rank)));
    for (std::size_t i = 0; i < flat.size(); ++i)
      flat[i] = make(std::ldexp(1.0 / (1 + static_cast<double>((i * 31 + static_cast<std::size_t>(rank) * 17) % 997)),
                                static_cast<int>(i % 13) - rank % 3));
    std::vector<std::byte> memory(sizeof(T) * 2 * n * 100);
    const Tensor scratch(memory.data(), DType::u8, {static_cast<std::int64_t>(memory.size())});
    const auto tensor = [](std::vector<T>& v) {
      return Tensor(v.data(), dtype_of<T>, {static_cast<std::int64_t>(v.size())});
    };
    reduce_scatter(here(), g, owners, tensor(flat), tensor(mine), scratch);
    append(received, std::as_bytes(std::span(mine)));
    std::fill(flat.begin(), flat.end(), T(1));
    all_gather(here(), g, owners, tensor(mine), tensor(flat), scratch);
    append(received, std::as_bytes(std::span(flat)));
  }

  void small_sums() {
    std::vector<double> v(7);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::ldexp(1.0 / (3 + static_cast<double>(i) + rank), 5 * rank);
    all_sum_ordered(g, v);
    append(received, std::as_bytes(std::span(v)));
  }

  void subgroups() {
    // Two disjoint halves at once, the second with its ranks in descending order; then one that overlaps both.
    const int half = (size + 1) / 2;
    std::vector<int> low(static_cast<std::size_t>(half)), high, odd;
    std::iota(low.begin(), low.end(), 0);
    for (int r = size - 1; r >= half; --r) high.push_back(r);
    const auto& mine = rank < half ? low : high;
    for (int again = 0; again < 2; ++again) {
      auto sub = g.subgroup("half", mine);
      EXPECT_EQ(sub->size(), static_cast<int>(mine.size()));
      EXPECT_EQ(mine[static_cast<std::size_t>(sub->rank())], rank);
      std::vector<int> ranks(mine.size());
      sub->all_gather(std::as_bytes(std::span(&rank, 1)), std::as_writable_bytes(std::span(ranks)));
      EXPECT_EQ(ranks, mine);
    }
    const std::vector<int> ends = size > 1 ? std::vector<int>{0, size - 1} : std::vector<int>{0};
    if (rank == 0 || rank == size - 1) {
      auto sub = g.subgroup("ends", ends);
      std::vector<std::int64_t> one{1};
      sub->all_sum(std::span(one));
      EXPECT_EQ(one[0], static_cast<std::int64_t>(ends.size()));
    }
  }

  void meter() {
    const std::int64_t before = g.bytes_moved();
    const Bytes mine(100);
    Bytes all(100 * n);
    g.all_gather(mine, all);
    EXPECT_EQ(g.bytes_moved() - before, 200 * (size - 1));
  }
};

}  // namespace

std::vector<std::byte> run_conformance(Group& group) {
  Body body(group);
  body.gathers();
  body.exchanges();
  body.messages();
  body.broadcasts();
  body.overlap();
  for (std::size_t count : {0, 1, 5, 4001}) body.reductions(count);
  body.sums<float>([](double x) { return static_cast<float>(x); });
  body.sums<double>([](double x) { return x; });
  body.sums<int128>([](double x) { return to_fixed128(x); });
  body.small_sums();
  body.subgroups();
  body.meter();
  group.barrier();
  return std::move(body.received);
}

double run_cancellation(Group& group) {
  using Clock = std::chrono::steady_clock;
  std::vector<int> all(static_cast<std::size_t>(group.size()));
  std::iota(all.begin(), all.end(), 0);
  double seconds = 0;
  const auto expect_lost = [&](auto&& call, const char* what) {
    const auto begin = Clock::now();
    try {
      call();
      ADD_FAILURE() << what << " ended on rank " << group.rank();
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::rank_lost) << e.what();
      EXPECT_NE(std::string(e.what()).find("rank 0 is gone"), std::string::npos) << e.what();
    }
    seconds = std::max(seconds, std::chrono::duration<double>(Clock::now() - begin).count());
  };
  // A member that waits for rank 0 is freed when rank 0 cancels; so are later waits, and those of groups below.
  for (int kind = 0; kind < 4; ++kind) {
    auto sub = group.subgroup("doomed", all);
    auto below = sub->subgroup("below", all);
    group.barrier();
    Bytes data(200000), more(200000 * all.size());
    if (group.rank() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      sub->cancel("rank 0 is gone");
    } else {
      expect_lost(
          [&] {
            if (kind == 0) sub->start_receive(data, 0, 5).wait();
            if (kind == 1) sub->barrier();
            if (kind == 2) sub->all_gather(data, more);
            if (kind == 3) below->barrier();
          },
          "a blocked wait");
    }
    expect_lost([&] { sub->barrier(); }, "a later wait");
    expect_lost([&] { below->barrier(); }, "a later wait of a subgroup");
    EXPECT_TRUE(sub->cancelled() && below->cancelled());
    EXPECT_FALSE(group.cancelled());
    group.barrier();
  }
  // An exception on one rank, in the midst of a transfer, frees the others without a word from anybody else.
  auto sub = group.subgroup("unwinding", all);
  if (group.size() > 1) {
    Bytes data(1000);
    try {
      Request open = sub->start_receive(data, (group.rank() + 1) % group.size(), 1);
      if (group.rank() == 0) throw std::runtime_error("a failing computation");
      open.wait();
      ADD_FAILURE() << "a receive from nobody ended";
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::rank_lost);
    } catch (const std::runtime_error&) {
      EXPECT_EQ(group.rank(), 0);
    }
  }
  group.barrier();
  return seconds;
}

namespace {

TEST(Group, SelfAndThreadsConform) {
  auto self = make_self_group("self");
  const Bytes alone = run_conformance(*self);
  EXPECT_FALSE(alone.empty());
  const auto threads = run_members(1, [](Group& g) { return run_conformance(g); });
  EXPECT_TRUE(threads[0] == alone);
}

class ThreadGroups : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadGroups, testing::Values(2, 3, 4, 8));

TEST_P(ThreadGroups, Conform) {
  const auto first = run_members(GetParam(), [](Group& g) { return run_conformance(g); });
  const auto second = run_members(GetParam(), [](Group& g) { return run_conformance(g); });
  EXPECT_TRUE(first == second);
}

TEST_P(ThreadGroups, CancelFreesEveryWait) {
  for (double seconds : run_members(GetParam(), [](Group& g) { return run_cancellation(g); })) EXPECT_LT(seconds, 2.0);
}

TEST(Group, SelfCancels) {
  EXPECT_LT(run_cancellation(*make_self_group("self")), 1.0);
}

TEST(Group, SelfWaitWithoutCounterpartIsABug) {
  auto self = make_self_group("self");
  Bytes data(4);
  Request r = self->start_receive(data, 0, 1);
  try {
    r.wait();
    FAIL() << "the wait ended";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::bug);
  }
}

TEST(Group, AMessageOfAnotherSizeIsABugOnTheReceiver) {
  run_members(2, [](Group& g) {
    Bytes data(g.rank() == 0 ? 4 : 5);
    Request r = g.rank() == 0 ? g.start_send(data, 1, 0) : g.start_receive(data, 0, 0);
    EXPECT_THROW(r.wait(), Error);
    return 0;
  });
}

}  // namespace
}  // namespace fourmi

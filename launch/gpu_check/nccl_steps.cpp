// Each move of a group once with values that are checked, and two at a size at which bandwidth counts.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "kernels/numerics/random.h"
#include "launch/bench/bench.h"
#include "launch/gpu_check/nccl.h"

namespace fourmi::gpu_check {

namespace {

using Counts = std::vector<std::size_t>;

std::size_t sum_of(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::size_t{0});
}

/// Memory of the device whose bytes the host gives and compares.
class Bytes {
 public:
  Bytes(DeviceStream& stream, std::size_t size)
      : stream_(stream),
        size_(size),
        memory_(stream.runtime().allocate(static_cast<std::int64_t>(size) + 1, "gpu-check")) {
    clear();
  }
  ~Bytes() { stream_.runtime().release(memory_); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  std::span<std::byte> span() const { return {static_cast<std::byte*>(memory_), size_}; }

  /// What no step sends, so that bytes which never came are seen.
  void clear() const { stream_.runtime().fill(memory_, 0, static_cast<std::int64_t>(size_) + 1); }
  void write(int key, std::size_t first, std::size_t n) const {
    const std::vector<std::byte> values = values_of(key, n);
    if (n > 0) stream_.runtime().write(span().data() + first, values.data(), static_cast<std::int64_t>(n));
  }
  std::int64_t wrong(int key, std::size_t first, std::size_t n) const {
    if (n == 0) return 0;
    std::vector<std::byte> found(n);
    stream_.runtime().read(found.data(), span().data() + first, static_cast<std::int64_t>(n));
    const std::vector<std::byte> values = values_of(key, n);
    std::int64_t count = 0;
    for (std::size_t i = 0; i < n; ++i) count += found[i] != values[i];
    return count;
  }

 private:
  /// Never zero; of another key elsewhere, and with no period that a message's pieces could have.
  static std::vector<std::byte> values_of(int key, std::size_t n) {
    std::vector<std::byte> values(n);
    const std::uint64_t start = random_bits(random_key(7, "gpu-check", "nccl"), static_cast<std::uint64_t>(key));
    for (std::size_t i = 0; i < n; ++i)
      values[i] = static_cast<std::byte>(1 + ((start + i) * 0x9e3779b97f4a7c15u >> 32) % 255);
    return values;
  }
  DeviceStream& stream_;
  std::size_t size_;
  void* memory_;
};

/// The steps, each of which returns how many bytes of this rank's are wrong.
struct Steps {
  Group& group;
  DeviceStream& stream;
  const NcclSizes& sizes;
  int me = group.rank(), n = group.size();
  std::size_t n_counts = static_cast<std::size_t>(n);

  std::int64_t gather(bool in_place) const {
    std::int64_t wrong = 0;
    for (const std::size_t each : {std::size_t{1}, std::size_t{4099}, std::size_t{1} << 20}) {
      const Bytes mine(stream, each), all(stream, n_counts * each);
      const std::size_t place = static_cast<std::size_t>(me) * each;
      in_place ? all.write(me, place, each) : mine.write(me, 0, each);
      group.all_gather(in_place ? all.span().subspan(place, each) : mine.span(), all.span());
      stream.synchronize();
      for (int r = 0; r < n; ++r) wrong += all.wrong(r, static_cast<std::size_t>(r) * each, each);
    }
    return wrong;
  }

  std::int64_t gather_v() const {
    Counts counts;
    for (std::size_t r = 0; r < n_counts; ++r) counts.push_back((r + 1) % 3 * 70'001);  // that of rank 2 is 0
    const std::size_t my_count = counts[static_cast<std::size_t>(me)];
    const Bytes mine(stream, my_count), all(stream, sum_of(counts));
    mine.write(me, 0, my_count);
    group.all_gather_v(mine.span(), all.span(), counts);
    stream.synchronize();
    std::int64_t wrong = 0;
    std::size_t at = 0;
    for (std::size_t r = 0; r < n_counts; at += counts[r++]) wrong += all.wrong(static_cast<int>(r), at, counts[r]);
    return wrong;
  }

  std::int64_t exchange() const {
    // From 2 to 0 none.
    const auto count = [](std::size_t from, std::size_t to) { return (2 * from + 3 * to + 1) % 5 * 50'021; };
    const auto rank = static_cast<std::size_t>(me);
    Counts out, in;
    for (std::size_t r = 0; r < n_counts; ++r) out.push_back(count(rank, r)), in.push_back(count(r, rank));
    return exchange(out, in);
  }
  std::int64_t exchange(const Counts& out, const Counts& in) const {
    const Bytes send(stream, sum_of(out)), recv(stream, sum_of(in));
    std::size_t at = 0;
    for (std::size_t r = 0; r < n_counts; at += out[r++]) send.write(100 * me + static_cast<int>(r), at, out[r]);
    group.all_to_all(send.span(), out, recv.span(), in);
    stream.synchronize();
    std::int64_t wrong = 0;
    at = 0;
    for (std::size_t r = 0; r < n_counts; at += in[r++]) wrong += recv.wrong(100 * static_cast<int>(r) + me, at, in[r]);
    return wrong;
  }

  std::int64_t broadcast() const {
    constexpr std::size_t bytes = 300'007;
    const Bytes data(stream, bytes);
    std::int64_t wrong = 0;
    for (int root = 0; root < n; ++root) {
      data.clear();
      if (root == me) data.write(root, 0, bytes);
      group.broadcast(data.span(), root);
      stream.synchronize();
      wrong += data.wrong(root, 0, bytes);
    }
    return wrong;
  }

  /// Both ways round the ring, all four messages of a rank under way at once.
  std::int64_t neighbours() const {
    constexpr std::size_t bytes = 200'003;
    const int next = (me + 1) % n, before = (me + n - 1) % n;
    const Bytes up(stream, bytes), down(stream, bytes), from_before(stream, bytes), from_next(stream, bytes);
    up.write(me, 0, bytes), down.write(50 + me, 0, bytes);
    std::vector<Request> requests;
    requests.push_back(group.start_send(up.span(), next, 1));
    requests.push_back(group.start_send(down.span(), before, 2));
    requests.push_back(group.start_receive(from_before.span(), before, 1));
    requests.push_back(group.start_receive(from_next.span(), next, 2));
    for (Request& r : requests) r.wait();
    stream.synchronize();
    return from_before.wrong(before, 0, bytes) + from_next.wrong(50 + next, 0, bytes);
  }

  /// Seconds of a call, the slowest rank's; rank 0's clock says when it is enough.
  std::vector<double> rounds_of(const std::function<void()>& call) const {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
    call();
    stream.synchronize();
    std::vector<double> rounds;
    const Clock::time_point start = Clock::now();
    for (std::int64_t go = 1; go != 0;) {
      group.barrier();
      const Clock::time_point begin = Clock::now();
      call();
      stream.synchronize();
      double seconds = since(begin);
      group.all_max(std::span(&seconds, 1));
      rounds.push_back(seconds);
      go = rounds.size() < 3 || since(start) < sizes.seconds;
      group.broadcast(std::as_writable_bytes(std::span(&go, 1)), 0);
    }
    return rounds;
  }

  std::int64_t timed(bool gathers, ordered_json& figure) const {
    const std::size_t each = static_cast<std::size_t>(sizes.large) / n_counts;
    const Counts counts(n_counts, each);
    const Bytes send(stream, gathers ? each : n_counts * each), recv(stream, n_counts * each);
    const auto key = [&](int from, int to) { return 1000 + 100 * from + (gathers ? 0 : to); };
    for (std::size_t r = 0; r < (gathers ? 1 : n_counts); ++r) send.write(key(me, static_cast<int>(r)), r * each, each);
    const bench::Spread s = bench::spread_of(rounds_of([&] {
      if (gathers)
        group.all_gather(send.span(), recv.span());
      else
        group.all_to_all(send.span(), counts, recv.span(), counts);
    }));
    const auto moved = static_cast<std::int64_t>(each) * (n - 1);
    figure["bytes"] = moved;
    figure["counted"] = "what a rank receives from others";
    figure["seconds"] = s.median;
    figure["low"] = s.low;
    figure["high"] = s.high;
    figure["bytes_per_second"] = static_cast<double>(moved) / s.median;
    std::int64_t wrong = 0;
    for (int r = 0; r < n; ++r) wrong += recv.wrong(key(r, me), static_cast<std::size_t>(r) * each, each);
    return wrong;
  }

  std::int64_t step(std::size_t number, ordered_json& figure) const {
    switch (number) {
      case 0:
        group.use_device(stream);
        group.prepare_messages();
        return 0;
      case 1:
        return gather(false);
      case 2:
        return gather(true);
      case 3:
        return gather_v();
      case 4:
        return exchange();
      case 5:
        return broadcast();
      case 6:
        return neighbours();
      default:
        return timed(number == 7, figure);
    }
  }
};

}  // namespace

const std::vector<std::string>& nccl_steps() {
  static const std::vector<std::string> names = {"communicators", "all_gather",       "all_gather in place",
                                                 "all_gather_v",  "all_to_all",       "broadcast",
                                                 "neighbours",    "large all_gather", "large all_to_all"};
  return names;
}

void tell_nccl(Group& group, DeviceStream& stream, const NcclSizes& sizes, const Tell& tell) {
  const auto say = [&](const ordered_json& figure) {
    if (group.rank() == 0) tell(figure);
  };
  const Steps steps{group, stream, sizes};
  for (std::size_t i = 0; i < nccl_steps().size(); ++i) {
    say({{"begin", nccl_steps()[i]}, {"number", i}});
    ordered_json figure{{"name", nccl_steps()[i]}};
    const auto begin = std::chrono::steady_clock::now();
    std::int64_t wrong = steps.step(i, figure);
    if (!figure.contains("seconds"))
      figure["seconds_with_checks"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    group.all_sum(std::span(&wrong, 1));
    if (wrong > 0) figure["error"] = fmt::format("{} bytes are wrong", wrong);
    say(figure);
  }
}

}  // namespace fourmi::gpu_check

#include "launch/gpu_check/exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <set>
#include <thread>

#include "kernels/exchange/on_card.h"
#include "kernels/exchange/size_on_card.h"
#include "kernels/numerics/mix.h"
#include "kernels/ops/linear.h"
#include "launch/bench/bench.h"

namespace fourmi::gpu_check {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds patience{10};

/// What all ranks have in common.
struct Scene {
  const ExchangeSizes& sizes;
  DeviceRuntime& device;
  int num_ranks;
  exchange::Window window = {};
  std::vector<std::byte*> bases = {};

  std::int64_t row_bytes() const { return ScaledFormat::row_bytes(DType::e4m3_rows, sizes.columns); }
};

exchange::Window window_of(const Scene& s) {
  const int channels =
      exchange::size_on_card(s.num_ranks, {}, std::max(1, s.sizes.multiprocessors / s.num_ranks)).num_channels;
  const int batch = std::max(1, s.sizes.num_slots / 4);
  return exchange::Window({.num_ranks = s.num_ranks,
                           .num_channels = channels,
                           .most_counts = channels,
                           .dispatch = {s.row_bytes(), s.sizes.num_slots, batch},
                           .combine = {s.sizes.columns * 4, s.sizes.num_slots, batch}});
}

/// One rank: its stream, its memory and its exchange.
class Rank {
 public:
  Rank(Scene& scene, int rank)
      : scene_(scene),
        arena_({.name = "gpu-check", .device = &scene.device}, bytes_of(scene)),
        stream_(scene.device.make_stream()),
        rank_(rank) {
    const ExchangeSizes& s = scene.sizes;
    const std::int64_t M = s.tokens, U = M * scene.num_ranks, lanes = num_lanes(scene);
    const auto take = [&](const Shape& shape, DType dtype) { return arena_.allocate(shape, dtype, "exchange"); };
    window_ = take({scene.window.bytes()}, DType::u8);
    x_ = take({M * scene.row_bytes()}, DType::u8), arrived_ = take({U * scene.row_bytes()}, DType::u8);
    partial_ = take({U, s.columns}, DType::f32), y_ = take({M, s.columns}, DType::bf16);
    experts_ = take({M, s.num_choices}, DType::i32);
    route_ = {take({lanes}, DType::i32), take({lanes}, DType::i32), take({lanes + 1}, DType::i32)};
    scene.device.fill(window_.data, 0, window_.bytes());
    scene.device.fill(x_.data, 1, x_.bytes());
    scene.device.fill(partial_.data, 0, partial_.bytes());
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < M; ++t) {
      std::set<std::int32_t> chosen;
      for (std::uint64_t i = 0; static_cast<std::int64_t>(chosen.size()) < s.num_choices; ++i)
        chosen.insert(static_cast<std::int32_t>(mix64(mix64(static_cast<std::uint64_t>(rank_ * M + t)) + i) %
                                                static_cast<std::uint64_t>(s.num_experts)));
      std::set<std::int32_t> visited;
      for (const std::int32_t e : chosen) visited.insert(e / each());
      rows_ += static_cast<std::int64_t>(visited.size());
      ids.insert(ids.end(), chosen.begin(), chosen.end());
    }
    scene.device.write(experts_.data, ids.data(), experts_.bytes());
    scene.bases[static_cast<std::size_t>(rank)] = static_cast<std::byte*>(window_.data);
  }
  /// When all ranks have their windows.
  void begin() { exchange_ = make_card_exchange(*stream_, scene_.bases, scene_.window, rank_, {patience}); }

  void count() { exchange_->count(tokens(), run(), ++announcement_, 0, route_); }
  void dispatch() {
    exchange_->dispatch(tokens(), run(), route_,
                        {.rows = static_cast<std::byte*>(arrived_.data),
                         .row_bytes = scene_.row_bytes(),
                         .capacity = scene_.sizes.tokens * scene_.num_ranks});
  }
  void combine() { exchange_->combine(tokens(), run(), route_, partial_, y_, {}, {}); }
  void end() {
    stream_->synchronize();
    exchange_->check();
  }
  /// That its tokens are at all ranks that they visit.
  std::int64_t rows() const { return rows_; }

 private:
  static std::int64_t num_lanes(const Scene& s) { return s.num_ranks * std::int64_t{s.window.sizes().num_channels}; }
  static std::int64_t bytes_of(const Scene& s) {
    const std::int64_t M = s.sizes.tokens, U = M * s.num_ranks, D = s.sizes.columns;
    return s.window.bytes() + (M + U) * s.row_bytes() + U * D * 4 + M * D * 2 + M * s.sizes.num_choices * 4 +
           3 * num_lanes(s) * 4 + (std::int64_t{1} << 16);
  }
  std::int32_t each() const { return static_cast<std::int32_t>(scene_.sizes.num_experts / scene_.num_ranks); }
  exchange::TokenRun run() const { return {0, scene_.sizes.tokens}; }
  exchange::Tokens tokens() const {
    exchange::Tokens t;
    t.rows = static_cast<const std::byte*>(x_.data), t.row_bytes = scene_.row_bytes();
    t.experts_MK = static_cast<const std::int32_t*>(experts_.data);
    t.num_choices = static_cast<int>(scene_.sizes.num_choices), t.experts_each = each();
    t.num_ranks = scene_.num_ranks;
    return t;
  }

  Scene& scene_;
  Arena arena_;
  std::unique_ptr<DeviceStream> stream_;
  std::unique_ptr<exchange::CardExchange> exchange_;
  Tensor window_, x_, arrived_, partial_, y_, experts_;
  exchange::CardRoute route_;
  int rank_;
  std::int64_t rows_ = 0;
  std::uint64_t announcement_ = 0;
};

using Work = std::function<void()>;

/// Each on a thread of its own and all from the same moment on, so many calls and then its end; median seconds of a
/// call of all. Throws the first error.
double seconds_of(const ExchangeSizes& sizes, const std::vector<Work>& calls, const std::vector<Work>& ends) {
  std::barrier together(static_cast<std::ptrdiff_t>(calls.size()));
  std::vector<std::string> errors(calls.size());
  std::vector<double> rounds;
  const auto one = [&](std::size_t i) {
    for (int round = -1; round < sizes.rounds; ++round) {  // the first one is not counted
      together.arrive_and_wait();
      const Clock::time_point begin = Clock::now();
      try {
        for (int c = 0; c < sizes.calls && errors[i].empty(); ++c) calls[i]();
        ends[i]();
      } catch (const std::exception& error) {
        errors[i] = error.what();
      }
      together.arrive_and_wait();
      if (i == 0 && round >= 0)
        rounds.push_back(std::chrono::duration<double>(Clock::now() - begin).count() / sizes.calls);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < calls.size(); ++i) threads.emplace_back(one, i);
  }
  for (const std::string& error : errors)
    if (!error.empty()) throw Error(ExitStatus::rank_lost, "gpu-check: exchange", error, "Look at this figure alone");
  return bench::spread_of(std::move(rounds)).median;
}

/// All else rests on this: a rank's tokens are more than its rings hold, so that the first dispatch ends if the GPU
/// runs the kernels of all ranks at the same time, and only then.
void tell_whether_at_once(int num_ranks, const std::function<double()>& first_dispatch, const Tell& tell) {
  const auto said = [&](bool at_once, double seconds) {
    tell({{"name", "kernels of all ranks at once"},
          {"shape", fmt::format("{} ranks", num_ranks)},
          {"at_once", at_once},
          {"seconds", seconds}});
  };
  const Clock::time_point begin = Clock::now();
  try {
    said(true, first_dispatch());
  } catch (const Error& error) {
    said(false, std::chrono::duration<double>(Clock::now() - begin).count());
    throw Error(ExitStatus::environment, "gpu-check: exchange",
                fmt::format("the GPU does not run the kernels of {} ranks at once: {}", num_ranks, error.cause()),
                "Ranks that share it cannot have parallel.dispatcher: device");
  }
}

/// Both transfers of a number of ranks, alone and beside a product.
void tell_ranks(DeviceRuntime& device, const ExchangeSizes& sizes, int num_ranks, const Ceilings& ceilings,
                const Tell& tell) {
  Scene scene{.sizes = sizes, .device = device, .num_ranks = num_ranks};
  scene.window = window_of(scene);
  scene.bases.resize(static_cast<std::size_t>(num_ranks));
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int r = 0; r < num_ranks; ++r) ranks.push_back(std::make_unique<Rank>(scene, r));
  for (const auto& rank : ranks) rank->begin();
  std::vector<Work> ends;
  for (const auto& rank : ranks) ends.emplace_back([&r = *rank] { r.end(); });
  const auto works = [&](void (*call)(Rank&)) {
    std::vector<Work> all;
    for (const auto& rank : ranks) all.emplace_back([&r = *rank, call] { call(r); });
    return all;
  };
  ExchangeSizes once = sizes;
  once.calls = once.rounds = 1;
  tell_whether_at_once(
      num_ranks, [&] { return seconds_of(once, works([](Rank& r) { r.count(), r.dispatch(); }), ends); }, tell);
  double rows = 0;
  for (const auto& rank : ranks) rows += static_cast<double>(rank->rows());

  const auto told = [&](const char* name, double seconds, double bytes) {
    tell({{"name", name},
          {"shape", fmt::format("{} ranks, {} tokens of {}", num_ranks, sizes.tokens, sizes.columns)},
          {"channels", scene.window.sizes().num_channels},
          {"seconds", seconds},
          {"floor_bytes", bytes},
          {"bytes_per_second", bytes / seconds},
          {"share_of_copy", bytes / seconds / ceilings.copy}});
  };
  const double D = static_cast<double>(sizes.columns), M = static_cast<double>(sizes.tokens * num_ranks);
  // All of it in this GPU's memory: rows are read and written where they leave, and again where they arrive.
  told("dispatch", seconds_of(sizes, works([](Rank& r) { r.dispatch(); }), ends),
       4 * rows * static_cast<double>(scene.row_bytes()));
  told("combine", seconds_of(sizes, works([](Rank& r) { r.combine(); }), ends), 3 * rows * 4 * D + M * 2 * D);

  const std::vector<Work> both = works([](Rank& r) { r.dispatch(), r.combine(); });
  const std::unique_ptr<DeviceStream> beside = device.make_stream();
  ThreadPool pool(1);
  const Stream stream(*beside, pool);
  const std::int64_t n = sizes.matrix;
  Arena arena({.name = "gpu-check", .device = &device}, 3 * n * n * 2 + (1 << 16));
  const auto matrix = [&] { return arena.allocate({n, n}, DType::bf16, "product"); };
  const Tensor x = matrix(), w = matrix(), y = matrix();
  const Work product = [&] { linear_forward(stream, x, w, y); }, product_ends = [&] { stream.synchronize(); };
  const double exchange_alone = seconds_of(sizes, both, ends);
  const double product_alone = seconds_of(sizes, {product}, {product_ends});
  std::vector<Work> all = both, all_ends = ends;
  all.push_back(product), all_ends.push_back(product_ends);
  const double together = seconds_of(sizes, all, all_ends);
  tell({{"name", "dispatch and combine beside a product"},
        {"shape", fmt::format("{} ranks, {} tokens of {}, {}^3 in bf16", num_ranks, sizes.tokens, sizes.columns, n)},
        {"seconds", together},
        {"exchange_alone", exchange_alone},
        {"product_alone", product_alone},
        {"over_the_longer", together / std::max(exchange_alone, product_alone)}});
}

}  // namespace

void tell_exchange(DeviceRuntime& device, const ExchangeSizes& sizes, std::int64_t from, const UseLibraries& use,
                   const Tell& tell) {
  tell({{"begin", "a copy"}, {"number", from - 1}});
  const std::unique_ptr<DeviceStream> card = device.make_stream();
  ThreadPool pool(1);
  const Ceilings ceilings = measure_ceilings(Stream(*card, pool), sizes.ceilings, use);
  for (std::size_t i = 0; i < sizes.ranks.size(); ++i) {
    const auto number = static_cast<std::int64_t>(i);
    if (number < from) continue;
    tell({{"begin", fmt::format("{} ranks", sizes.ranks[i])}, {"number", number}});
    try {
      tell_ranks(device, sizes, sizes.ranks[i], ceilings, tell);
    } catch (const Error& error) {
      tell({{"name", fmt::format("{} ranks", sizes.ranks[i])}, {"error", error.what()}});
    }
  }
}

}  // namespace fourmi::gpu_check

#include "kernels/cuda/exchange/exchange.h"

#include <fmt/format.h>

#include <atomic>

#include "kernels/cuda/exchange/counts.h"
#include "kernels/cuda/exchange/from_experts.h"
#include "kernels/cuda/exchange/to_experts.h"
#include "kernels/cuda/loading/loading.h"

namespace fourmi::exchange {
namespace {

/// Memory of the device or (pinned) of the host.
class Held {
 public:
  Held(DeviceRuntime& runtime, bool on_host, std::int64_t bytes, const char* what)
      : runtime_(runtime),
        on_host_(on_host),
        data_(on_host ? runtime.allocate_host(bytes, what) : runtime.allocate(bytes, what)) {}
  ~Held() { on_host_ ? runtime_.release_host(data_) : runtime_.release(data_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  DeviceRuntime& runtime_;
  bool on_host_;
  void* data_;
};

void check_window(const Window& window, std::size_t num_bases) {
  const WindowSizes& s = window.sizes();
  if (s.num_ranks < 1 || s.num_ranks > CardExchange::most_ranks)
    throw Error(ExitStatus::usage, "parallel.dispatcher",
                fmt::format("{} ranks reach each other's memory, at most {} were expected", s.num_ranks,
                            CardExchange::most_ranks),
                "Use the hierarchical dispatcher, with nodes of fewer ranks");
  FOURMI_CHECK(num_bases == static_cast<std::size_t>(s.num_ranks) && s.num_channels >= 1 &&
                   s.num_channels <= CardExchange::most_channels,
               "{} windows of {} ranks, {} channels", num_bases, s.num_ranks, s.num_channels);
  for (const RingShape& ring : {s.dispatch, s.combine})
    FOURMI_CHECK(
        ring.slot_bytes % 16 == 0 && ring.num_slots >= 2 && ring.batch >= 1 && 2 * ring.batch <= ring.num_slots,
        "{} slots of {} bytes, told of by {}", ring.num_slots, ring.slot_bytes, ring.batch);
}

class Exchange final : public CardExchange {
 public:
  Exchange(DeviceStream& stream, std::span<std::byte* const> bases, const Window& window, int rank,
           const CardExchangeOptions& options)
      : stream_(static_cast<const cuda::CudaStream&>(stream)),
        bases_(stream.runtime(), false, static_cast<std::int64_t>(bases.size_bytes()), "addresses of windows"),
        positions_(stream.runtime(), false,
                   std::int64_t{4} * window.sizes().num_ranks * window.sizes().num_channels * 8, "ends of rings"),
        claimed_(stream.runtime(), false, 4, "a word of an exchange"),
        report_(stream.runtime(), true, sizeof(cuda::GaveUp), "an exchange's report"),
        patience_(options.patience) {
    stream.runtime().write(bases_.as<void>(), bases.data(), static_cast<std::int64_t>(bases.size_bytes()));
    *report_.as<cuda::GaveUp>() = {};
    ends_ = {{bases_.as<std::byte*>(), window, rank},
             positions_.as<std::uint64_t>(),
             {claimed_.as<std::uint32_t>(), report_.as<cuda::GaveUp>(), static_cast<std::uint64_t>(patience_.count())}};
    cuda::require_loaded_kernels();
  }

  /// A warp that gives up still writes its report.
  ~Exchange() override { cudaStreamSynchronize(stream_.handle()); }

  void count(const Tokens& tokens, TokenRun run, std::uint64_t announcement, int round,
             const CardRoute& route) override {
    FOURMI_CHECK((announcement == announced_ && round == round_ + 1) || (announcement == announced_ + 1 && round == 0),
                 "round {} of announcement {} behind round {} of {}", round, announcement, round_, announced_);
    announced_ = announcement, round_ = round;
    FOURMI_CHECK((round + 1) * ends_.num_channels() <= ends_.peers.window.sizes().most_counts && announcement > 0,
                 "round {} of announcement {}", round, announcement);
    check_tokens(tokens);
    cuda::count_rows(stream_, ends_, tokens, run, announcement, round, tables_of(route));
  }
  void dispatch(const Tokens& tokens, TokenRun run, const CardRoute& route, const ArrivingRows& into) override {
    const std::int64_t record = tokens.weights_MK ? tokens.num_choices * (4 + tokens.weight_bytes) : 0;
    const std::int64_t slot = ends_.peers.window.shape(Way::dispatch).slot_bytes;
    check_tokens(tokens);
    FOURMI_CHECK((tokens.weights_MK != nullptr) == (into.records != nullptr) && into.row_bytes == tokens.row_bytes &&
                     (record == 0 || (into.record_bytes == record && into.record_at == tokens.record_at &&
                                      tokens.record_at >= tokens.row_bytes && tokens.record_at + record <= slot)) &&
                     tokens.row_bytes <= slot,
                 "rows of {} bytes with records of {} at {}, {} with {} at {} expected, in slots of {}",
                 tokens.row_bytes, record, tokens.record_at, into.row_bytes, into.record_bytes, into.record_at, slot);
    cuda::send_to_experts(stream_, ends_, tokens, run, tables_of(route), into);
  }
  void combine(const Tokens& tokens, TokenRun run, const CardRoute& route, const Tensor& partial_UD, const Tensor& y_MD,
               const Tensor& first_MD, const Tensor& second_MD) override {
    check_tokens(tokens);
    FOURMI_CHECK(partial_UD.dim(1) * size_of(partial_UD.dtype) <= ends_.peers.window.shape(Way::combine).slot_bytes,
                 "results {} {} in slots of {} bytes", name_of(partial_UD.dtype), to_string(partial_UD.shape),
                 ends_.peers.window.shape(Way::combine).slot_bytes);
    cuda::bring_from_experts(stream_, ends_, tokens, run, tables_of(route), partial_UD, y_MD, first_MD, second_MD);
  }
  void check() const override {
    auto& r = *report_.as<cuda::GaveUp>();
    if (std::atomic_ref(r.written).load(std::memory_order_acquire) == 0) return;
    if (r.what == cuda::Awaited::space)
      throw Error(ExitStatus::bug, "expert-parallel dispatch",
                  fmt::format("{} rows arrive where there is space for {}", r.seen, r.wanted), "Report this");
    const char* const way = r.way == Way::dispatch ? "dispatch" : "combine";
    const std::string what =
        r.what == cuda::Awaited::count ? "has not said how many rows it sends"
        : r.what == cuda::Awaited::row
            ? fmt::format("has sent {} rows of {} in all, not yet number {}", r.seen, way, r.wanted)
            : fmt::format("has taken {} rows of {} in all, {} were expected", r.seen, way, r.wanted);
    const auto waited = patience_ * (r.what == cuda::Awaited::room ? 2 : 1);
    throw Error(ExitStatus::rank_lost, "expert-parallel dispatch",
                fmt::format("rank {} of {} {} in channel {}, for {} ms", r.peer, ends_.num_ranks(), what, r.channel,
                            std::chrono::duration_cast<std::chrono::milliseconds>(waited).count()),
                "Start the run again; it goes on at its last checkpoint");
  }

 private:
  void check_tokens(const Tokens& tokens) const {
    FOURMI_CHECK(tokens.num_ranks == ends_.num_ranks() && tokens.num_choices >= 1 && tokens.experts_each >= 1,
                 "{} ranks, {} choices, {} experts each", tokens.num_ranks, tokens.num_choices, tokens.experts_each);
  }
  cuda::RouteTables tables_of(const CardRoute& route) const {
    const auto table = [&](const Tensor& t, std::int64_t size) {
      FOURMI_CHECK(t.device == Device::cuda && t.dtype == DType::i32 && t.num_elements() >= size, "a table {} of {}",
                   to_string(t.shape), size);
      return static_cast<std::int32_t*>(t.data);
    };
    const int lanes = ends_.num_lanes();
    return {table(route.sent, lanes), table(route.received, lanes), table(route.first, lanes + 1)};
  }

  const cuda::CudaStream& stream_;
  Held bases_, positions_, claimed_, report_;
  std::chrono::nanoseconds patience_;
  cuda::Ends ends_;
  std::uint64_t announced_ = 0;
  int round_ = 0;
};

}  // namespace

}  // namespace fourmi::exchange

std::unique_ptr<fourmi::exchange::CardExchange> fourmi::cuda::make_exchange(
    DeviceStream& stream, std::span<std::byte* const> bases, const exchange::Window& window, int rank,
    const exchange::CardExchangeOptions& options) {
  exchange::check_window(window, bases.size());
  return std::make_unique<exchange::Exchange>(stream, bases, window, rank, options);
}

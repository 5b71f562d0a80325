// Dispatch by kernels that write into peers' memory (kernels/exchange/on_card.h): the form of device.h for ranks whose
// rows lie in GPUs' memory. Kernels go to a stream of their own, so that others compute meanwhile; it and the rank's
// stream wait for each other by events. How many rows arrive stays on the card. The host asks once a plan, when its
// first transfer is finished, since who computes with what arrived sizes it by that number
// (framework/model/experts.cpp: permute_plan asks for the experts' offsets there as well); it waits in no other call,
// but where rounds are chosen.
#include "kernels/exchange/on_card.h"

#include <algorithm>
#include <numeric>

#include "kernels/exchange/window.h"
#include "parallel/dispatch/device_window.h"
#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/methods.h"
#include "parallel/dispatch/peer_windows.h"

namespace fourmi {
namespace {

using exchange::CardRoute;

class OnCard final : public Dispatcher {
 public:
  OnCard(Group& group, const DispatchOptions& options, const Tensor& window)
      : Dispatcher(DispatchMethod::device, group, options, num_kinds),
        stream_(group.device()->runtime().make_stream()),
        windows_(group, device_window(group.size(), options), window),
        exchange_(make_card_exchange(*stream_, {windows_.peers().base, static_cast<std::size_t>(group.size())},
                                     windows_.peers().window, group.rank(), {options.patience})),
        ready_(stream_->make_event()),
        lanes_(std::int64_t{group.size()} * options.num_channels),
        counts_(stream_->runtime().allocate_host(4 * sizes_.route_entries, "counts of a dispatch")),
        sent_(static_cast<std::size_t>(group.size() * num_blocks())),
        received_(sent_.size()) {
    group.barrier();  // what is made here waits for the whole card: no rank's kernels wait for this one yet
  }
  ~OnCard() override {
    exchange_.reset();
    stream_->runtime().release_host(counts_);
  }

  void plan(const Stream& stream, const Tensor& experts_MK, DispatchPlan& plan, DispatchBuffers& buffers) override {
    if (is_bounded())
      Dispatcher::plan(stream, experts_MK, plan, buffers);
    else
      plan_one_round(experts_MK, plan);
    const Span span(stream.timeline(), Work::dispatch, "dispatch_counts");
    ++announcement_;
    const std::int64_t bytes = (group_.size() - 1) * plan.num_rounds() * options_.num_channels * size_of(DType::i64);
    group_.made(Call::all_to_all, bytes, bytes);
    traffic_.routing_bytes += bytes;
    begin(stream);
    for (int q = 0; q < plan.num_rounds(); ++q)
      exchange_->count(tokens_of(plan, {}, 0, {}), run(plan, q), announcement_, q, route_of(plan, q));
  }

  Transit start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                         const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_start");
    Transit t = open(plan, round, x_MD, weights_MK, into, b);
    meter(away(plan.leaving, round), away(plan.arriving, round), weights_MK ? sizes_.record_bytes : 0, t.row_bytes);
    const exchange::Tokens tokens = tokens_of(plan, x_MD, t.row_bytes, weights_MK);
    begin(stream);
    exchange_->dispatch(tokens, run(plan, round), route_of(plan, round),
                        {.rows = static_cast<std::byte*>(t.into.x_UD.data),
                         .row_bytes = t.row_bytes,
                         .capacity = t.into.x_UD.dim(0),
                         .records = weights_MK ? static_cast<std::byte*>(b.got_records.data) : nullptr,
                         .record_bytes = sizes_.record_bytes,
                         .record_at = tokens.record_at});
    under_way(stream, t);
    return t;
  }

  Arrivals finish_dispatch(const Stream& stream, Transit& t) override {
    const Span span(stream.timeline(), Work::dispatch, "dispatch_finish");
    t.rows.wait();
    if (t.plan->arriving.empty()) learn(*t.plan, t);
    const std::int64_t U = t.plan->num_arriving(t.round);
    t.into.x_UD = t.into.x_UD.rows(0, U);
    if (t.into.weights_UK)
      t.into.experts_UK = t.into.experts_UK.rows(0, U), t.into.weights_UK = t.into.weights_UK.rows(0, U);
    return unpacked(stream, t);
  }

  /// The sums are made while others compute, unrounded; who finishes adds to them and rounds.
  Transit start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                        DispatchBuffers& b) override {
    const Span span(stream.timeline(), Work::combine, "combine_start");
    Transit t = open_combine(plan, round, partial_UD, b);
    meter(away(plan.arriving, round), away(plan.leaving, round), 0, t.row_bytes);
    begin(stream);
    exchange_->combine(tokens_of(plan, {}, 0, {}), run(plan, round), route_of(plan, round), partial_UD, sums_of(t), {},
                       {});
    under_way(stream, t);
    return t;
  }

  void finish_combine(const Stream& stream, Transit& t, const Tensor& y_MD, const Tensor& first_MD,
                      const Tensor& second_MD) override {
    const Span span(stream.timeline(), Work::combine, "combine_finish");
    const DispatchPlan& plan = *t.plan;
    t.rows.wait();
    const auto of_round = [&](const Tensor& all) { return plan.of_round(all, t.round); };
    sum_copies(stream, {}, of_round(sums_of(t)), of_round(y_MD), of_round(first_MD), of_round(second_MD));
  }

  void check() const override { exchange_->check(); }

 protected:
  /// Where a bound can be reached: the rounds, from the choices that the host has read.
  void route(const Stream&, DispatchPlan& plan, DispatchBuffers&) override {
    const std::int64_t B = num_blocks(), M = plan.experts_MK.dim(0), K = options_.num_choices;
    const auto* experts = plan.experts_MK.as<std::int32_t>();
    std::fill(sent_.begin(), sent_.end(), 0);
    for (std::int64_t i = 0, before = -1; i < M * K; ++i) {
      const std::int64_t rank = experts[i] / num_local();
      if (i % K == 0 || rank != before) {
        ++sent_[static_cast<std::size_t>(rank * B + block_of(i / K))];
        ++loads_.load(sending, block_of(i / K));
      }
      before = rank;
    }
    exchange_lists(group_, sent_, received_);
    traffic_.routing_bytes += (group_.size() - 1) * B * size_of(DType::i64);
    for (std::size_t i = 0; i < received_.size(); ++i)
      loads_.load(receiving, static_cast<std::int64_t>(i) % B) += received_[i];
    choose_rounds(plan);
    const auto P = static_cast<std::size_t>(group_.size());
    plan.leaving.assign(plan.arriving.size(), 0);
    for (int q = 0; q < plan.num_rounds(); ++q)
      for (std::size_t r = 0; r < P; ++r) {
        const std::size_t at = static_cast<std::size_t>(q) * P + r;
        plan.leaving[at] = in_round(sent_, r, q), plan.arriving[at] = in_round(received_, r, q);
      }
  }

 private:
  enum Kind : int { sending, receiving, num_kinds };
  struct Transfer {
    std::unique_ptr<DeviceEvent> done;
    DeviceStream* work = nullptr;  ///< that waits for it
    bool in_use = false;
  };

  void plan_one_round(const Tensor& experts_MK, DispatchPlan& plan) const {
    const std::int64_t M = experts_MK.dim(0), K = experts_MK.dim(1);
    FOURMI_CHECK(K == options_.num_choices && M <= options_.max_tokens, "experts {}, expected at most [{}, {}]",
                 to_string(experts_MK.shape), options_.max_tokens, options_.num_choices);
    plan.experts_MK = experts_MK;
    plan.token_begin.assign(1, 0);
    plan.token_begin.push_back(M);
    plan.arriving.clear(), plan.leaving.clear();
  }

  /// What the card has heard of the one round of a plan, from behind its first transfer.
  void learn(const DispatchPlan& plan, const Transit& t) {
    stream_->read(counts_, plan.counts_QN.data, 4 * sizes_.route_entries);
    exchange_->check();  // what a kernel that gave up left are no counts
    const auto P = static_cast<std::size_t>(group_.size());
    const auto* const counts = static_cast<const std::int32_t*>(counts_);
    plan.leaving.assign(P, 0), plan.arriving.assign(P, 0);
    for (std::int64_t i = 0; i < lanes_; ++i) {
      const auto rank = static_cast<std::size_t>(i / options_.num_channels);
      plan.leaving[rank] += static_cast<std::size_t>(counts[i]);
      plan.arriving[rank] += static_cast<std::size_t>(counts[lanes_ + i]);
    }
    count_arrivals(plan);
    const std::int64_t sent = away(plan.leaving, 0), received = away(plan.arriving, 0);
    const std::int64_t record = t.into.weights_UK ? sizes_.record_bytes : 0;
    group_.moved(Call::all_to_all, sent * (record + t.row_bytes), received * (record + t.row_bytes));
    count_traffic(sent, record, t.row_bytes);
  }

  /// Of a round's rows those of other ranks; none while nobody knows.
  std::int64_t away(const std::vector<std::size_t>& rows, int round) const {
    if (rows.empty()) return 0;
    const auto first = rows.begin() + std::ptrdiff_t{round} * group_.size();
    return std::accumulate(first, first + group_.size(), std::int64_t{0},
                           [](std::int64_t sum, std::size_t n) { return sum + static_cast<std::int64_t>(n); }) -
           static_cast<std::int64_t>(first[group_.rank()]);
  }
  /// The calls that the transfer stands for, as of the other dispatchers; record: 0 where none travel.
  void meter(std::int64_t sent, std::int64_t received, std::int64_t record, std::int64_t row) {
    if (record > 0) group_.made(Call::all_to_all, sent * record, received * record);
    group_.made(Call::all_to_all, sent * row, received * row);
    count_traffic(sent, record, row);
  }
  void count_traffic(std::int64_t sent, std::int64_t record, std::int64_t row) {
    traffic_.routing_bytes += sent * record;
    traffic_.rows_across += sent;
    traffic_.bytes_across += sent * row;
  }

  /// A transfer whose rows are `into`, which has room for all that can come while nobody knows how many do.
  Transit open(const DispatchPlan& plan, int round, const Tensor& x_MD, const Tensor& weights_MK, const Arrivals& into,
               const DispatchBuffers& buffers) const {
    if (!plan.arriving.empty()) return open_dispatch(plan, round, x_MD, weights_MK, into, buffers);
    Transit t;
    t.plan = &plan, t.round = round, t.buffers = buffers, t.into = into;
    t.row_bytes = bytes_of(x_MD.dtype, {x_MD.dim(1)});
    FOURMI_CHECK(x_MD.dim(0) == plan.experts_MK.dim(0) && t.row_bytes <= sizes_.row_bytes &&
                     into.x_UD.dim(0) >= sizes_.most_arrivals && into.x_UD.dim(1) == x_MD.dim(1) &&
                     into.x_UD.dtype == x_MD.dtype,
                 "{} {} arrive in {} {}", name_of(x_MD.dtype), to_string(x_MD.shape), name_of(into.x_UD.dtype),
                 to_string(into.x_UD.shape));
    if (!weights_MK)
      t.into.experts_UK = t.into.weights_UK = {};
    else
      FOURMI_CHECK(weights_MK.shape == plan.experts_MK.shape && weights_MK.dtype == options_.weights &&
                       into.experts_UK.dim(0) >= sizes_.most_arrivals &&
                       into.weights_UK.dim(0) >= sizes_.most_arrivals && into.weights_UK.dtype == options_.weights,
                   "weights {} {} arrive in {} {}", name_of(weights_MK.dtype), to_string(weights_MK.shape),
                   name_of(into.weights_UK.dtype), to_string(into.weights_UK.shape));
    return t;
  }

  static Tensor on_card(void* data, DType dtype, const Shape& shape) {
    Tensor t(data, dtype, shape);
    t.device = Device::cuda;
    return t;
  }
  /// Where the sums of a combine lie until it is finished.
  static Tensor sums_of(const Transit& t) {
    return on_card(t.buffers.rows.data, t.into.x_UD.dtype, {t.plan->experts_MK.dim(0), t.into.x_UD.dim(1)});
  }
  exchange::CardRoute route_of(const DispatchPlan& plan, int round) const {
    auto* const first = static_cast<std::int32_t*>(plan.counts_QN.data) + round * sizes_.route_entries;
    const auto table = [](std::int32_t* at, std::int64_t n) { return on_card(at, DType::i32, {n}); };
    return {table(first, lanes_), table(first + lanes_, lanes_), table(first + 2 * lanes_, lanes_ + 1)};
  }
  static exchange::TokenRun run(const DispatchPlan& plan, int round) { return {plan.begin(round), plan.end(round)}; }
  exchange::Tokens tokens_of(const DispatchPlan& plan, const Tensor& rows, std::int64_t row_bytes,
                             const Tensor& weights_MK) const {
    return {.rows = static_cast<const std::byte*>(rows.data),
            .row_bytes = row_bytes,
            .experts_MK = static_cast<const std::int32_t*>(plan.experts_MK.data),
            .weights_MK = static_cast<const std::byte*>(weights_MK.data),
            .weight_bytes = size_of(options_.weights),
            .num_choices = static_cast<int>(options_.num_choices),
            .experts_each = static_cast<int>(num_local()),
            .num_ranks = group_.size(),
            .record_at = record_place(options_)};
  }

  /// What comes now comes behind the work of the rank's stream.
  void begin(const Stream& stream) {
    FOURMI_CHECK(stream.device(), "rows of the host to be moved by kernels");
    ready_->record(*stream.device());
    ready_->wait(*stream_);
  }
  /// What was given to the kernels' stream is a transfer, whose end the rank's stream waits for.
  void under_way(const Stream& stream, Transit& t) {
    auto free = std::find_if(transfers_.begin(), transfers_.end(), [](const auto& p) { return !p->in_use; });
    if (free == transfers_.end()) {
      transfers_.push_back(std::make_unique<Transfer>());
      transfers_.back()->done = stream_->make_event();
      free = transfers_.end() - 1;
    }
    Transfer& p = **free;
    p.in_use = true, p.work = stream.device();
    p.done->record(*stream_);
    t.rows = Request(
        [&p] {
          p.done->wait(*p.work);
          p.in_use = false;
        },
        [this] { group_.cancel("a rank stopped in the midst of a dispatch"); });
  }

  std::unique_ptr<DeviceStream> stream_;
  PeerWindows windows_;
  std::unique_ptr<exchange::CardExchange> exchange_;  // ends before the windows do
  std::unique_ptr<DeviceEvent> ready_;
  std::int64_t lanes_;
  void* counts_;  // the host's, of one round
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<std::int64_t> sent_, received_;  // [ranks][blocks] rows
  std::uint64_t announcement_ = 0;
};

}  // namespace

std::unique_ptr<Dispatcher> make_on_card(Group& group, const DispatchOptions& options, const Tensor& window) {
  FOURMI_CHECK(group.device() && window.device == Device::cuda, "a window of the host for kernels of GPUs");
  return std::make_unique<OnCard>(group, options, window);
}

}  // namespace fourmi

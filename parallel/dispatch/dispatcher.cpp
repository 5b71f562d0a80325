#include "parallel/dispatch/dispatcher.h"

#include <algorithm>
#include <bit>

#include "kernels/ops/dispatch_rows.h"
#include "parallel/dispatch/device_window.h"
#include "parallel/dispatch/exchange.h"
#include "parallel/dispatch/methods.h"
#include "parallel/dispatch/rail.h"

namespace fourmi {
namespace {

[[noreturn]] void refuse(const std::string& cause, const std::string& remedy) {
  throw Error(ExitStatus::usage, "expert-parallel dispatch", cause, remedy);
}

DispatchOptions checked(DispatchMethod method, std::int64_t P, DispatchOptions o) {
  FOURMI_CHECK(o.num_choices >= 1 && o.num_choices <= o.num_experts && o.max_tokens >= 1 && o.row_bytes >= 1 &&
                   o.max_rows >= 0 && o.max_choices >= 0 && o.block >= 0 &&
                   (o.weights == DType::f32 || o.weights == DType::f64),
               "{} of {} experts, {} tokens, rows of {} bytes, weights {}", o.num_choices, o.num_experts, o.max_tokens,
               o.row_bytes, name_of(o.weights));
  if (o.num_experts % P != 0)
    refuse(fmt::format("found {} experts on {} ranks, expected a multiple of the ranks", o.num_experts, P),
           "Choose a number of expert-parallel ranks that divides the experts");
  if (knows_nodes(method) && (o.node_size < 1 || o.node_size > 64 ||
                              !std::has_single_bit(static_cast<unsigned>(o.node_size)) || P % o.node_size != 0))
    refuse(fmt::format("found nodes of {} ranks in a group of {}, expected a power of two up to 64 that divides it",
                       o.node_size, P),
           "Choose another size of a node, or the all-to-all dispatcher");
  if (o.block == 0 || o.block > o.max_tokens) o.block = std::max<std::int64_t>(1, o.max_tokens);
  if (const std::int64_t least = P * o.block; o.max_rows > 0 && o.max_rows < least)
    refuse(
        fmt::format("found a bound of {} rows received at a time, expected at least {}: {} tokens, the least that is "
                    "dispatched at once, of each of {} ranks may all choose one rank's experts",
                    o.max_rows, least, o.block, P),
        "Raise the bound, or shorten sequences or micro-batches");
  const std::int64_t each = std::min(o.num_choices, o.num_experts / P);
  if (const std::int64_t least = P * o.block * each; o.max_choices > 0 && o.max_choices < least)
    refuse(
        fmt::format("found a bound of {} choices computed at a time, expected at least {}: {} tokens, the least that "
                    "is dispatched at once, of each of {} ranks may choose {} experts of one rank each",
                    o.max_choices, least, o.block, P, each),
        "Raise the bound, or shorten sequences or micro-batches");
  return o;
}

}  // namespace

ReachableBounds reachable_bounds(int num_ranks, const DispatchOptions& o) {
  const std::int64_t worst = num_ranks * o.max_tokens,
                     worst_choices = worst * std::min(o.num_choices, o.num_experts / num_ranks);
  return {.rows = o.max_rows > 0 && o.max_rows<worst, .choices = o.max_choices> 0 && o.max_choices < worst_choices};
}

DispatchSizes dispatch_sizes(DispatchMethod method, int num_ranks, const DispatchOptions& options) {
  const DispatchOptions o = checked(method, num_ranks, options);
  const std::int64_t K = o.num_choices, P = num_ranks, worst = P * o.max_tokens, each = std::min(K, o.num_experts / P),
                     rows = o.max_rows > 0 ? std::min(o.max_rows, worst) : worst,
                     choices = o.max_choices > 0 ? std::min(o.max_choices, worst * each) : worst * each;
  DispatchSizes s{.max_tokens = o.max_tokens, .num_choices = K, .max_rows = rows, .row_bytes = o.row_bytes};
  s.most_arrivals = std::min(rows, choices);  // none comes for no choice
  s.most_choices = std::min(choices, rows * each);
  if (P == 1) {
    s.max_rows = 0;
    return s;
  }
  s.record_bytes = record_bytes(K, o.weights);
  if (method == DispatchMethod::device) {
    s.window_bytes = device_window(num_ranks, o).bytes();
    if (!o.on_card) return s;
    s.route_rounds = reachable_bounds(num_ranks, o).any() ? (o.max_tokens + o.block - 1) / o.block : 1;
    s.route_entries = 3 * P * o.num_channels + 1;
    s.staging_rows = o.max_tokens;
    return s;
  }
  if (method == DispatchMethod::rail) s.window_bytes = rail_window(num_ranks, o).bytes();
  if (knows_nodes(method)) {
    const std::int64_t nodes = P / o.node_size;
    s.token_ranks = std::min(K, nodes);
    s.forward_ranks = std::min<std::int64_t>(K, o.node_size);
    s.max_forwards = nodes * o.max_tokens;
    s.staging_rows = rows;
    s.two_hops = true;
  } else {
    s.token_ranks = std::min(K, P);
    s.staging_rows = std::min(rows, o.max_tokens * s.token_ranks);
  }
  return s;
}

Dispatcher::Dispatcher(DispatchMethod method, Group& group, const DispatchOptions& options, int num_kinds)
    : group_(group),
      options_(options),
      sizes_(dispatch_sizes(method, group.size(), options)),
      loads_(num_kinds + 1, std::max<std::int64_t>(1, (options.max_tokens + options.block - 1) / options.block),
             group.size()) {
  const std::int64_t worst = group.size() * options.max_tokens,
                     worst_choices = worst * std::min(options.num_choices, num_local());
  const ReachableBounds bounds = reachable_bounds(group.size(), options);
  rows_bounded_ = bounds.rows, choices_bounded_ = bounds.choices;
  limits_.assign(static_cast<std::size_t>(num_kinds), rows_bounded_ ? options.max_rows : worst);
  limits_.push_back(choices_bounded_ ? options.max_choices : worst_choices);
  ends_.reserve(static_cast<std::size_t>(num_blocks()));
  if (choices_bounded_) choices_sent_.resize(static_cast<std::size_t>(group.size() * num_blocks()));
  choices_got_.resize(choices_sent_.size());
}

void Dispatcher::reserve(DispatchPlan& plan) const {
  const auto rounds = static_cast<std::size_t>(num_blocks()), ranks = static_cast<std::size_t>(group_.size());
  plan.token_begin.reserve(rounds + 1);
  plan.arriving.reserve(rounds * ranks), plan.leaving.reserve(rounds * ranks);
  if (sizes_.window_bytes > 0 && !options_.on_card)
    for (auto* lanes : {&plan.lanes_sent, &plan.lanes_received})
      lanes->reserve(rounds * ranks * static_cast<std::size_t>(options_.num_channels));
  for (Route* route : {&plan.tokens, &plan.forwards}) route->reserve(rounds, ranks);
}

DispatchPlan Dispatcher::make_plan() const {
  DispatchPlan plan;
  reserve(plan);
  return plan;
}

void Dispatcher::plan(const Stream& stream, const Tensor& experts_MK, DispatchPlan& plan, DispatchBuffers& buffers) {
  const Span span(stream.timeline(), Work::dispatch, "dispatch_plan");
  const std::int64_t M = experts_MK.dim(0), K = experts_MK.dim(1);
  FOURMI_CHECK(K == options_.num_choices && M <= options_.max_tokens, "experts {}, expected at most [{}, {}]",
               to_string(experts_MK.shape), options_.max_tokens, options_.num_choices);
  plan.experts_MK = experts_MK;
  const PlannedOnHost planned(host_, stream, plan);
  const auto* experts = plan.experts_MK.as<std::int32_t>();
  for (std::int64_t i = 0; i < M * K; ++i) {
    const std::int64_t before = i % K == 0 ? -1 : experts[i - 1];
    FOURMI_CHECK(experts[i] > before && experts[i] < options_.num_experts, "choice {} of token {}: expert {} behind {}",
                 i % K, i / K, experts[i], before);
  }
  loads_.clear();
  if (choices_bounded_) count_choices(plan.experts_MK);
  route(stream, plan, buffers);
  count_arrivals(plan);
}

void Dispatcher::count_arrivals(const DispatchPlan& plan) {
  ++load_.micro_batches;
  load_.rounds += plan.num_rounds();
  load_.tokens += plan.experts_MK.dim(0);
  std::int64_t arrived = 0;
  for (int q = 0; q < plan.num_rounds(); ++q) {
    const std::int64_t n = plan.num_arriving(q);
    arrived += n;
    load_.most_in_a_round = std::max(load_.most_in_a_round, n);
  }
  load_.arrived += arrived;
  load_.most_arrived = std::max(load_.most_arrived, arrived);
}

void Dispatcher::count_choices(const Tensor& experts_MK) {
  const std::int64_t B = num_blocks(), K = experts_MK.dim(1), kind = static_cast<std::int64_t>(limits_.size()) - 1;
  const auto* experts = experts_MK.as<std::int32_t>();
  std::fill(choices_sent_.begin(), choices_sent_.end(), 0);
  for (std::int64_t i = 0; i < experts_MK.num_elements(); ++i)
    ++choices_sent_[static_cast<std::size_t>(experts[i] / num_local() * B + block_of(i / K))];
  exchange_lists(group_, choices_sent_, choices_got_);
  traffic_.routing_bytes += (group_.size() - 1) * B * size_of(DType::i64);
  for (std::size_t i = 0; i < choices_got_.size(); ++i)
    loads_.load(static_cast<int>(kind), static_cast<std::int64_t>(i) % B) += choices_got_[i];
}

void Dispatcher::choose_rounds(DispatchPlan& plan) {
  if (is_bounded())
    loads_.choose_rounds(group_, limits_, ends_);
  else
    ends_.assign(1, num_blocks());
  const std::int64_t M = plan.experts_MK.dim(0);
  plan.token_begin.assign(1, 0);
  for (const std::int64_t end : ends_) plan.token_begin.push_back(std::min(M, end * options_.block));
  plan.arriving.assign(ends_.size() * static_cast<std::size_t>(group_.size()), 0);
  if (is_bounded()) traffic_.routing_bytes += (group_.size() - 1) * loads_.bytes();
}

std::size_t Dispatcher::in_round(const std::vector<std::int64_t>& counts, std::size_t list, int round) const {
  std::int64_t sum = 0;
  const std::int64_t* of_list = counts.data() + static_cast<std::int64_t>(list) * num_blocks();
  for (std::int64_t b = first_block(round); b < end_block(round); ++b) sum += of_list[b];
  return static_cast<std::size_t>(sum);
}

Transit Dispatcher::open_dispatch(const DispatchPlan& plan, int round, const Tensor& x_MD, const Tensor& weights_MK,
                                  const Arrivals& into, const DispatchBuffers& buffers) const {
  const std::int64_t M = plan.experts_MK.dim(0), U = plan.num_arriving(round);
  Transit t;
  t.plan = &plan, t.round = round, t.buffers = buffers;
  t.row_bytes = bytes_of(x_MD.dtype, {x_MD.dim(1)});
  FOURMI_CHECK(x_MD.dim(0) == M && t.row_bytes <= sizes_.row_bytes && into.x_UD.dim(0) >= U &&
                   into.x_UD.dim(1) == x_MD.dim(1) && into.x_UD.dtype == x_MD.dtype,
               "{} {} of {} tokens, {} arrive in {} {}", name_of(x_MD.dtype), to_string(x_MD.shape), M, U,
               name_of(into.x_UD.dtype), to_string(into.x_UD.shape));
  t.into.x_UD = into.x_UD.rows(0, U);
  if (!weights_MK) return t;
  FOURMI_CHECK(weights_MK.shape == plan.experts_MK.shape && weights_MK.dtype == options_.weights &&
                   into.experts_UK.dim(0) >= U && into.weights_UK.dim(0) >= U &&
                   into.weights_UK.dtype == options_.weights,
               "weights {} {}, {} arrive in {} {}", name_of(weights_MK.dtype), to_string(weights_MK.shape), U,
               name_of(into.weights_UK.dtype), to_string(into.weights_UK.shape));
  t.into.experts_UK = into.experts_UK.rows(0, U);
  t.into.weights_UK = into.weights_UK.rows(0, U);
  return t;
}

Transit Dispatcher::open_combine(const DispatchPlan& plan, int round, const Tensor& partial_UD,
                                 const DispatchBuffers& buffers) const {
  Transit t;
  t.plan = &plan, t.round = round, t.buffers = buffers, t.into.x_UD = partial_UD;
  t.row_bytes = partial_UD.dim(1) * size_of(partial_UD.dtype);
  FOURMI_CHECK(partial_UD.dtype == options_.weights && t.row_bytes <= sizes_.row_bytes &&
                   partial_UD.dim(0) >= plan.num_arriving(round),
               "partial {} {} for {} rows", name_of(partial_UD.dtype), to_string(partial_UD.shape),
               plan.num_arriving(round));
  return t;
}

Arrivals Dispatcher::unpacked(const Stream& stream, const Transit& t) const {
  if (t.into.weights_UK)
    unpack_records(stream, bytes_of(t.buffers.got_records), first_expert(), num_local(), t.into.experts_UK,
                   t.into.weights_UK);
  return t.into;
}

Arrivals Dispatcher::dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                              const Tensor& weights_MK, const Arrivals& into, DispatchBuffers& buffers) {
  Transit transit = start_dispatch(stream, plan, round, x_MD, weights_MK, into, buffers);
  return finish_dispatch(stream, transit);
}

void Dispatcher::combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD,
                         DispatchBuffers& buffers, const Tensor& y_MD, const Tensor& first_MD,
                         const Tensor& second_MD) {
  Transit transit = start_combine(stream, plan, round, partial_UD, buffers);
  finish_combine(stream, transit, y_MD, first_MD, second_MD);
}

Tensor DispatchPlan::of_round(const Tensor& x_M, int round) const {
  return x_M ? x_M.rows(begin(round), end(round)) : x_M;
}

std::int64_t DispatchPlan::num_arriving(int round) const {
  FOURMI_CHECK(!arriving.empty(), "nobody knows yet what arrives in round {}", round);
  const std::size_t P = arriving.size() / static_cast<std::size_t>(num_rounds());
  std::size_t sum = 0;
  for (std::size_t r = 0; r < P; ++r) sum += arriving[static_cast<std::size_t>(round) * P + r];
  return static_cast<std::int64_t>(sum);
}

std::int64_t list_destinations(const Tensor& experts_MK, std::int64_t experts_each, const Route& route) {
  const std::int64_t K = experts_MK.dim(1), C = route.rank_RC.dim(1);
  const auto* experts = experts_MK.as<std::int32_t>();
  auto* ranks = route.rank_RC.as<std::int32_t>();
  std::int64_t most = 0;
  for (std::int64_t t = 0; t < experts_MK.dim(0); ++t) {
    std::int64_t n = 0;
    for (std::int64_t k = 0; k < K; ++k) {
      const auto rank = static_cast<std::int32_t>(experts[t * K + k] / experts_each);
      if (n == 0 || ranks[t * C + n - 1] != rank) ranks[t * C + n++] = rank;
    }
    most = std::max(most, n);
    std::fill(ranks + t * C + n, ranks + (t + 1) * C, -1);
  }
  return most;
}

std::unique_ptr<Dispatcher> make_dispatcher(DispatchMethod method, Group& group, const DispatchOptions& options,
                                            const Tensor& window) {
  const DispatchOptions o = checked(method, group.size(), options);
  if (group.size() == 1) return make_local(group, o);
  if (method == DispatchMethod::local)
    refuse(fmt::format("found the local dispatcher for {} ranks, expected a group of one", group.size()),
           "Choose all-to-all or hierarchical");
  if (method == DispatchMethod::device)
    return o.on_card ? make_on_card(group, o, window) : make_device(group, o, window);
  if (method == DispatchMethod::rail) return make_rail(group, o, window);
  return method == DispatchMethod::all_to_all ? make_all_to_all(group, o) : make_hierarchical(group, o);
}

}  // namespace fourmi

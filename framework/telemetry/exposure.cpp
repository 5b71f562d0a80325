#include "framework/telemetry/exposure.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace fourmi {

namespace {

/// Inside a layer the world is the group of its axis.
bool is_of_a_layer(Work work) {
  switch (work) {
    case Work::embedding:
    case Work::norm:
    case Work::projections:
    case Work::attention:
    case Work::feed_forward:
    case Work::experts:
    case Work::quantise:
    case Work::head:
    case Work::exchange:
      return true;
    default:
      return false;
  }
}

/// Collective in the group of the embedding, whose members no axis tells.
std::vector<int> members(Group& group, int rank) {
  if (group.name() != RankGroups::embedding_name) return {};
  std::vector<int> ranks(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&rank, 1)), std::as_writable_bytes(std::span(ranks)));
  return ranks;
}

}  // namespace

std::string_view name_of(Wait wait) {
  static constexpr std::array<std::string_view, num_waits> names = {"dispatch", "combine", "pipeline", "tensor",
                                                                    "context",  "data",    "other"};
  return names[static_cast<std::size_t>(wait)];
}

CallLanes::CallLanes(const RankGroups& groups, Timeline& timeline, std::size_t most_records)
    : timeline_(timeline),
      world_(groups.world()),
      next_observer_(world_.calls()->observer()),
      most_records_(most_records) {
  const Mesh& mesh = groups.mesh();
  const int me = world_.rank();
  labels_.emplace_back();
  wait_of_label_.push_back(Wait::other);
  const auto label = [&](const char* name, Wait wait, std::vector<int> ranks) {
    labels_.push_back({name, std::move(ranks)});
    wait_of_label_.push_back(wait);
  };
  std::vector<int> all(static_cast<std::size_t>(mesh.ranks()));
  std::iota(all.begin(), all.end(), 0);
  label(RankGroups::world_name, Wait::other, std::move(all));
  label(RankGroups::data_name, Wait::data, mesh.peers(me, {Axis::data}));
  for (Copies copies : all_copies)
    label(RankGroups::holders_names[static_cast<std::size_t>(copies)], Wait::data, holders(mesh, me, copies));
  label(RankGroups::embedding_name, Wait::data, members(groups.embedding(), me));
  label(RankGroups::pipeline_name, Wait::pipeline, mesh.peers(me, {Axis::pipeline}));
  label(RankGroups::expert_name, Wait::dispatch, mesh.peers(me, {Axis::expert}));
  label(RankGroups::context_name, Wait::context, mesh.peers(me, {Axis::context}));
  label(RankGroups::expert_tensor_name, Wait::tensor, mesh.peers(me, {Axis::expert_tensor}));
  label(RankGroups::tensor_name, Wait::tensor, mesh.peers(me, {Axis::tensor}));
  if (&groups.context() == &world_) world_layer_ = Wait::context;
  if (&groups.tensor() == &world_ || &groups.expert_tensor() == &world_) world_layer_ = Wait::tensor;
  works_.reserve(64);
  records_.reserve(most_records);
  flights_.reserve(most_records / 2);
  world_.calls()->observe(this);
  timeline_.tell(this);
}

CallLanes::~CallLanes() {
  timeline_.tell(next_spans_);
  world_.calls()->observe(next_observer_);
}

void CallLanes::follow(DeviceStream& stream) {
  use(stream.make_clock());
  next_spans_ = stream.runtime().span_observer();
}

std::int64_t CallLanes::now() {
  if (clock_) return clock_->mark();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void CallLanes::begin_step(bool record) {
  thread_ = pthread_self();
  waits_.fill(0);
  marked_.clear();
  nested_ = 0;
  recording_ = record && most_records_ > 0;
  if (recording_) records_.clear(), flights_.clear(), forgotten_ = 0;
  in_step_ = true;
}

void CallLanes::end_step() {
  in_step_ = false;
  if (!clock_) return;
  const std::vector<std::int64_t>& times = clock_->read();
  const auto at = [&](std::int64_t mark) { return mark < 0 ? -1 : times[static_cast<std::size_t>(mark)]; };
  for (const WaitRecord& w : marked_) waits_[static_cast<std::size_t>(w.wait)] += at(w.end) - at(w.begin);
  if (!recording_) return;
  for (WaitRecord& w : records_) w.begin = at(w.begin), w.end = at(w.end);
  for (Flight& f : flights_) f.begin = at(f.begin), f.end = at(f.end);
}

void CallLanes::visit_waits(const std::function<void(const WaitRecord&)>& visit) const {
  for (const WaitRecord& w : records_) visit(w);
}

void CallLanes::visit_flights(const std::function<void(const Flight&)>& visit) const {
  for (const Flight& f : flights_)
    if (f.end >= 0) visit(f);
}

const CallLanes::Label& CallLanes::label(const Flight& flight) const {
  const auto at = static_cast<std::size_t>(flight.group);
  return labels_[at < known_.size() ? known_[at].label : 0];
}

CallLanes::Known CallLanes::know(const Group& group) const {
  if (group.size() == world_.size()) return {.wait = Wait::other, .is_world = true, .is_known = true, .label = 1};
  std::size_t at = labels_.size() - 1;
  while (at > 0 && labels_[at].name != group.name()) --at;
  return {.wait = wait_of_label_[at], .is_world = false, .is_known = true, .label = at};
}

Wait CallLanes::wait_of(int group) const {
  const Work work = works_.empty() ? Work::other : works_.back();
  switch (work) {
    case Work::dispatch:
      return Wait::dispatch;
    case Work::combine:
      return Wait::combine;
    case Work::pipeline:
      return Wait::pipeline;
    case Work::reduce:
    case Work::gather:
      return Wait::data;
    default:
      break;
  }
  const auto at = static_cast<std::size_t>(group);
  if (at >= known_.size()) return Wait::other;
  return known_[at].is_world && is_of_a_layer(work) ? world_layer_ : known_[at].wait;
}

void CallLanes::called(const Group& group, Call call) {
  if (next_observer_) next_observer_->called(group, call);
  called_ = &group;
}

std::int32_t CallLanes::started(std::uint64_t call, int peer, int tag, std::int64_t bytes) {
  const auto group = static_cast<std::size_t>(call >> 40 & 0xffff);
  if (group >= known_.size()) known_.resize(group + 1);
  if (!known_[group].is_known && called_) known_[group] = know(*called_);
  if (!recording_ || !is_on()) return -1;
  if (flights_.size() == most_records_ / 2) {
    ++forgotten_;
    return -1;
  }
  flights_.push_back({.begin = now(),
                      .call = static_cast<Call>(call >> 56),
                      .group = static_cast<int>(group),
                      .peer = peer,
                      .number = peer < 0 ? static_cast<std::int64_t>(call & 0xffffffffff) : tag,
                      .bytes = bytes});
  return static_cast<std::int32_t>(flights_.size()) - 1;
}

void CallLanes::ended(std::int32_t number) {
  const auto at = static_cast<std::size_t>(number);
  if (recording_ && is_on() && at < flights_.size()) flights_[at].end = now();
}

void CallLanes::entered(std::uint64_t call) {
  last_ = call;
  if (!is_on() || nested_++ > 0) return;
  wait_ = {.wait = wait_of(static_cast<int>(call >> 40 & 0xffff)), .call = static_cast<Call>(call >> 56)};
  wait_.begin = now();
}

void CallLanes::left() {
  if (!is_on() || --nested_ > 0) return;
  wait_.end = now();
  if (clock_)
    marked_.push_back(wait_);
  else
    waits_[static_cast<std::size_t>(wait_.wait)] += wait_.end - wait_.begin;
  if (!recording_) return;
  if (records_.size() < most_records_)
    records_.push_back(wait_);
  else
    ++forgotten_;
}

void CallLanes::opened(Work work, const char* name, std::int32_t layer) {
  works_.push_back(work);
  if (next_spans_) next_spans_->opened(work, name, layer);
}

void CallLanes::closed() {
  if (!works_.empty()) works_.pop_back();
  if (next_spans_) next_spans_->closed();
}

std::vector<std::pair<std::string, double>> exposure_figures(const Waits& step) {
  std::vector<std::pair<std::string, double>> figures;
  const auto add = [&](std::string_view what, std::int64_t nanoseconds) {
    const double seconds = std::round(static_cast<double>(nanoseconds) / 1e3) / 1e6;
    if (seconds > 0) figures.emplace_back(fmt::format("exposed_{}", what), seconds);
  };
  for (std::size_t i = 0; i < num_waits; ++i) add(name_of(static_cast<Wait>(i)), step[i]);
  add("communication", std::accumulate(step.begin(), step.end(), std::int64_t{0}));
  return figures;
}

}  // namespace fourmi

#include "framework/train/teacher/teacher_weights.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "kernels/ops/reduce.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

/// Of one layer's parameters (-1: of none) the masters, in memory while it lives.
class Masters {
 public:
  Masters(const ParameterStore& store, std::int64_t layer, const Stream& stream) : store_(store), stream_(stream) {
    for (const Parameter& p : store.table().all())
      if (p.layer == layer && p.local.num_elements() > 0) parameters_.push_back(&p);
    DeviceRuntime* const device = stream.device() ? &stream.device()->runtime() : nullptr;
    const auto take = [&](Arena& arena) {
      masters_.clear();
      for (const Parameter* p : parameters_)
        masters_.push_back(arena.allocate(p->local, store.types().accumulate, "masters of a layer"));
      rounded_ = store.types().scaled() ? arena.allocate({largest()}, store.types().activation, "weights") : Tensor{};
    };
    Arena measure({.name = "masters", .mode = Arena::Mode::measure, .device = device}, 0);
    take(measure);
    arena_.emplace(Arena::Options{.name = "masters", .device = device}, measure.peak());
    take(*arena_);
  }

  template <class Visit>
  void each(const Visit& visit) const {
    for (std::size_t i = 0; i < parameters_.size(); ++i) visit(*parameters_[i], masters_[i]);
  }

  /// Into the store.
  void round() const {
    each([&](const Parameter& p, const Tensor& masters) {
      if (!(store_.types().scaled() && p.is_map && p.set == ParameterSet::matrices && p.layer >= 0))
        return convert(stream_, masters, store_.weight(store_.slot(p.name)));
      const Tensor weight = rounded_.rows(0, p.local.num_elements()).view(p.local);
      convert(stream_, masters, weight);
      quantize(stream_, weight, store_.copies().of(p.offset, p.local), store_.types().weight_scaling);
    });
    if (stream_.device()) stream_.device()->synchronize();  // before this memory goes
  }

 private:
  std::int64_t largest() const {
    std::int64_t most = 1;
    for (const Parameter* p : parameters_) most = std::max(most, p->local.num_elements());
    return most;
  }

  const ParameterStore& store_;
  const Stream& stream_;
  std::vector<const Parameter*> parameters_;
  std::vector<Tensor> masters_;
  std::optional<Arena> arena_;
  Tensor rounded_;
};

void derive(const ParameterStore& store, const Stream& stream) {
  for (const Region& r : store.regions(ParameterSet::matrices))
    if (store.has_copy(r)) store.copies().derive(stream, r);
}

}  // namespace

void load_weights(Group& group, const Checkpoint& checkpoint, const ParameterStore& store, std::int64_t num_layers,
                  const Stream& stream, const StoredRows& other) {
  DeviceRuntime* const device = stream.device() ? &stream.device()->runtime() : nullptr;
  for (std::int64_t layer = -1; layer < num_layers; ++layer) {
    const Masters masters(store, layer, stream);
    std::vector<Box> wanted;
    masters.each([&](const Parameter& p, const Tensor& data) {
      const char* folder = p.set == ParameterSet::router_bias ? "/model/" : "/optimizer/master/";
      Shape stored = p.shape;
      Tensor rows = data;
      if (p.name == other.name && other.rows != p.shape[0]) {
        stored.dims[0] = other.rows;
        fill_zero(stream, data);
        const std::int64_t both = std::clamp<std::int64_t>(other.rows - p.first_row, 0, data.dim(0));
        if (both == 0) return;
        rows = data.rows(0, both);
      }
      wanted.push_back({folder + p.name, "", stored, p.first_row, rows, p.first_column, device});
    });
    load_boxes(group, checkpoint, wanted);
    masters.round();
  }
  derive(store, stream);
}

void initialise_weights(const ParameterStore& store, std::uint64_t seed, double initializer_range,
                        const Stream& stream) {
  std::int64_t layers = 0;
  for (const Parameter& p : store.table().all()) layers = std::max(layers, p.layer + 1);
  for (std::int64_t layer = -1; layer < layers; ++layer) {
    const Masters masters(store, layer, stream);
    masters.each([&](const Parameter& p, const Tensor& data) {
      const OnHost here(stream, data, OnHost::Use::fill);
      if (p.set == ParameterSet::router_bias)
        std::memset(here.tensor().data, 0, static_cast<std::size_t>(here.tensor().bytes()));
      else
        initialise_rows(p, seed, initializer_range, 0, here.tensor());
      here.back();
    });
    masters.round();
  }
  derive(store, stream);
}

}  // namespace fourmi

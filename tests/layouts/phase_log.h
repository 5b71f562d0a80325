// Times of the phases of pairs, from a rank's clock: what each phase computes before and behind what leaves in it, and
// how long that travels; what lies around the layers; and from when to when the micro-batches of a step last.
#pragma once

#include <map>
#include <string>

#include "framework/model/pair_seconds.h"
#include "kernels/runtime/timeline.h"
#include "parallel/schedule/verb_names.h"
#include "tests/layouts/virtual_group.h"

namespace fourmi {

struct Mean {
  double sum = 0;
  std::int64_t count = 0;
  void add(double x) { sum += x, ++count; }
  void add(const Mean& other) { sum += other.sum, count += other.count; }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
};

using PhaseKey = std::pair<std::int32_t, PairPhase>;  ///< layer
using PairList = std::vector<std::map<PhaseKey, PhaseSeconds>>;

/// What has been seen of a run, of one rank or of all.
struct PhaseTable {
  struct Phase {
    Mean before, beside, behind, travels;
  };
  std::map<PhaseKey, Phase> phases;
  std::map<std::int32_t, Mean> weights;  ///< of a layer's weight half, where it goes alone
  std::map<std::string, Mean> around;    ///< around the layers of a pair, by its span's name
  Mean rest;                             ///< of a pair, that no span names
  Mean late;                             ///< of messages between stages

  void add(const PhaseTable& other) {
    for (const auto& [key, p] : other.phases) {
      Phase& mine = phases[key];
      mine.before.add(p.before), mine.beside.add(p.beside), mine.behind.add(p.behind), mine.travels.add(p.travels);
    }
    for (const auto& [layer, m] : other.weights) weights[layer].add(m);
    for (const auto& [name, m] : other.around) around[name].add(m);
    rest.add(other.rest), late.add(other.late);
  }
};

/// Of one rank, in the thread that has the clock.
class PhaseLog : public SpanObserver, public TravelObserver {
 public:
  explicit PhaseLog(const VirtualClock& clock) : clock_(clock) {}

  /// Around a step.
  void begin() { first_ = -1, pairs.clear(), under_way_.clear(); }
  double first() const { return first_; }  ///< when the first of the step's actions began
  double last() const { return last_; }    ///< when the last one ended
  PhaseTable table;                        ///< of all steps
  PairList pairs;                          ///< of the last step, in order

  void opened(Work, const char* name, std::int32_t layer) override {
    Frame f{.name = name, .layer = layer};
    f.kind = kind_of(f.name, f.phase);
    if (f.kind == Kind::other && !frames_.empty() && frames_.back().name == "pair") f.kind = Kind::around;
    if (f.name == "pair") pairs.emplace_back();
    if (f.kind == Kind::action && first_ < 0) first_ = clock_.so_far();
    if (f.kind != Kind::other) f.begin = clock_.computed_so_far();
    frames_.push_back(f);
  }
  void closed() override {
    Frame f = frames_.back();
    frames_.pop_back();
    if (f.kind == Kind::other) return;
    const double end = clock_.computed_so_far(), took = end - f.begin;
    switch (f.kind) {
      case Kind::phase:
        close_phase(f, end);
        frames_.back().inside += took;
        break;
      case Kind::around:
        table.around[std::string(f.name)].add(took);
        frames_.back().inside += took;
        break;
      case Kind::weights:
        if (!frames_.empty() && frames_.back().name == "backward_weight") table.weights[f.layer].add(took);
        break;
      default:
        if (f.name == "pair") table.rest.add(took - f.inside);
        last_ = clock_.so_far();
    }
  }

  /// The last call of a phase carries its rows.
  std::int64_t left() override {
    Frame* f = phase();
    if (!f) return -1;
    f->left = clock_.computed, f->came = -1;
    return f->call = next_call_++;
  }
  void came(std::int64_t number, double travelled) override {
    if (Frame* f = phase(); f && f->call == number) f->came = clock_.computed;
    if (const auto at = under_way_.find(number); at != under_way_.end()) {
      table.phases[at->second].travels.add(travelled);
      pairs.back()[at->second].travels = travelled;  // it comes in the pair in which it left
      under_way_.erase(at);
    } else {
      came_at_once_ = travelled;
    }
  }

 private:
  enum class Kind : std::uint8_t { other, action, phase, weights, around };
  struct Frame {
    std::string_view name;
    std::int32_t layer = -1;
    Kind kind = Kind::other;
    PairPhase phase{};
    double begin = 0, inside = 0, left = -1, came = -1;
    std::int64_t call = -1;
  };
  static Kind kind_of(std::string_view name, PairPhase& phase) {
    for (std::size_t v = 0; v < num_verbs; ++v)
      if (name == name_of(static_cast<Verb>(v))) return Kind::action;
    if (name == "block_backward_weight") return Kind::weights;
    for (std::size_t p = 0; p < num_pair_phases; ++p)
      if (name == name_of(static_cast<PairPhase>(p))) {
        phase = static_cast<PairPhase>(p);
        return Kind::phase;
      }
    return Kind::other;
  }
  Frame* phase() {
    for (auto f = frames_.rbegin(); f != frames_.rend(); ++f)
      if (f->kind == Kind::phase) return &*f;
    return nullptr;
  }
  void close_phase(const Frame& f, double end) {
    const PhaseKey key(f.layer, f.phase);
    PhaseTable::Phase& p = table.phases[key];
    const double left = f.left < 0 ? end : f.left, came = f.came < 0 ? end : f.came;
    p.before.add(left - f.begin), p.beside.add(came - left), p.behind.add(end - came);
    pairs.back()[key] = {left - f.begin, f.came < 0 ? 0 : came_at_once_, came - left, end - came};
    if (f.call < 0) return;
    if (f.came < 0)
      under_way_[f.call] = key;
    else
      p.travels.add(came_at_once_);
  }

  const VirtualClock& clock_;
  std::vector<Frame> frames_;
  std::map<std::int64_t, PhaseKey> under_way_;
  std::int64_t next_call_ = 0;
  double came_at_once_ = 0;
  double first_ = -1, last_ = 0;
};

}  // namespace fourmi

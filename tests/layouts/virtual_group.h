// A group on a clock of its own: a rank's time is what its thread computes (time of its processor, which no other
// program changes), and a call's parts come so long after the last of its members started it as their bytes take on a
// link. Data moves for real; time does not pass. So a figure of overlap does not depend on who else uses the machine.
//
// Or on the machine's clock (`really`): time is what passes, and who waits for something sleeps until it would have
// come.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "parallel/group.h"

namespace fourmi {

/// Hears of the slow group's calls.
class TravelObserver {
 public:
  virtual ~TravelObserver() = default;
  virtual std::int64_t left() = 0;                               ///< a call starts: its number
  virtual void came(std::int64_t number, double travelled) = 0;  ///< what its bytes take, of the member with most; on
                                                                 ///< the machine's clock since this rank started it
};

/// Of one rank, by all of its groups.
struct VirtualClock {
  std::vector<std::string> slow;  ///< the groups whose calls take time, with those that they are cut into (their name
                                  ///< and a dot), all where none is named; what others
                                  ///< send is there at once
  bool all_to_alls = true;        ///< do theirs take time, too?
  double seconds_per_byte = 0;
  double seconds_per_call = 0;
  double now = 0;        ///< seconds
  double computed = 0;   ///< of them
  double travelled = 0;  ///< of the slow groups' calls, as if nothing hid them
  double exposed = 0;    ///< of `travelled`: what the rank waited for
  double late = 0;       ///< really: how much later than they came messages between two ranks were found to be there
  std::int64_t messages = 0;
  std::int64_t bytes = 0;  ///< that the slow groups sent
  std::int64_t calls = 0;  ///< of the slow groups

  bool really = false;
  TravelObserver* observer = nullptr;  ///< outlives the calls

  double time() const {
    std::timespec t{};
    clock_gettime(really ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  /// Before a group works; `resume` after it: what it takes itself does not count.
  void pause() {
    const double at = time(), worked = at - mark;
    now += worked, computed += worked, mark = at;
  }
  void resume() {
    mark = time();
    if (really) now = mark;
  }
  /// Between a resume() and a pause().
  double computed_so_far() const { return computed + time() - mark; }
  double so_far() const { return now + time() - mark; }
  double mark = time();
};

class VirtualGroup : public Group {
 public:
  /// `clock` outlives it; its subgroups share it. Of the thread that calls.
  VirtualGroup(std::unique_ptr<Group> inner, VirtualClock& clock)
      : Group(inner->name(), inner->rank(), inner->size()), inner_(std::move(inner)), clock_(clock) {
    share_calls(*inner_);
  }
  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    return std::make_unique<VirtualGroup>(inner_->subgroup(std::move(name), ranks), clock_);
  }
  Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override {
    return of_all(send.size() * others(), [&] { return inner_->start_all_gather(send, recv); });
  }
  Request start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                             std::span<const std::size_t> counts) override {
    return of_all(send.size() * others(), [&] { return inner_->start_all_gather_v(send, recv, counts); });
  }
  Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                           std::span<std::byte> recv, std::span<const std::size_t> recv_counts) override {
    return of_all(
        send.size() - send_counts[static_cast<std::size_t>(rank_)],
        [&] { return inner_->start_all_to_all(send, send_counts, recv, recv_counts); }, clock_.all_to_alls);
  }
  void broadcast(std::span<std::byte> data, int root) override {
    of_all(0, [&] {
      inner_->broadcast(data, root);
      return Request();
    }).wait();
  }
  void barrier() override {
    of_all(0, [&] { return Request(); }).wait();
  }
  Request start_send(std::span<const std::byte> data, int to, int tag) override {
    clock_.pause();
    auto call = std::make_shared<State>();
    call->mine = stamp(data.size());
    call->moves = inner_->start_send(data, to, tag);
    call->stamps = inner_->start_send(bytes(call->mine), to, tag + stamp_tag);
    clock_.resume();
    // What is sent has left when it is taken; nobody waits for a link here.
    return Request([this, call] {
      clock_.pause();
      call->moves.wait(), call->stamps.wait();
      clock_.resume();
    });
  }
  Request start_receive(std::span<std::byte> data, int from, int tag) override {
    clock_.pause();
    auto call = std::make_shared<State>();
    call->all.resize(1);
    call->moves = inner_->start_receive(data, from, tag);
    call->stamps = inner_->start_receive(bytes(call->all[0]), from, tag + stamp_tag);
    clock_.resume();
    return Request([this, call] { finish(*call, true); });
  }
  void cancel(const std::string& reason) override { inner_->cancel(reason); }
  bool cancelled() const override { return inner_->cancelled(); }

 private:
  struct Stamp {
    double started = 0, travels = 0;
  };
  struct State {
    Request moves, stamps;
    Stamp mine;
    std::vector<Stamp> all;
    std::int64_t number = -1;  // for who hears of it
  };
  static constexpr int stamp_tag = 1 << 29;
  static std::span<std::byte> bytes(Stamp& s) { return std::as_writable_bytes(std::span(&s, 1)); }
  std::size_t others() const { return static_cast<std::size_t>(size_ - 1); }

  bool is_slow(bool counts) const {
    const auto is_mine = [&](const std::string& s) { return name_ == s || name_.starts_with(s + "."); };
    return counts && (clock_.slow.empty() || std::any_of(clock_.slow.begin(), clock_.slow.end(), is_mine));
  }
  Stamp stamp(std::size_t bytes_sent, bool counts = true) {
    if (!is_slow(counts)) return {clock_.now, 0};
    clock_.bytes += static_cast<std::int64_t>(bytes_sent), ++clock_.calls;
    return {clock_.now, clock_.seconds_per_call + static_cast<double>(bytes_sent) * clock_.seconds_per_byte};
  }
  template <class Start>
  Request of_all(std::size_t bytes_sent, const Start& start, bool counts = true) {
    if (size_ == 1) return start();
    clock_.pause();
    auto call = std::make_shared<State>();
    call->mine = stamp(bytes_sent, counts);
    if (clock_.observer && is_slow(counts)) call->number = clock_.observer->left();
    call->all.resize(static_cast<std::size_t>(size_));
    call->moves = start();
    call->stamps = inner_->start_all_gather(bytes(call->mine), std::as_writable_bytes(std::span(call->all)));
    if (clock_.really) clock_.pause();  // once more: what the call itself took
    clock_.resume();
    return Request([this, call] { finish(*call); });
  }
  /// All has come when the last member's bytes have.
  void finish(State& call, bool message = false) {
    clock_.pause();
    const double asked = clock_.now;
    call.moves.wait(), call.stamps.wait();
    double started = 0, travels = 0;
    for (const Stamp& s : call.all) started = std::max(started, s.started), travels = std::max(travels, s.travels);
    clock_.travelled += travels;
    const double come = started + travels;
    if (clock_.really) clock_.now = clock_.time();
    clock_.exposed += std::clamp(come - clock_.now, 0.0, travels);
    if (clock_.really && come > clock_.now) sleep(come - clock_.now);
    clock_.now = clock_.really ? clock_.time() : std::max(clock_.now, come);
    const double late = clock_.really ? clock_.now - std::max(asked, come) : 0;
    clock_.computed += late;
    if (message) clock_.late += late, ++clock_.messages;
    if (call.number >= 0) clock_.observer->came(call.number, clock_.really ? come - call.mine.started : travels);
    clock_.resume();
  }
  static void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

  std::unique_ptr<Group> inner_;
  VirtualClock& clock_;
};

}  // namespace fourmi

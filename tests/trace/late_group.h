// A group whose calls end later than they need to, and which knows by itself how long its rank waited in them: what
// exposed communication is held against.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "parallel/call_timer.h"
#include "parallel/group.h"

namespace fourmi {

struct Lateness {
  std::chrono::nanoseconds delay{0};
  struct Time {
    std::chrono::nanoseconds waited{0}, slept{0};  ///< in all calls; in them because of the delay
    int calls = 0;
  };
  std::map<std::string, Time> by_group;
};

class LateGroup : public Group {
 public:
  /// `late` outlives it; its subgroups share it.
  LateGroup(std::unique_ptr<Group> inner, Lateness& late)
      : Group(inner->name(), inner->rank(), inner->size()), inner_(std::move(inner)), late_(late) {
    share_calls(*inner_);
  }

  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    auto made = std::make_unique<LateGroup>(inner_->subgroup(std::move(name), ranks), late_);
    return made;
  }
  void prepare_messages() override { inner_->prepare_messages(); }
  Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override {
    return late([&] { return inner_->start_all_gather(send, recv); });
  }
  Request start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                             std::span<const std::size_t> counts) override {
    return late([&] { return inner_->start_all_gather_v(send, recv, counts); });
  }
  Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                           std::span<std::byte> recv, std::span<const std::size_t> recv_counts) override {
    return late([&] { return inner_->start_all_to_all(send, send_counts, recv, recv_counts); });
  }
  void all_max(std::span<double> values) override { reduced(&Group::all_max, values); }
  void all_max(std::span<std::int64_t> values) override { reduced(&Group::all_max, values); }
  void all_sum(std::span<std::int64_t> values) override { reduced(&Group::all_sum, values); }
  void all_sum(std::span<int128> values) override { reduced(&Group::all_sum, values); }
  void broadcast(std::span<std::byte> data, int root) override {
    late([&] {
      inner_->broadcast(data, root);
      return Request();
    }).wait();
  }
  void barrier() override {
    late([&] {
      inner_->barrier();
      return Request();
    }).wait();
  }
  Request start_send(std::span<const std::byte> data, int to, int tag) override {
    return late([&] { return inner_->start_send(data, to, tag); });
  }
  Request start_receive(std::span<std::byte> data, int from, int tag) override {
    return late([&] { return inner_->start_receive(data, from, tag); });
  }
  void cancel(const std::string& reason) override { inner_->cancel(reason); }
  bool cancelled() const override { return inner_->cancelled(); }

 private:
  using Clock = std::chrono::steady_clock;

  template <class T>
  void reduced(void (Group::*verb)(std::span<T>), std::span<T> values) {
    late([&] {
      ((*inner_).*verb)(values);
      return Request();
    }).wait();
  }
  template <class Start>
  Request late(const Start& start) {
    const auto begin = Clock::now();
    auto inner = std::make_shared<Request>(start());
    Lateness::Time& time = late_.by_group[name_];
    time.waited += Clock::now() - begin;
    CallTimer* const timer = timer_of(*calls());
    const std::uint64_t call = timer ? timer->last() : 0;
    return Request([this, inner, timer, call] {
      Lateness::Time& t = late_.by_group[name_];
      const auto waits = Clock::now();
      inner->wait();
      if (const auto now = Clock::now(); late_.delay.count() > 0) {
        if (timer) timer->entered(call);
        std::this_thread::sleep_for(late_.delay);
        if (timer) timer->left();
        t.slept += Clock::now() - now;
        ++t.calls;
      }
      t.waited += Clock::now() - waits;
    });
  }

  std::unique_ptr<Group> inner_;
  Lateness& late_;
};

}  // namespace fourmi

// A group whose calls take a while: what is started comes no sooner than `delay` after. It tells for how long its rank
// had nothing to do but wait for that, so that the figure does not depend on who else uses the machine's cores.
#pragma once

#include <chrono>
#include <memory>
#include <thread>

#include "parallel/group.h"

namespace fourmi {

struct Delays {
  std::chrono::nanoseconds delay{0};
  std::int64_t calls = 0;
  std::chrono::nanoseconds exposed{0};  ///< that waits have lasted because of the delay
  /// Of what `calls` take if nothing hides them.
  double share_exposed() const {
    return std::chrono::duration<double>(exposed).count() /
           (static_cast<double>(calls) * std::chrono::duration<double>(delay).count());
  }
};

class DelayedGroup : public Group {
 public:
  /// `delays` outlives it; its subgroups share them.
  DelayedGroup(std::unique_ptr<Group> inner, Delays& delays)
      : Group(inner->name(), inner->rank(), inner->size()), inner_(std::move(inner)), delays_(delays) {
    share_calls(*inner_);
  }

  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    return std::make_unique<DelayedGroup>(inner_->subgroup(std::move(name), ranks), delays_);
  }
  void use_device(DeviceStream& stream) override {
    Group::use_device(stream);
    inner_->use_device(stream);
  }
  void prepare_messages() override { inner_->prepare_messages(); }
  Request start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override {
    return delayed(inner_->start_all_gather(send, recv));
  }
  Request start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                             std::span<const std::size_t> counts) override {
    return delayed(inner_->start_all_gather_v(send, recv, counts));
  }
  Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                           std::span<std::byte> recv, std::span<const std::size_t> recv_counts) override {
    return delayed(inner_->start_all_to_all(send, send_counts, recv, recv_counts));
  }
  void all_max(std::span<double> values) override { reduced(&Group::all_max, values); }
  void all_max(std::span<std::int64_t> values) override { reduced(&Group::all_max, values); }
  void all_sum(std::span<std::int64_t> values) override { reduced(&Group::all_sum, values); }
  void all_sum(std::span<int128> values) override { reduced(&Group::all_sum, values); }
  void broadcast(std::span<std::byte> data, int root) override {
    inner_->broadcast(data, root);
    delayed({}).wait();
  }
  void barrier() override {
    inner_->barrier();
    delayed({}).wait();
  }
  Request start_send(std::span<const std::byte> data, int to, int tag) override {
    return delayed(inner_->start_send(data, to, tag));
  }
  Request start_receive(std::span<std::byte> data, int from, int tag) override {
    return delayed(inner_->start_receive(data, from, tag));
  }
  void cancel(const std::string& reason) override { inner_->cancel(reason); }
  bool cancelled() const override { return inner_->cancelled(); }

 private:
  template <class T>
  void reduced(void (Group::*verb)(std::span<T>), std::span<T> values) {
    ((*inner_).*verb)(values);
    delayed({}).wait();
  }
  using Clock = std::chrono::steady_clock;
  Request delayed(Request request) {
    ++delays_.calls;
    const auto until = Clock::now() + delays_.delay;
    return Request([this, until, inner = std::make_shared<Request>(std::move(request))] {
      inner->wait();
      const auto now = Clock::now();
      if (now >= until) return;
      delays_.exposed += until - now;
      std::this_thread::sleep_until(until);
    });
  }

  std::unique_ptr<Group> inner_;
  Delays& delays_;
};

}  // namespace fourmi

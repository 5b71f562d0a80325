#include "parallel/moving_group.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "kernels/runtime/error.h"
#include "parallel/call_timer.h"

namespace fourmi {
namespace {

constexpr int collective_tag = 0;

std::byte* writable(const std::byte* p) {
  return const_cast<std::byte*>(p);
}  // a send only reads

std::size_t sum(std::span<const std::size_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), std::size_t{0});
}

}  // namespace

void MovingGroup::copy_bytes(std::byte* to, const std::byte* from, std::size_t size) const {
  if (size == 0 || to == from) return;
  if (on_device(to))
    device()->copy(to, from, static_cast<std::int64_t>(size));
  else
    std::memmove(to, from, size);
}

bool MovingGroup::on_device(std::span<const Move> moves) const {
  if (!device()) return false;
  bool all = true, any = false;
  for (const Move& m : moves) {
    const bool here = on_device(m.data);
    any |= here && m.size > 0;
    all &= here || m.size == 0;
  }
  FOURMI_CHECK(!any || all, "{}: memory of the host and of the device in one call", name_);
  return any;
}

Request MovingGroup::start_device_moves(std::span<const Move>) {
  throw Error(ExitStatus::bug, name_, "memory of a device was found, the host's was expected");
}

Request MovingGroup::start(std::span<const Move> moves) {
  std::int64_t sent = 0, received = 0;
  for (const Move& m : moves)
    if (m.peer != rank_) (m.kind == Move::Kind::send ? sent : received) += static_cast<std::int64_t>(m.size);
  count(sent, received);
  CallTimer* const timer = size_ > 1 ? timer_of(*calls()) : nullptr;
  std::int32_t number = -1;
  if (timer) {
    const bool message = moves.size() == 1 && moves[0].tag != collective_tag;
    number =
        timer->started(call(), message ? moves[0].peer : -1, message ? moves[0].tag - 1 : 0, std::max(sent, received));
  }
  Waiting waiting(*calls(), call());
  Request request = on_device(moves) ? start_device_moves(moves) : start_moves(moves);
  waiting.end();
  request.note(calls(), call());
  return number < 0 ? std::move(request) : until_ended(std::move(request), *timer, number);
}

/// The same request, whose end the timer hears of. It takes memory, as recording does.
Request MovingGroup::until_ended(Request request, CallTimer& timer, std::int32_t number) {
  const auto inner = std::make_shared<Request>(std::move(request));
  return Request(
      [inner, &timer, number] {
        inner->wait();
        timer.ended(number);
      },
      [this] { cancel("a rank stopped in the midst of a transfer"); });
}

Request MovingGroup::start_all_gather(std::span<const std::byte> send, std::span<std::byte> recv) {
  FOURMI_CHECK(recv.size() == send.size() * static_cast<std::size_t>(size_), "{}: {} bytes gathered into {}", name_,
               send.size(), recv.size());
  return start_all_gather_v(send, recv, equal_counts(send.size()));
}

Request MovingGroup::start_all_gather_v(std::span<const std::byte> send, std::span<std::byte> recv,
                                        std::span<const std::size_t> counts) {
  const Named named(*this, Call::all_gather);
  FOURMI_CHECK(counts.size() == static_cast<std::size_t>(size_) && sum(counts) == recv.size() &&
                   counts[static_cast<std::size_t>(rank_)] == send.size(),
               "{}: counts of an all_gather_v", name_);
  const auto place = [&](int r) { return recv.data() + sum(counts.first(static_cast<std::size_t>(r))); };
  copy_bytes(place(rank_), send.data(), send.size());
  moves_.clear();
  for (int i = 1; i < size_; ++i) {
    const int to = (rank_ + i) % size_, from = (rank_ + size_ - i) % size_;
    if (const std::size_t n = counts[static_cast<std::size_t>(from)]; n > 0)
      moves_.push_back({Move::Kind::receive, place(from), n, from, collective_tag});
    if (!send.empty()) moves_.push_back({Move::Kind::send, writable(send.data()), send.size(), to, collective_tag});
  }
  return start(moves_);
}

Request MovingGroup::start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                                      std::span<std::byte> recv, std::span<const std::size_t> recv_counts) {
  const Named named(*this, Call::all_to_all);
  const auto me = static_cast<std::size_t>(rank_);
  FOURMI_CHECK(send_counts.size() == static_cast<std::size_t>(size_) && recv_counts.size() == send_counts.size() &&
                   sum(send_counts) == send.size() && sum(recv_counts) == recv.size() &&
                   send_counts[me] == recv_counts[me],
               "{}: counts of an all_to_all", name_);
  const auto to_place = [&](std::size_t r) { return writable(send.data()) + sum(send_counts.first(r)); };
  const auto from_place = [&](std::size_t r) { return recv.data() + sum(recv_counts.first(r)); };
  copy_bytes(from_place(me), to_place(me), send_counts[me]);
  moves_.clear();
  for (int i = 1; i < size_; ++i) {
    const int to = (rank_ + i) % size_, from = (rank_ + size_ - i) % size_;
    const auto t = static_cast<std::size_t>(to), f = static_cast<std::size_t>(from);
    if (recv_counts[f] > 0)
      moves_.push_back({Move::Kind::receive, from_place(f), recv_counts[f], from, collective_tag});
    if (send_counts[t] > 0) moves_.push_back({Move::Kind::send, to_place(t), send_counts[t], to, collective_tag});
  }
  return start(moves_);
}

// Binomial tree: in the round of `bit`, ranks below it (counted from the root) pass the data on to those bit further.
void MovingGroup::broadcast(std::span<std::byte> data, int root) {
  const Named named(*this, Call::broadcast);
  FOURMI_CHECK(0 <= root && root < size_, "{}: broadcast from rank {} of {}", name_, root, size_);
  if (data.empty()) return;
  const int relative = (rank_ - root + size_) % size_;
  for (int bit = 1; bit < size_; bit <<= 1) {
    const auto absolute = [&](int r) { return (r + root) % size_; };
    if (relative < bit && relative + bit < size_) {
      const Move m{Move::Kind::send, data.data(), data.size(), absolute(relative + bit), collective_tag};
      start({&m, 1}).wait();
    } else if (bit <= relative && relative < 2 * bit) {
      const Move m{Move::Kind::receive, data.data(), data.size(), absolute(relative - bit), collective_tag};
      start({&m, 1}).wait();
    }
  }
}

// Dissemination (Hensgen, Finkel, Manber 1988): after round k each rank has heard, indirectly, of 2^(k+1) - 1 others.
void MovingGroup::barrier() {
  const Named named(*this, Call::barrier);
  for (int distance = 1; distance < size_; distance <<= 1) {
    std::byte mine{1}, theirs{0};
    const Move moves[] = {
        {Move::Kind::receive, &theirs, 1, (rank_ + size_ - distance) % size_, collective_tag},
        {Move::Kind::send, &mine, 1, (rank_ + distance) % size_, collective_tag},
    };
    start(moves).wait();
  }
  if (size_ == 1) start({}).wait();  // a poisoned group of one throws too
}

Request MovingGroup::start_send(std::span<const std::byte> data, int to, int tag) {
  const Named named(*this, Call::send);
  FOURMI_CHECK(0 <= to && to < size_ && 0 <= tag && tag < (1 << 30), "{}: send to {} of {}, tag {}", name_, to, size_,
               tag);
  const Move m{Move::Kind::send, writable(data.data()), data.size(), to, tag + 1};
  return start({&m, 1});
}

Request MovingGroup::start_receive(std::span<std::byte> data, int from, int tag) {
  const Named named(*this, Call::receive);
  FOURMI_CHECK(0 <= from && from < size_ && 0 <= tag && tag < (1 << 30), "{}: receive from {} of {}, tag {}", name_,
               from, size_, tag);
  const Move m{Move::Kind::receive, data.data(), data.size(), from, tag + 1};
  return start({&m, 1});
}

}  // namespace fourmi

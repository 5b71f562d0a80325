#include "parallel/watchdog_link.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fourmi::watchdog {
namespace {

// The record on the wire: this, then `length` bytes of text. All hosts of a run are x86-64, so it is copied as it is.
struct Header {
  std::uint32_t magic = 0x676f6457;
  std::uint16_t length = 0;
  std::uint8_t kind = 0, flags = 0;
  std::int32_t rank = 0, phase = 0, exit_status = 0, reporter = 0;
  std::int64_t step = 0;
};
static_assert(sizeof(Header) == 32);
constexpr std::size_t most_text = 2000;

void encode(const Record& r, std::string& out) {
  Header h;
  h.length = static_cast<std::uint16_t>(std::min(r.text.size(), most_text));
  h.kind = static_cast<std::uint8_t>(r.kind);
  h.rank = r.rank;
  h.phase = r.phase;
  h.exit_status = r.exit_status;
  h.reporter = r.reporter;
  h.step = r.step;
  h.flags = static_cast<std::uint8_t>(r.announced | r.hung << 1);
  out.append(reinterpret_cast<const char*>(&h), sizeof h);
  out.append(r.text, 0, h.length);
}

}  // namespace

Link::Link(int fd) : fd_(fd) {
  fcntl(fd_, F_SETFD, FD_CLOEXEC);
  fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK);
  const auto set = [&](int level, int option, int value) { setsockopt(fd_, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // A host without power says nothing: ask after 4 s of silence, every 2 s, three times.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 4);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
}

Link::~Link() {
  close(fd_);
}

void Link::send(const Record& record) {
  std::lock_guard lock(mutex_);
  encode(record, out_);
  flush_locked();
}

bool Link::try_send(const Record& record) {
  std::lock_guard lock(mutex_);
  if (!out_.empty()) return false;
  encode(record, out_);
  flush_locked();
  return true;
}

bool Link::flush() {
  std::lock_guard lock(mutex_);
  return flush_locked();
}

bool Link::flush_locked() {
  while (!out_.empty()) {
    const ssize_t n = ::send(fd_, out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      out_.erase(0, static_cast<std::size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      out_.clear();  // closed: receive() says so
    }
  }
  backlog_.store(!out_.empty(), std::memory_order_relaxed);
  return out_.empty();
}

bool Link::receive(std::vector<Record>& records, std::size_t most) {
  bool open = true;
  for (char buffer[4096]; open;) {
    const ssize_t n = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) {
      in_.append(buffer, static_cast<std::size_t>(n));
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else {
      open = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
      break;
    }
  }
  // What arrived before the end counts.
  std::size_t at = 0;
  for (std::size_t taken = 0; taken < most && in_.size() - at >= sizeof(Header); ++taken) {
    Header h;
    std::memcpy(&h, in_.data() + at, sizeof h);
    if (h.magic != Header().magic || h.length > most_text || h.kind > static_cast<std::uint8_t>(Record::Kind::beat))
      return false;
    if (in_.size() - at < sizeof h + h.length) break;
    records.push_back({static_cast<Record::Kind>(h.kind), h.rank, h.phase, h.exit_status, h.reporter, h.step,
                       (h.flags & 1) != 0, (h.flags & 2) != 0, in_.substr(at + sizeof h, h.length)});
    at += sizeof h + h.length;
  }
  in_.erase(0, at);
  return open;
}

}  // namespace fourmi::watchdog

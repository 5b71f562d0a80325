#include "framework/serve/connection.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fourmi {

namespace {

void name_of(const sockaddr_storage& address, std::string& ip, int& port) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof(v4));
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof(v6));
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
    port = ntohs(v6.sin6_port);
  }
  ip = text;
}

}  // namespace

Connection::Connection(socket_t socket, const ConnectionLimits& limits)
    : socket_(socket), limits_(limits), end_(std::chrono::steady_clock::now() + limits.request) {
  ::fcntl(socket_, F_SETFL, ::fcntl(socket_, F_GETFL) | O_NONBLOCK);
  const int at_once = 1;  // each piece of a stream goes by itself
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
}

Connection::~Connection() {
  // Closing over bytes that nobody read would reset the connection, and take away an answer that is still under way: a
  // refusal to a client that sends on.
  ::shutdown(socket_, SHUT_WR);
  constexpr std::size_t most = std::size_t{1} << 22;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  for (std::size_t n = 0; n < most && std::chrono::steady_clock::now() < end;) {
    if (!wait(POLLIN, std::chrono::milliseconds(200))) break;
    const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got <= 0) break;
    n += static_cast<std::size_t>(got);
  }
  ::close(socket_);
}

bool Connection::wait(short events, std::chrono::milliseconds limit) const {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd one{.fd = socket_, .events = events, .revents = 0};
    const int found = ::poll(&one, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (found < 0 && errno == EINTR) continue;
    return found > 0;
  }
}

bool Connection::is_readable() const {
  return at_ < filled_ || wait(POLLIN, std::chrono::milliseconds(0));
}

bool Connection::is_writable() const {
  char next = 0;  // a client that has closed its end is readable, and gives nothing
  const ssize_t n = ::recv(socket_, &next, 1, MSG_PEEK | MSG_DONTWAIT);
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

ssize_t Connection::read(char* to, std::size_t size) {
  if (at_ == filled_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - std::chrono::steady_clock::now());
    if (left.count() <= 0 || received_ >= limits_.request_bytes || !wait(POLLIN, left)) return -1;
    const ssize_t n = ::recv(socket_, buffer_.data(), std::min(buffer_.size(), limits_.request_bytes - received_), 0);
    if (n <= 0) return n;
    at_ = 0;
    filled_ = static_cast<std::size_t>(n);
    received_ += filled_;
  }
  const std::size_t n = std::min(size, filled_ - at_);
  std::memcpy(to, buffer_.data() + at_, n);
  at_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t Connection::write(const char* from, std::size_t size) {
  for (;;) {
    const ssize_t n = ::send(socket_, from, size, MSG_NOSIGNAL);
    if (n >= 0) return n;
    if (errno == EINTR) continue;
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || !wait(POLLOUT, limits_.write)) return -1;
  }
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) name_of(address, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0) name_of(address, ip, port);
}

void refuse_connection(socket_t socket, std::string_view answer) {
  ::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(socket, SHUT_WR);
  std::array<char, 4096> unread;  // closing over it would take the answer away
  for (int i = 0; i < 4 && ::recv(socket, unread.data(), unread.size(), MSG_DONTWAIT) > 0; ++i) {
  }
  ::close(socket);
}

}  // namespace fourmi

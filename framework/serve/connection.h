// One client's connection, with a limit for all that a request may take: a client that sends a byte now and then, or
// never reads, holds a thread no longer than this.
#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace fourmi {

struct ConnectionLimits {
  std::chrono::milliseconds request{20'000};  ///< from the connection to the request's last byte
  std::chrono::milliseconds write{20'000};    ///< without a byte that the client takes
  std::size_t request_bytes = 0;              ///< with its head
};

class Connection final : public httplib::Stream {
 public:
  Connection(socket_t socket, const ConnectionLimits& limits);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  /// Closes it.
  ~Connection() override;

  bool is_readable() const override;
  /// False once the client has gone.
  bool is_writable() const override;
  ssize_t read(char* to, std::size_t size) override;
  ssize_t write(const char* from, std::size_t size) override;
  using httplib::Stream::write;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool wait(short events, std::chrono::milliseconds limit) const;

  socket_t socket_;
  ConnectionLimits limits_;
  std::chrono::steady_clock::time_point end_;
  std::size_t received_ = 0, at_ = 0, filled_ = 0;
  std::array<char, 4096> buffer_;
};

/// Sends what fits at once, reads nothing but what has come, and closes the socket: waits for nobody.
void refuse_connection(socket_t socket, std::string_view answer);

}  // namespace fourmi

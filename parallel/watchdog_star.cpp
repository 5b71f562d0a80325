#include "parallel/watchdog_star.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "kernels/runtime/error.h"

namespace fourmi::watchdog {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds join_time{20};  // for all ranks to connect; also on a machine that swaps
constexpr int one_try_ms = 2000;               // for one address to answer

// What rank 0 tells the others; a port of 0 says that it cannot listen.
struct Invitation {
  std::uint16_t port = 0;
  std::uint16_t num_addresses = 0;
  std::array<std::uint32_t, 16> addresses{};  // IPv4, network order
  std::array<char, 32> token{};
};

int left_ms(Clock::time_point end) {
  return static_cast<int>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count()));
}

sockaddr_in address_of(std::uint32_t ip, std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = ip;
  a.sin_port = htons(port);
  return a;
}

std::string token_of(const Invitation& invitation) {
  return {invitation.token.data(), invitation.token.size()};
}

std::vector<std::string> gather_hosts(Group& group) {
  std::array<char, 64> mine{};
  gethostname(mine.data(), mine.size() - 1);
  std::vector<char> all(mine.size() * static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  std::vector<std::string> hosts;
  for (int r = 0; r < group.size(); ++r) hosts.emplace_back(all.data() + mine.size() * static_cast<std::size_t>(r));
  return hosts;
}

// This host's addresses, where others may reach it.
void add_addresses(Invitation& invitation) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;
  for (const ifaddrs* i = list; i && invitation.num_addresses < invitation.addresses.size(); i = i->ifa_next) {
    if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
      continue;
    sockaddr_in a;
    std::memcpy(&a, i->ifa_addr, sizeof a);
    invitation.addresses[invitation.num_addresses++] = a.sin_addr.s_addr;
  }
  freeifaddrs(list);
}

// A listening socket at a port that the kernel chooses, or -1.
int listen_at(std::uint32_t ip, int backlog, Invitation& invitation) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in a = address_of(ip, 0);
  socklen_t length = sizeof a;
  if (fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&a), length) == 0 && listen(fd, backlog) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&a), &length) == 0 &&
      getrandom(invitation.token.data(), invitation.token.size(), 0) == static_cast<ssize_t>(invitation.token.size())) {
    invitation.port = ntohs(a.sin_port);
    return fd;
  }
  if (fd >= 0) close(fd);
  return -1;
}

// Accepts until every rank has said hello with the token. Who says anything else, or nothing, takes no rank's place.
std::vector<std::unique_ptr<Link>> accept_all(int listener, int size, const std::string& token) {
  std::vector<std::unique_ptr<Link>> links(static_cast<std::size_t>(size)), strangers;
  const auto end = Clock::now() + join_time;
  for (int joined = 1; joined < size;) {
    std::vector<pollfd> polled{{listener, POLLIN, 0}};
    for (const auto& s : strangers) polled.push_back({s->fd(), POLLIN, 0});
    if (poll(polled.data(), polled.size(), left_ms(end)) == 0 || Clock::now() > end) {
      int first = 1;
      while (links[static_cast<std::size_t>(first)]) ++first;
      throw Error(ExitStatus::rank_lost, "watchdog",
                  fmt::format("{} of {} ranks connected within {} s, rank {} did not; expected all", joined, size,
                              join_time.count(), first),
                  "Look at that rank's log; where hosts differ, let them reach rank 0's host by TCP");
    }
    for (std::size_t i = 0; i < strangers.size(); ++i) {
      if (polled[i + 1].revents == 0) continue;
      std::vector<Record> records;
      const bool open = strangers[i]->receive(records);
      if (!records.empty()) {
        const Record& hello = records[0];
        if (open && hello.kind == Record::Kind::hello && hello.text == token && hello.rank > 0 && hello.rank < size &&
            !links[static_cast<std::size_t>(hello.rank)]) {
          strangers[i]->send({.kind = Record::Kind::welcome, .text = token});
          links[static_cast<std::size_t>(hello.rank)] = std::move(strangers[i]);
          ++joined;
        }
        strangers[i].reset();
      } else if (!open) {
        strangers[i].reset();
      }
    }
    std::erase(strangers, nullptr);
    if (polled[0].revents != 0)
      if (const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC); fd >= 0)
        strangers.push_back(std::make_unique<Link>(fd));
  }
  return links;
}

// A link on which rank 0 answered with the token, or nothing.
std::unique_ptr<Link> try_connect(std::uint32_t ip, const Invitation& invitation, int rank) {
  const auto end = Clock::now() + std::chrono::milliseconds(one_try_ms);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return nullptr;
  auto link = std::make_unique<Link>(fd);
  const sockaddr_in a = address_of(ip, invitation.port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0 && errno != EINPROGRESS) return nullptr;
  pollfd polled{fd, POLLOUT, 0};
  int error = 0;
  socklen_t length = sizeof error;
  if (poll(&polled, 1, left_ms(end)) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
    return nullptr;
  link->send({.kind = Record::Kind::hello, .rank = rank, .text = token_of(invitation)});
  polled.events = POLLIN;
  std::vector<Record> records;
  while (records.empty()) {
    if (poll(&polled, 1, left_ms(end)) != 1 || !link->receive(records, 1)) return nullptr;
  }
  return records[0].kind == Record::Kind::welcome && records[0].text == token_of(invitation) ? std::move(link)
                                                                                             : nullptr;
}

std::unique_ptr<Link> connect_to(const Invitation& invitation, int rank) {
  const auto end = Clock::now() + join_time;
  while (Clock::now() < end) {
    for (std::size_t i = 0; i < invitation.num_addresses; ++i)
      if (auto link = try_connect(invitation.addresses[i], invitation, rank)) return link;
    usleep(50'000);
  }
  throw Error(ExitStatus::rank_lost, "watchdog",
              fmt::format("rank {} could not reach rank 0 at port {} within {} s, expected an answer", rank,
                          invitation.port, join_time.count()),
              "Look at rank 0's log; where hosts differ, let them reach rank 0's host by TCP");
}

}  // namespace

Star connect_star(Group& group) {
  Star star;
  star.hosts = gather_hosts(group);
  const RankProcess mine = RankProcess::mine();
  star.processes.resize(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(star.processes)));
  if (group.size() == 1) return star;
  Invitation invitation;
  int listener = -1;
  if (group.rank() == 0) {
    const bool one_host =
        std::all_of(star.hosts.begin(), star.hosts.end(), [&](auto& h) { return h == star.hosts[0]; });
    if (one_host) {
      invitation.addresses[invitation.num_addresses++] = htonl(INADDR_LOOPBACK);
    } else {
      add_addresses(invitation);
    }
    listener = listen_at(htonl(one_host ? INADDR_LOOPBACK : INADDR_ANY), group.size(), invitation);
  }
  group.broadcast(std::as_writable_bytes(std::span(&invitation, 1)), 0);
  if (invitation.port == 0)
    throw Error(ExitStatus::environment, "watchdog", "rank 0 cannot listen on a TCP port, expected one that is free",
                "Allow local TCP connections and open files (ulimit -n)");
  if (group.rank() != 0) {
    star.links.push_back(connect_to(invitation, group.rank()));
    return star;
  }
  try {
    star.links = accept_all(listener, group.size(), token_of(invitation));
  } catch (...) {
    close(listener);
    throw;
  }
  close(listener);
  return star;
}

}  // namespace fourmi::watchdog

#include "tests/late/fake_nccl.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "tests/late/late_device.h"

namespace fourmi::nccl {

/// What the members of a communicator share.
struct Meeting {
  struct Message {
    const std::byte* data;
    std::size_t size;
    bool taken = false;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::vector<std::shared_ptr<Message>>> sent;  // by from and to
  std::map<std::pair<int, int>, std::set<int>>
      ends;                                   // of a connection, by from and to: ranks that have come to make it
  std::map<int, std::vector<void*>> windows;  // by number: where each member has it
  std::vector<int> num_windows;               // that each member has registered
  int arrived = 0, left = 0, members = 0;
  bool aborted = false;
};

struct Communicator {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  std::shared_ptr<std::atomic<int>> at_work;  // exchanges that the rank's communicators have on streams
};

}  // namespace fourmi::nccl

namespace fourmi::test {
namespace {

using namespace nccl;

struct Started {
  Communicator* comm;
  std::byte* data;
  std::size_t size;
  int peer;
  bool sends;
  void* stream;
};
thread_local std::vector<Started> started;
thread_local int depth = 0;                          // of groups
thread_local std::vector<Communicator*> to_destroy;  // at the end of the group
thread_local const auto my_work = std::make_shared<std::atomic<int>>(0);

constexpr Result failed = static_cast<Result>(3);
constexpr std::chrono::seconds too_long{5};
std::atomic<int> hangs{0};

std::mutex meetings_mutex;
std::map<int, std::shared_ptr<Meeting>> meetings;
std::atomic<int> next_id{1};

/// On a stream's thread: all of them at once.
void carry_out(const std::vector<Started>& moves, int rank, const std::shared_ptr<Meeting>& meeting) {
  std::unique_lock lock(meeting->mutex);
  std::vector<std::shared_ptr<Meeting::Message>> mine;
  std::vector<bool> received(moves.size(), false);
  for (const Started& m : moves)
    if (m.sends) {
      mine.push_back(std::make_shared<Meeting::Message>(Meeting::Message{m.data, m.size}));
      meeting->sent[{rank, m.peer}].push_back(mine.back());
    }
  meeting->changed.notify_all();
  const auto step = [&] {
    bool all = true;
    for (std::size_t i = 0; i < moves.size(); ++i) {
      const Started& m = moves[i];
      if (m.sends || received[i]) continue;
      auto& queue = meeting->sent[{m.peer, rank}];
      if (queue.empty()) {
        all = false;
        continue;
      }
      if (queue.front()->size == m.size) std::memcpy(m.data, queue.front()->data, m.size);
      queue.front()->taken = true;
      queue.erase(queue.begin());
      received[i] = true;
      meeting->changed.notify_all();
    }
    for (const auto& message : mine) all &= message->taken;
    return all;
  };
  meeting->changed.wait(lock, [&] { return meeting->aborted || step(); });
}

Result get_version(int* version) {
  *version = 22800;
  return success;
}
Result get_unique_id(Id* id) {
  const int number = next_id++;
  std::memcpy(id->bytes.data(), &number, sizeof(number));
  return success;
}
Result comm_init_rank(Communicator** comm, int num_ranks, Id id, int rank) {
  int number = 0;
  std::memcpy(&number, id.bytes.data(), sizeof(number));
  std::shared_ptr<Meeting> meeting;
  {
    const std::scoped_lock lock(meetings_mutex);
    auto& m = meetings[number];
    if (!m) m = std::make_shared<Meeting>();
    meeting = m;
  }
  std::unique_lock lock(meeting->mutex);
  meeting->members = num_ranks;
  ++meeting->arrived;
  meeting->changed.notify_all();
  meeting->changed.wait(lock, [&] { return meeting->arrived == num_ranks; });
  *comm = new Communicator{meeting, rank, my_work};
  return success;
}
/// All members destroy it, and wait for that.
Result finish_destroying(Communicator* comm) {
  const std::unique_ptr<Communicator> mine(comm);
  Meeting& m = *comm->meeting;
  std::unique_lock lock(m.mutex);
  if (m.changed.wait_for(lock, too_long, [&] { return m.aborted || m.left == m.members; })) return success;
  return ++hangs, failed;
}
Result comm_destroy(Communicator* comm) {
  {
    const std::scoped_lock lock(comm->meeting->mutex);
    ++comm->meeting->left;
    comm->meeting->changed.notify_all();
  }
  if (depth == 0) return finish_destroying(comm);
  to_destroy.push_back(comm);
  return success;
}
/// Frees memory of the device, which waits for all that it does.
Result wait_for_device(const Communicator& comm) {
  const auto end = std::chrono::steady_clock::now() + too_long;
  while (*comm.at_work > 0) {
    if (std::chrono::steady_clock::now() > end) return ++hangs, failed;
    std::this_thread::yield();
  }
  return success;
}
Result comm_abort(Communicator* comm) {
  {
    const std::scoped_lock lock(comm->meeting->mutex);
    comm->meeting->aborted = true;
    comm->meeting->changed.notify_all();
  }
  const Result result = depth > 0 ? success : wait_for_device(*comm);
  comm_destroy(comm);
  return result;
}
Result comm_get_async_error(Communicator*, Result* error) {
  *error = success;
  return success;
}
Result group_start() {
  if (depth++ == 0) started.clear();
  return success;
}
/// Each end of what is moved for the first time waits for the other one.
Result connect(const std::vector<Started>& moves, int rank, Meeting& meeting) {
  std::unique_lock lock(meeting.mutex);
  const auto pair = [&](const Started& m) { return m.sends ? std::pair(rank, m.peer) : std::pair(m.peer, rank); };
  for (const Started& m : moves) meeting.ends[pair(m)].insert(rank);
  meeting.changed.notify_all();
  const bool done = meeting.changed.wait_for(lock, too_long, [&] {
    return meeting.aborted || std::all_of(moves.begin(), moves.end(), [&](const Started& m) {
             return m.peer == rank || meeting.ends[pair(m)].size() == 2;
           });
  });
  if (!done) ++hangs;
  return done && !meeting.aborted ? success : failed;
}
Result group_end() {
  if (--depth > 0) return success;
  for (Communicator* const comm : std::exchange(to_destroy, {})) finish_destroying(comm);
  if (started.empty()) return success;
  const std::vector<Started> moves = std::exchange(started, {});
  const Communicator comm = *moves.front().comm;  // who aborts it deletes it
  if (const Result result = connect(moves, comm.rank, *comm.meeting); result != success) return result;
  ++*comm.at_work;
  static_cast<LateStream*>(moves.front().stream)->give([moves, comm] {
    carry_out(moves, comm.rank, comm.meeting);
    --*comm.at_work;
  });
  return success;
}
Result send(const void* data, std::size_t count, DataType, int peer, Communicator* comm, void* stream) {
  started.push_back({comm, static_cast<std::byte*>(const_cast<void*>(data)), count, peer, true, stream});  // only read
  return success;
}
Result recv(void* data, std::size_t count, DataType, int peer, Communicator* comm, void* stream) {
  started.push_back({comm, static_cast<std::byte*>(data), count, peer, false, stream});
  return success;
}
const char* get_error_string(Result) {
  return "an error of the fake";
}

std::atomic<int> pieces{0};
std::atomic<int> team{1};

Result mem_alloc(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  ++pieces;
  return success;
}
Result mem_free(void* memory) {
  std::free(memory);
  --pieces;
  return success;
}
/// A window is known by where it stands in its communicator's map. All members register it, and wait for that.
Result window_register(Communicator* comm, void* memory, std::size_t bytes, Window** window, int flags) {
  if (flags != collective_symmetric || bytes % window_alignment != 0) return failed;
  Meeting& m = *comm->meeting;
  std::unique_lock lock(m.mutex);
  m.num_windows.resize(static_cast<std::size_t>(m.members));
  std::vector<void*>& places = m.windows[m.num_windows[static_cast<std::size_t>(comm->rank)]++];
  places.resize(static_cast<std::size_t>(m.members));
  places[static_cast<std::size_t>(comm->rank)] = memory;
  m.changed.notify_all();
  *window = reinterpret_cast<Window*>(&places);
  const auto all = [&] { return std::count(places.begin(), places.end(), nullptr) == 0; };
  return m.changed.wait_for(lock, too_long, all) ? success : failed;
}
Result window_deregister(Communicator*, Window*) {
  return success;
}
Team team_lsa(Communicator* comm) {
  return {std::min(team.load(), comm->meeting->members), comm->rank % team, 1};
}
Result get_lsa_device_pointer(Window* window, std::size_t offset, int rank, void** address) {
  *address = static_cast<std::byte*>((*reinterpret_cast<std::vector<void*>*>(window))[static_cast<std::size_t>(rank)]) +
             offset;
  return success;
}

}  // namespace

nccl::WindowLibrary fake_windows(int team_size) {
  team = team_size;
  return {.functions = std::make_shared<nccl::Functions>(fake_nccl()),
          .windows = {mem_alloc, mem_free, window_register, window_deregister, team_lsa, get_lsa_device_pointer},
          .version = 23000};
}
void* fake_window_address(void* window, int rank) {
  void* address = nullptr;
  get_lsa_device_pointer(static_cast<Window*>(window), 0, rank, &address);
  return address;
}
int fake_nccl_pieces() {
  return pieces;
}

int fake_nccl_hangs() {
  return hangs;
}

nccl::Functions fake_nccl() {
  return {.get_version = get_version,
          .get_unique_id = get_unique_id,
          .comm_init_rank = comm_init_rank,
          .comm_destroy = comm_destroy,
          .comm_abort = comm_abort,
          .comm_get_async_error = comm_get_async_error,
          .group_start = group_start,
          .group_end = group_end,
          .send = send,
          .recv = recv,
          .get_error_string = get_error_string};
}

}  // namespace fourmi::test

#include "parallel/group_mpi.h"

#include <mpi.h>

#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <mutex>

#include "kernels/runtime/error.h"
#include "parallel/backoff.h"
#include "parallel/moving_group.h"
#include "parallel/nccl/moves.h"
#include "parallel/poison.h"

namespace fourmi {
namespace {

void check_mpi(int code, const std::string& what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0, kind = 0;
  MPI_Error_string(code, text.data(), &length);
  MPI_Error_class(code, &kind);
  FOURMI_CHECK(
      kind != MPI_ERR_TRUNCATE,
      "{}: a message longer than its receive: some rank has made another call than this one (guard.check_calls: "
      "true names it)",
      what);
  throw Error(ExitStatus::rank_lost, what, fmt::format("MPI says '{}', expected success", text.data()),
              "A peer or the network between ranks has failed; start the run again");
}

constexpr int control_tag = 0;  // poison; a move's tag t is t + 1
// Open MPI 4.1 forms communicators by ordinary messages with this tag, so it must not meet any of ours.
constexpr int forming_tag = std::numeric_limits<int>::max();
constexpr std::size_t control_bytes = 512;

// A communicator and what is needed to poison it. Outlives its group while requests or subgroups are alive.
struct Core {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, size = 1;
  std::size_t max_message = 0;
  std::shared_ptr<std::mutex> lock;
  std::shared_ptr<Core> parent;
  std::shared_ptr<Poison> poison;
  MPI_Request control = MPI_REQUEST_NULL;  // the receive that a poisoner's message would meet
  std::array<char, control_bytes> incoming{}, outgoing{};
  std::vector<MPI_Request> control_sends;

  Core(MPI_Comm c, std::size_t max_message_bytes, std::shared_ptr<std::mutex> mpi_lock, std::shared_ptr<Core> above)
      : comm(c),
        max_message(max_message_bytes),
        lock(std::move(mpi_lock)),
        parent(std::move(above)),
        poison(std::make_shared<Poison>(parent ? parent->poison : nullptr)) {
    check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    check_mpi(MPI_Irecv(incoming.data(), control_bytes, MPI_BYTE, MPI_ANY_SOURCE, control_tag, comm, &control),
              "MPI_Irecv");
  }

  // After poison nothing is given back: peers may be gone, and the process ends without MPI_Finalize.
  ~Core() {
    if (poison->is_set()) return;
    std::lock_guard held(*lock);
    if (control != MPI_REQUEST_NULL) {
      MPI_Cancel(&control);
      MPI_Wait(&control, MPI_STATUS_IGNORE);
    }
    MPI_Comm_free(&comm);
  }

  /// Has somebody poisoned us or a group above? With the lock held.
  void poll_control() {
    for (Core* core = this; core; core = core->parent.get()) {
      if (core->control == MPI_REQUEST_NULL) continue;
      int arrived = 0;
      const int code = MPI_Test(&core->control, &arrived, MPI_STATUS_IGNORE);
      if (code != MPI_SUCCESS)
        core->poison->set("MPI lost a peer");
      else if (arrived)
        core->poison->set(core->incoming.data());
    }
  }

  // From any thread. The flag ends the waits of this process; the messages, those of the others. Where the main thread
  // is stuck inside MPI, the lock is not waited for long: then the watchdog of each other rank does the same there.
  void cancel(const std::string& reason) {
    if (!poison->set(reason)) return;
    std::unique_lock held(*lock, std::try_to_lock);
    for (int tries = 0; !held.owns_lock() && tries < 200; ++tries) {
      const timespec nap{0, 250'000};
      nanosleep(&nap, nullptr);
      held.try_lock();
    }
    if (!held.owns_lock()) return;
    std::strncpy(outgoing.data(), reason.c_str(), control_bytes - 1);
    for (int r = 0; r < size; ++r) {
      if (r == rank) continue;
      control_sends.push_back(MPI_REQUEST_NULL);
      MPI_Isend(outgoing.data(), control_bytes, MPI_BYTE, r, control_tag, comm, &control_sends.back());
    }
    // Small messages leave at once or with a few turns of MPI's engine, each of which yields the core (long, on a busy
    // machine). What has not left then goes with this process' next polls; the others have watchdogs of their own.
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    for (int done = 0; !done && std::chrono::steady_clock::now() < end;)
      MPI_Testall(static_cast<int>(control_sends.size()), control_sends.data(), &done, MPI_STATUSES_IGNORE);
  }
};

struct Batch {
  std::vector<MPI_Request> requests;
  std::vector<MPI_Status> statuses;
  std::vector<int> expected;  // bytes of each receive, -1 for a send
};

void finish(Core& core, Batch& batch, const std::string& group) {
  Backoff backoff;
  for (;;) {
    int done = 0;
    {
      std::lock_guard held(*core.lock);
      if (core.poison->is_set()) break;
      const int code =
          MPI_Testall(static_cast<int>(batch.requests.size()), batch.requests.data(), &done, batch.statuses.data());
      if (code == MPI_ERR_IN_STATUS) {
        for (const MPI_Status& s : batch.statuses)
          if (s.MPI_ERROR != MPI_ERR_PENDING) check_mpi(s.MPI_ERROR, "MPI_Testall of group " + group);
      }
      check_mpi(code, "MPI_Testall");
      core.poll_control();
    }
    if (done) break;
    if (core.poison->is_set()) break;
    backoff.pause();
  }
  if (core.poison->is_set()) {
    // An unmatched receive must not write into memory that the caller frees now.
    if (std::unique_lock held(*core.lock, std::try_to_lock); held.owns_lock())
      for (std::size_t i = 0; i < batch.requests.size(); ++i)
        if (batch.expected[i] >= 0 && batch.requests[i] != MPI_REQUEST_NULL) MPI_Cancel(&batch.requests[i]);
    core.poison->check(group);
  }
  for (std::size_t i = 0; i < batch.expected.size(); ++i) {
    int got = 0;
    if (batch.expected[i] < 0) continue;
    MPI_Get_count(&batch.statuses[i], MPI_BYTE, &got);
    FOURMI_CHECK(got == batch.expected[i], "{}: a message of {} bytes for a receive of {}", group, got,
                 batch.expected[i]);
  }
}

class MpiGroup final : public MovingGroup {
 public:
  MpiGroup(std::string name, std::shared_ptr<Core> core)
      : MovingGroup(std::move(name), core->rank, core->size), core_(std::move(core)) {}

  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    std::unique_lock held(*core_->lock);
    MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
    MPI_Comm comm = MPI_COMM_NULL;
    check_mpi(MPI_Comm_group(core_->comm, &all), "MPI_Comm_group");
    check_mpi(MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &some), "MPI_Group_incl");
    check_mpi(MPI_Comm_create_group(core_->comm, some, forming_tag, &comm), "MPI_Comm_create_group");
    MPI_Group_free(&some);
    MPI_Group_free(&all);
    FOURMI_CHECK(comm != MPI_COMM_NULL, "{}: rank {} is no member", name, rank_);
    auto group = std::make_unique<MpiGroup>(std::move(name),
                                            std::make_shared<Core>(comm, core_->max_message, core_->lock, core_));
    held.unlock();
    group->inherit(*this);
    if (nccl_) group->use_nccl(nccl_);
    return group;
  }

  void use_device(DeviceStream& stream) override {
    Group::use_device(stream);
    use_nccl(std::make_shared<nccl::Rank>(nccl::load(), stream));
  }
  void prepare_messages() override {
    if (moves_) moves_->prepare_messages(*this);
  }
  void cancel(const std::string& reason) override {
    core_->cancel(reason);
    if (nccl_) nccl_->abort();  // the host may be waiting for the device, which waits for a peer
  }
  /// Looks: who waits for a peer's writes to memory and asks this meanwhile hears a peer's poison, and moves messages
  /// that are under way, which peers may wait for.
  bool cancelled() const override {
    if (const std::unique_lock held(*core_->lock, std::try_to_lock); held.owns_lock()) core_->poll_control();
    return core_->poison->is_set();
  }

 protected:
  Request start_moves(std::span<const Move> moves) override {
    auto batch = std::make_shared<Batch>();
    {
      std::lock_guard held(*core_->lock);
      if (!core_->poison->is_set())
        for (const Move& m : moves) start_move(*batch, m);
    }
    batch->statuses.resize(batch->requests.size());
    return Request([core = core_, batch, group = name_] { finish(*core, *batch, group); },
                   [core = core_] { core->cancel("a rank stopped in the midst of a transfer"); });
  }
  Request start_device_moves(std::span<const Move> moves) override {
    core_->poison->check(name_);
    FOURMI_CHECK(moves_, "{}: memory of a device in a group of one", name_);
    return moves_->start(moves);
  }

 private:
  void start_move(Batch& batch, const Move& m) {
    std::size_t done = 0;
    do {
      const auto n = static_cast<int>(std::min(core_->max_message, m.size - done));
      const bool sends = m.kind == Move::Kind::send;
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(sends ? MPI_Isend(m.data + done, n, MPI_BYTE, m.peer, m.tag + 1, core_->comm, &request)
                      : MPI_Irecv(m.data + done, n, MPI_BYTE, m.peer, m.tag + 1, core_->comm, &request),
                sends ? "MPI_Isend" : "MPI_Irecv");
      batch.requests.push_back(request);
      batch.expected.push_back(sends ? -1 : n);
      done += static_cast<std::size_t>(n);
    } while (done < m.size);
  }

  void use_nccl(std::shared_ptr<nccl::Rank> rank) {
    nccl_ = std::move(rank);
    if (size_ > 1) moves_ = std::make_unique<nccl::Moves>(nccl_, *this);
  }

  std::shared_ptr<Core> core_;
  std::shared_ptr<nccl::Rank> nccl_;  // null: all memory is the host's
  std::unique_ptr<nccl::Moves> moves_;
};

}  // namespace

MpiProcess::MpiProcess() {
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED)
    throw Error(ExitStatus::environment, "MPI",
                fmt::format("found thread level {}, expected MPI_THREAD_SERIALIZED", provided),
                "Use an MPI that was built with thread support (Debian's Open MPI is)");
}

MpiProcess::~MpiProcess() {
  if (!abandoned_) MPI_Finalize();
}

void MpiProcess::abandon() {
  abandoned_ = true;
}

int MpiProcess::rank() const {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int MpiProcess::size() const {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

MpiProcess::Local MpiProcess::local() const {
  std::lock_guard held(*lock_);
  MPI_Comm host = MPI_COMM_NULL;
  Local local{0, 1};
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  MPI_Comm_rank(host, &local.rank);
  MPI_Comm_size(host, &local.size);
  MPI_Comm_free(&host);
  return local;
}

std::unique_ptr<Group> make_mpi_group(std::string name, const MpiProcess& process, const MpiOptions& options) {
  FOURMI_CHECK(options.max_message_bytes >= 1 && options.max_message_bytes <= (std::size_t{1} << 30),
               "MPI message size {}", options.max_message_bytes);
  std::lock_guard held(*process.lock());
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::make_unique<MpiGroup>(std::move(name),
                                    std::make_shared<Core>(comm, options.max_message_bytes, process.lock(), nullptr));
}

}  // namespace fourmi

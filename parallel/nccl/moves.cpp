#include "parallel/nccl/moves.h"

#include <algorithm>

#include "kernels/runtime/error.h"

namespace fourmi::nccl {

Rank::Rank(std::shared_ptr<const Functions> functions, DeviceStream& work)
    : functions_(std::move(functions)), work_(&work), collectives_(work.runtime().make_stream()) {}

void Rank::add(Communicator* comm) {
  const std::scoped_lock lock(mutex_);
  communicators_.push_back(comm);
  if (aborted_) functions_->comm_abort(comm);
}

void Rank::end_together(std::span<Communicator* const> comms, Result (*end)(Communicator*)) const {
  functions_->group_start();
  for (Communicator* comm : comms) end(comm);
  functions_->group_end();  // an error changes nothing: they are not used any more
}

void Rank::remove(std::span<Communicator* const> comms) {
  const std::scoped_lock lock(mutex_);
  for (Communicator* comm : comms) std::erase(communicators_, comm);
  if (!aborted_) end_together(comms, functions_->comm_destroy);
}

void Rank::abort() {
  const std::scoped_lock lock(mutex_);
  if (aborted_.exchange(true)) return;
  end_together(communicators_, functions_->comm_abort);
}

void Rank::check(Result result, const char* what, const std::string& group) {
  if (result == success || result == in_progress) return;
  const char* text = functions_->get_error_string(result);
  abort();
  throw Error(ExitStatus::rank_lost, "group " + group,
              fmt::format("NCCL says '{}' of {}, success was expected", text ? text : "?", what),
              "A peer or the network between GPUs has failed; start the run again, it goes on at its last checkpoint");
}

Moves::Moves(std::shared_ptr<Rank> rank, Group& group)
    : rank_(std::move(rank)), name_(group.name()), me_(group.rank()), size_(group.size()) {
  std::vector<int> everyone(static_cast<std::size_t>(size_));
  for (int r = 0; r < size_; ++r) everyone[static_cast<std::size_t>(r)] = r;
  all_ = {form(group, everyone), &rank_->collectives(), nullptr, 0};
}

Moves::~Moves() {
  std::vector<Communicator*> comms{all_.comm};
  for (auto* list : {&to_, &from_})
    for (auto& [peer, channel] : *list) comms.push_back(channel.comm);
  rank_->remove(comms);
}

/// Collective among all of the group: the first member makes the id.
Communicator* Moves::form(Group& group, std::span<const int> members) {
  const Functions& f = rank_->functions();
  const auto mine = std::find(members.begin(), members.end(), me_);
  Id id{};
  if (mine == members.begin()) rank_->check(f.get_unique_id(&id), "ncclGetUniqueId", name_);
  group.broadcast(std::as_writable_bytes(std::span(id.bytes)), members.front());
  if (mine == members.end()) return nullptr;
  Communicator* comm = nullptr;
  rank_->check(f.comm_init_rank(&comm, static_cast<int>(members.size()), id, static_cast<int>(mine - members.begin())),
               "ncclCommInitRank", name_);
  rank_->add(comm);
  return comm;
}

Moves::Channel Moves::make_channel(Group& group, int from, int to) {
  const int members[] = {from, to};
  Communicator* const comm = form(group, members);
  if (!comm) return {};
  std::unique_ptr<DeviceStream> stream = rank_->work().runtime().make_stream();
  DeviceStream* const own = stream.get();
  Channel channel{comm, own, std::move(stream), me_ == from ? 1 : 0};
  connect(channel, me_ == from ? Move::Kind::send : Move::Kind::receive);
  return channel;
}

void Moves::connect(const Channel& channel, Move::Kind kind) {
  const Move first{kind, static_cast<std::byte*>(first_message_->data), 1, 0, 1};
  give(channel, std::span(&first, 1), channel.peer);
  channel.stream->synchronize();
}

void Moves::prepare_messages(Group& group) {
  if (!to_.empty() || size_ == 1) return;
  DeviceRuntime& runtime = rank_->work().runtime();
  first_message_ = std::make_unique<FirstMessage>();
  first_message_->runtime = &runtime;
  first_message_->data = runtime.allocate(1, "first messages between ranks");
  // One pair after another, on all members in the same order: none waits for one that waits for it.
  for (int r = 0; r < size_; ++r) {
    const int next = (r + 1) % size_;
    for (const auto& [from, to] : {std::pair(r, next), std::pair(next, r)}) {
      if (size_ == 2 && r == 1) break;  // the same two pairs again
      Channel channel = make_channel(group, from, to);
      if (me_ == from) to_.emplace_back(to, std::move(channel));
      if (me_ == to) from_.emplace_back(from, std::move(channel));
    }
  }
}

Moves::Channel& Moves::channel_for(const Move& move) {
  if (move.tag == 0) return all_;
  auto& list = move.kind == Move::Kind::send ? to_ : from_;
  const auto at = std::find_if(list.begin(), list.end(), [&](const auto& c) { return c.first == move.peer; });
  FOURMI_CHECK(at != list.end(), "{}: a message between ranks {} and {}, which are no neighbours", name_, me_,
               move.peer);
  return at->second;
}

Moves::Transfer& Moves::take_transfer() {
  for (auto& t : transfers_)
    if (!std::exchange(t->in_use, true)) return *t;
  transfers_.push_back(std::make_unique<Transfer>());
  Transfer& t = *transfers_.back();
  t.ready = rank_->work().make_event();
  t.done = rank_->work().make_event();
  t.in_use = true;
  return t;
}

void Moves::give(const Channel& channel, std::span<const Move> moves, int peer) {
  const Functions& f = rank_->functions();
  void* const stream = channel.stream->native();
  rank_->check(f.group_start(), "ncclGroupStart", name_);
  Result result = success;
  for (const Move& m : moves) {
    if (m.size == 0 || result != success) continue;
    const int other = peer < 0 ? m.peer : peer;
    result = m.kind == Move::Kind::send ? f.send(m.data, m.size, int8, other, channel.comm, stream)
                                        : f.recv(m.data, m.size, int8, other, channel.comm, stream);
  }
  const Result ended = f.group_end();  // also behind an error: what follows would be part of this group
  rank_->check(result, "ncclSend or ncclRecv", name_);
  rank_->check(ended, "ncclGroupEnd", name_);
}

Request Moves::start(std::span<const Move> moves) {
  if (rank_->aborted())
    throw Error(ExitStatus::rank_lost, "group " + name_, "NCCL's communicators were ended, a move was asked for",
                "Start the run again; it goes on at its last checkpoint");
  Channel& channel = channel_for(moves.front());
  for (const Move& m : moves)
    FOURMI_CHECK(m.tag == moves.front().tag, "{}: messages of several tags in one call", name_);
  Result seen = success;
  rank_->check(rank_->functions().comm_get_async_error(channel.comm, &seen), "ncclCommGetAsyncError", name_);
  rank_->check(seen, "earlier work", name_);
  Transfer& transfer = take_transfer();
  transfer.ready->record(rank_->work());
  transfer.ready->wait(*channel.stream);
  give(channel, moves, moves.front().tag == 0 ? -1 : channel.peer);
  transfer.done->record(*channel.stream);
  struct Call {
    Rank* rank;
    Transfer* transfer;
  };
  const Call call{rank_.get(), &transfer};  // small enough for std::function to hold
  return Request(
      [call] {
        call.transfer->done->wait(call.rank->work());
        call.transfer->in_use = false;
      },
      [call] { call.rank->abort(); });
}

}  // namespace fourmi::nccl

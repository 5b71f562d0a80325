// NCCL's functions, found at run time: the same program runs where there is no NCCL. The declarations are ours, so that
// nothing needs NCCL's header; where it is there, declarations/check.cpp holds them against it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

namespace fourmi::nccl {

struct Communicator;  // NCCL's ncclComm
struct Id {
  std::array<char, 128> bytes;
};
enum Result : int { success = 0, in_progress = 7 };
enum DataType : int { int8 = 0 };

struct Functions {
  Result (*get_version)(int* version) = nullptr;
  Result (*get_unique_id)(Id* id) = nullptr;
  Result (*comm_init_rank)(Communicator** comm, int num_ranks, Id id, int rank) = nullptr;
  Result (*comm_destroy)(Communicator* comm) = nullptr;
  Result (*comm_abort)(Communicator* comm) = nullptr;
  Result (*comm_get_async_error)(Communicator* comm, Result* error) = nullptr;
  Result (*group_start)() = nullptr;
  Result (*group_end)() = nullptr;
  Result (*send)(const void* data, std::size_t count, DataType type, int peer, Communicator* comm,
                 void* stream) = nullptr;
  Result (*recv)(void* data, std::size_t count, DataType type, int peer, Communicator* comm, void* stream) = nullptr;
  const char* (*get_error_string)(Result result) = nullptr;
};

/// Calls visit(name, function) for each, by its name in the library.
template <class Table, class Visit>
void for_each_function(Table& f, const Visit& visit) {
  visit("ncclGetVersion", f.get_version), visit("ncclGetUniqueId", f.get_unique_id);
  visit("ncclCommInitRank", f.comm_init_rank), visit("ncclCommDestroy", f.comm_destroy);
  visit("ncclCommAbort", f.comm_abort), visit("ncclCommGetAsyncError", f.comm_get_async_error);
  visit("ncclGroupStart", f.group_start), visit("ncclGroupEnd", f.group_end);
  visit("ncclSend", f.send), visit("ncclRecv", f.recv), visit("ncclGetErrorString", f.get_error_string);
}

/// 2.18.3 as 21803. From 2.22 on communicators can be ended together (moves.cpp).
inline constexpr int least_version = 22200;

/// From libnccl.so.2; it stays open. Throws Error(environment) that says what is missing: the library, a function of
/// it, a newer version. `name` stands in for the library in tests.
std::shared_ptr<const Functions> load(const std::string& name = "libnccl.so.2");

}  // namespace fourmi::nccl

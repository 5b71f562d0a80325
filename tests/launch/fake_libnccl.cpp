// In place of libnccl.so.2 for processes of tests: it has NCCL's functions and forms no communicator. FAKE_NCCL says
// how not: old (a version without ranks that share a GPU), refuses, fails, hangs.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

std::string_view kind() {
  const char* kind = std::getenv("FAKE_NCCL");
  return kind ? kind : "";
}
int unexpected() {
  return 3;  // an internal error
}

}  // namespace

extern "C" {
int ncclGetVersion(int* version) {
  *version = kind() == "old" ? 22803 : 23007;
  return 0;
}
int ncclGetUniqueId(void*) {
  return 0;
}
struct FakeId {
  char bytes[128];
};
int ncclCommInitRank(void**, int, FakeId, int) {
  std::puts("NCCL says something");  // as NCCL does on standard output
  const char* allowed = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  if (kind() == "refuses")
    std::fprintf(stderr, "NCCL WARN Multiple Ranks are using the same GPU, allowed: %s\n", allowed ? allowed : "no");
  if (kind() == "hangs") {
    ::signal(SIGHUP, SIG_IGN);
    for (;;) ::raise(SIGSTOP);  // only SIGKILL ends it
  }
  return 5;  // an invalid use
}
int ncclCommDestroy(void*) {
  return unexpected();
}
int ncclCommAbort(void*) {
  return 0;
}
int ncclCommGetAsyncError(void*, int*) {
  return unexpected();
}
int ncclGroupStart() {
  return unexpected();
}
int ncclGroupEnd() {
  return unexpected();
}
int ncclSend(const void*, unsigned long, int, int, void*, void*) {
  return unexpected();
}
int ncclRecv(void*, unsigned long, int, int, void*, void*) {
  return unexpected();
}
const char* ncclGetErrorString(int) {
  return "an error of the fake";
}
}

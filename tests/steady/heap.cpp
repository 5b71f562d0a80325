#include "tests/steady/heap.h"

#include <execinfo.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

namespace {

constexpr int most_records = 16, depth = 24;
std::atomic<bool> armed{false};
std::atomic<std::int64_t> count{0}, in_use{0};
struct Record {
  void* frames[depth];
  int num_frames;
} records[most_records];
thread_local bool inside = false;  // backtrace() may allocate

void* noted(void* p) {
  if (p) in_use += static_cast<std::int64_t>(malloc_usable_size(p));
  if (!armed || inside) return p;
  inside = true;
  const std::int64_t i = count++;
  if (i < most_records) records[i].num_frames = backtrace(records[i].frames, depth);
  inside = false;
  return p;
}

void gone(void* p) {
  if (p) in_use -= static_cast<std::int64_t>(malloc_usable_size(p));
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// glibc's own entries under the usual names; operator new and every library call these.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t n) {
  return noted(__libc_malloc(n));
}
void* calloc(std::size_t n, std::size_t size) {
  return noted(__libc_calloc(n, size));
}
void* realloc(void* p, std::size_t n) {
  gone(p);
  return noted(__libc_realloc(p, n));
}
void* memalign(std::size_t alignment, std::size_t n) {
  return noted(__libc_memalign(alignment, n));
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  return noted(__libc_memalign(alignment, n));
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  *p = noted(__libc_memalign(alignment, n));
  return *p ? 0 : ENOMEM;
}
void free(void* p) {
  gone(p);
  __libc_free(p);
}
}
#else
// A sanitizer has its own malloc: there only C++'s allocations count.
#include <new>
void* operator new(std::size_t n) {
  if (void* p = noted(std::malloc(n))) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  gone(p);
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  gone(p);
  std::free(p);
}
#endif

namespace fourmi {

void arm_heap() {
  void* warm_up[4];
  backtrace(warm_up, 4);  // loads what it needs
  count = 0;
  armed = true;
}
void disarm_heap() {
  armed = false;
}
std::int64_t heap_allocations() {
  return count;
}
std::int64_t heap_in_use() {
  return in_use;
}

void print_heap_allocations() {
  for (int i = 0; i < most_records && i < count; ++i) {
    backtrace_symbols_fd(records[i].frames, records[i].num_frames, STDERR_FILENO);
    static_cast<void>(write(STDERR_FILENO, "\n", 1) == 1);
  }
}

}  // namespace fourmi

#include "tests/cuda_on_cpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

// Saves the registers that a call keeps on this stack, and goes on where another stack was left.
extern "C" void cuda_on_cpu_switch(void** left, void* to);
asm(R"(
.text
.globl cuda_on_cpu_switch
.type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");

namespace cuda_on_cpu {
namespace {

thread_local Fiber* starting = nullptr;

}  // namespace

Fiber::Fiber() {
  void* p = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) std::abort();
  stack_ = static_cast<std::byte*>(p);
}

Fiber::~Fiber() {
  munmap(stack_, stack_bytes);
}

void Fiber::begin(std::function<void()> body) {
  body_ = std::move(body);
  ended_ = false;
  // As if main() had been called: six registers, the return address, and 16-byte alignment before that call.
  auto top = reinterpret_cast<std::uintptr_t>(stack_ + stack_bytes) & ~std::uintptr_t{15};
  auto* const p = reinterpret_cast<void**>(top) - 2;
  p[0] = reinterpret_cast<void*>(&Fiber::main);
  p[1] = nullptr;
  for (int i = 1; i <= 6; ++i) p[-i] = nullptr;
  inside_ = p - 6;
}

void Fiber::main() {
  Fiber* const self = starting;
  self->body_();
  self->ended_ = true;
  self->leave();
}

void Fiber::resume() {
  starting = this;
  cuda_on_cpu_switch(&outside_, inside_);
}

void Fiber::leave() {
  cuda_on_cpu_switch(&inside_, outside_);
}

}  // namespace cuda_on_cpu

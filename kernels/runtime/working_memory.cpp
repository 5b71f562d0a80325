#include "kernels/runtime/working_memory.h"

namespace fourmi {

namespace {
thread_local WorkingMemory* lent = nullptr;
}

WorkingMemory& WorkingMemory::mine() {
  if (lent) return *lent;
  thread_local WorkingMemory own;
  return own;
}

void WorkingMemory::lend(WorkingMemory& memory) {
  lent = &memory;
}

void WorkingMemory::reserve_as(const WorkingMemory& other) {
  for (std::size_t i = 0; i < buffers_.size(); ++i)
    if (other.buffers_[i].capacity > buffers_[i].capacity) grow(buffers_[i], other.buffers_[i].capacity);
}

void WorkingMemory::grow(Buffer& buffer, std::size_t bytes) {
  buffer.memory.reset();
  total_ -= buffer.capacity;
  buffer.capacity = 0;
  // Not touched here: its pages come to be where the thread that uses it runs.
  buffer.memory.reset(static_cast<std::byte*>(::operator new(bytes, alignment)));
  buffer.capacity = bytes;
  total_ += bytes;
}

}  // namespace fourmi

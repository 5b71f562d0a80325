// Counts what is taken from the heap, by anybody in this program: malloc itself is ours here (heap.cpp).
#pragma once

#include <cstdint>

namespace fourmi {

/// From arm() to disarm() every allocation of every thread counts.
void arm_heap();
void disarm_heap();
std::int64_t heap_allocations();
/// Writes where the first of them came from to standard error.
void print_heap_allocations();

/// Bytes that are in use now.
std::int64_t heap_in_use();

}  // namespace fourmi

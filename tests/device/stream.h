// The stream that a test of an operation runs on: the CPU's, or in a program that is linked with a card the card's
// (mirror.h), so that one body is for both.
#pragma once

#include <gtest/gtest.h>

#include "kernels/runtime/error.h"
#include "kernels/runtime/stream.h"

namespace fourmi::test {

/// On the CPU: by the widest instructions.
Stream stream_of(ThreadPool& pool);
/// Does stream_of() give a card's? Then only what CPU and GPU share is equal to the bit: what moves, integers, scales
/// and bytes of quantisers.
bool on_card();

/// Mode layout is the CPU's: what only it uses works there, and a card refuses it.
template <class Call>
void expect_on_cpu_alone(const Call& call) {
  if (on_card())
    EXPECT_THROW(call(), Error);
  else
    EXPECT_NO_THROW(call());
}

}  // namespace fourmi::test

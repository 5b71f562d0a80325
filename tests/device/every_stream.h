// The streams on which a test's body has to give equal results.
#pragma once

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi::test {

/// Runs body on every stream of the CPU (on_every_stream); in a program that is linked with a card, on the card's.
inline void on_streams(const std::function<void(const Stream&)>& body) {
  if (!on_card()) return on_every_stream(body);
  ThreadPool pool(1);
  body(stream_of(pool));
}

}  // namespace fourmi::test

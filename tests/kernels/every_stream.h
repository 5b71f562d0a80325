// A body on all streams that have to give the same bits: in a program with a card on the card's
// (tests/device/stream.h), else on every one of the CPU.
#pragma once

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi::test {

inline void on_streams_of_device(const std::function<void(const Stream&)>& body) {
  if (!on_card()) return on_every_stream(body);
  ThreadPool pool(1);
  body(stream_of(pool));
}

}  // namespace fourmi::test

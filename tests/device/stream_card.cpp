#include "tests/device/mirror.h"
#include "tests/device/stream.h"

namespace fourmi::test {

Stream stream_of(ThreadPool& pool) {
  return Stream(*mirrored_device(), pool);
}
bool on_card() {
  return true;
}

}  // namespace fourmi::test

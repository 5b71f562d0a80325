#include "tests/device/stream.h"

namespace fourmi::test {

Stream stream_of(ThreadPool& pool) {
  return Stream(pool);
}
bool on_card() {
  return false;
}

}  // namespace fourmi::test

// How a polling wait gives way. Ranks may outnumber cores, so it yields from the first turn on (a rank that spins would
// keep the one it waits for from running); after about a millisecond it sleeps between polls.
#pragma once

#include <sched.h>
#include <time.h>

namespace fourmi {

class Backoff {
 public:
  void pause() {
    if (++turns_ <= num_yields) {
      sched_yield();
      return;
    }
    const timespec nap{0, turns_ <= 2 * num_yields ? short_nap_ns : long_nap_ns};
    nanosleep(&nap, nullptr);
  }

 private:
  static constexpr int num_yields = 1000;
  static constexpr long short_nap_ns = 20'000, long_nap_ns = 200'000;
  int turns_ = 0;
};

}  // namespace fourmi

#include "framework/run/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/run/injected_io.h"

namespace fourmi {
namespace {

TEST(Signals, EachSetsTheFlagAndNothingElse) {
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) {
    const StopSignals signals;
    EXPECT_EQ(StopSignals::requested(), 0);
    ::raise(signal);
    EXPECT_EQ(StopSignals::requested(), signal);
  }
  EXPECT_EQ(StopSignals::requested(), 0);
  EXPECT_STREQ(StopSignals::name_of(SIGUSR1), "SIGUSR1");
}

TEST(Signals, ASecondOneEndsAtOnceWhicheverItIs) {
  for (const int second : {SIGUSR1, SIGTERM, SIGINT}) {
    EXPECT_EQ(injected::in_child([&] {
                const StopSignals signals;
                ::raise(SIGUSR1);
                ::usleep(150'000);
                ::raise(second);
                ::_exit(5);
              }),
              -second);
  }
}

TEST(Signals, OneWishThatComesTwiceWithinMillisecondsIsOne) {
  EXPECT_EQ(injected::in_child([&] {
              const StopSignals signals;
              ::raise(SIGTERM);
              ::raise(SIGTERM);
              ::raise(SIGUSR1);
              ::_exit(StopSignals::requested() == SIGTERM ? 5 : 6);
            }),
            5);
}

TEST(Signals, WhatWasThereComesBack) {
  EXPECT_EQ(injected::in_child([] {
              { const StopSignals signals; }
              ::raise(SIGUSR1);
            }),
            -SIGUSR1);
}

}  // namespace
}  // namespace fourmi

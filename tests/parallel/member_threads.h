// Runs a body on every member of a group of threads.
#pragma once

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "parallel/group.h"

namespace fourmi {

/// The bodies' results, by rank. A body that throws fails the test and poisons the group, so that no thread stays
/// behind.
template <class Body>
auto run_members(int size, Body body) {
  auto groups = make_thread_groups("threads", size);
  std::vector<decltype(body(*groups[0]))> results(groups.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < groups.size(); ++r)
    threads.emplace_back([&, r] {
      try {
        results[r] = body(*groups[r]);
      } catch (const std::exception& e) {
        ADD_FAILURE() << "rank " << r << ": " << e.what();
        groups[r]->cancel("a member of the test failed");
      }
    });
  for (auto& t : threads) t.join();
  return results;
}

}  // namespace fourmi

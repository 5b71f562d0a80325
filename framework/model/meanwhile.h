// Work that is done while rows travel between ranks: it needs nothing of what is on its way, and what it writes nobody
// who waits reads. Weight gradients are the work of backward (in its halves that are one verb): the order of sums is
// the same, so no bit depends on it.
#pragma once

#include <type_traits>

namespace fourmi {

/// Refers to a callable that outlives the call that it is given to.
class Meanwhile {
 public:
  Meanwhile() = default;
  template <class Work>
  requires(!std::is_same_v<Work, Meanwhile>) Meanwhile(const Work& work)  // NOLINT: a lambda at the call
      : work_(&work), run_([](const void* w) { (*static_cast<const Work*>(w))(); }) {}
  void operator()() const {
    if (run_) run_(work_);
  }

 private:
  const void* work_ = nullptr;
  void (*run_)(const void*) = nullptr;
};

}  // namespace fourmi

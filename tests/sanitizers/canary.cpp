// Does what a sanitizer must stop: a suite that stays silent because nobody watches would pass everything.
//   sanitizer_canary heap | shift | cast | index | race
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

// Opaque to the optimizer.
template <class T>
T seen(T value) {
  volatile T v = value;
  return v;
}

int shared = 0;

}  // namespace

int main(int num_arguments, char** arguments) {
  const std::string fault = num_arguments == 2 ? arguments[1] : "";
  int result = 0;
  if (fault == "heap") {
    int* p = seen(new int[4]());
    delete[] p;
    result = *p;
  } else if (fault == "shift") {
    result = 1 << seen(40);
  } else if (fault == "cast") {
    result = static_cast<int>(seen(1e30));
  } else if (fault == "index") {
    std::vector<int> v(2);
    v.reserve(8);
    result = v[static_cast<std::size_t>(seen(5))];
  } else if (fault == "race") {
    std::thread other([] { shared = 1; });
    shared = 2;
    other.join();
    result = shared;
  } else {
    std::fprintf(stderr, "sanitizer_canary: no fault of the name '%s'\n", fault.c_str());
    return 2;
  }
  std::printf("nobody saw the fault: %d\n", result);
  return 0;
}

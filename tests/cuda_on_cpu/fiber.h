// A function with a stack of its own that can be left in the middle and gone on with: a GPU's thread.
#pragma once

#include <cstddef>
#include <functional>

namespace cuda_on_cpu {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// From here on resume() runs `body` from its beginning. It must not throw.
  void begin(std::function<void()> body);
  /// Runs until it leaves or ends. Called from outside of any fiber.
  void resume();
  /// Back to who resumed it. Called inside.
  void leave();
  bool ended() const { return ended_; }

 private:
  static void main();
  static constexpr std::size_t stack_bytes = std::size_t{256} << 10;
  std::byte* stack_ = nullptr;
  void* inside_ = nullptr;
  void* outside_ = nullptr;
  std::function<void()> body_;
  bool ended_ = true;
};

}  // namespace cuda_on_cpu

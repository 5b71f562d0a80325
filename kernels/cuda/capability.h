// What a card can do, by its compute capability: pure functions, so that a test can ask them without a card.
#pragma once

namespace fourmi::cuda {

struct Capability {
  int major = 0, minor = 0;

  /// Hopper's kernels (hopper/) are for exactly 9.0: `wgmma` and `setmaxnreg` are in sm_90a alone, not in what follows.
  constexpr bool has_hoppers_units() const { return major == 9 && minor == 0; }
  /// Cards that a launch takes. All but Hopper's kernels are compiled for 8.0 and later (CMakeLists.txt), but nothing
  /// has been proven on such a card.
  constexpr bool is_supported() const { return has_hoppers_units(); }
};

}  // namespace fourmi::cuda

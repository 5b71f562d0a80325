#pragma once

#include "parallel/world.h"

namespace fourmi {

/// The world that main() made.
World*& world_of_test();

}  // namespace fourmi

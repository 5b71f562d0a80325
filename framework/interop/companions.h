// What the small files beside a model's weights say of it (framework/run/companions.h: which they are).
#pragma once

#include <filesystem>
#include <string>

#include "framework/run/companions.h"

namespace fourmi::interop {

/// `license:` of the model card's front matter in the folder; empty if it says none.
std::string license_of_card(const std::filesystem::path& folder);

}  // namespace fourmi::interop

#pragma once

namespace fourmi::recipe {

/// What a changed key means for a run that goes on: it may differ between launches, needs --accept-changes, or never
/// changes.
enum class KeyClass { free, asked, fixed };

}  // namespace fourmi::recipe

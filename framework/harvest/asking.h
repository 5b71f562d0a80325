// One thread of a harvest: takes jobs, asks, asks again where that may help, and judges what it was answered.
#pragma once

#include "framework/harvest/work.h"

namespace fourmi::harvest {

/// Works until nothing is left or all is to stop. Whatever goes wrong for good ends up in Work::fail.
void ask_until_done(const Plan& plan, Work& work, std::uint64_t seed);

}  // namespace fourmi::harvest

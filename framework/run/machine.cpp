#include "framework/run/machine.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

using Clock = std::chrono::steady_clock;

// Accumulators are named registers: with intrinsics the compiler may spill them, and the loop would measure memory. The
// loop adds 0 * 0 to 0, so there is no overflow and no denormal, and the instruction takes the same time.
#define FOURMI_FMA_512(n) "vfmadd231ps %%zmm31, %%zmm30, %%zmm" #n "\n"
#define FOURMI_DOT_512(n) "vdpbf16ps %%zmm31, %%zmm30, %%zmm" #n "\n"
#define FOURMI_ZERO_512(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
#define FOURMI_FMA_256(n) "vfmadd231ps %%ymm15, %%ymm14, %%ymm" #n "\n"
#define FOURMI_ZERO_256(n) "vxorps %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n"
#define FOURMI_TWELVE(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11)
#define FOURMI_TWELVE_MORE(f) f(12) f(13) f(14) f(15) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23)
#define FOURMI_CLOBBERED                                                                                           \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15"
#define FOURMI_CLOBBERED_512 \
  FOURMI_CLOBBERED, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm30", "xmm31"

__attribute__((target("avx512f"), noinline)) void fma_512(long rounds) {
  asm volatile(FOURMI_TWELVE(FOURMI_ZERO_512) FOURMI_TWELVE_MORE(FOURMI_ZERO_512) FOURMI_ZERO_512(30)
                   FOURMI_ZERO_512(31) "1:\n" FOURMI_TWELVE(FOURMI_FMA_512)
                       FOURMI_TWELVE_MORE(FOURMI_FMA_512) "dec %0\njnz 1b\nvzeroupper\n"
               : "+r"(rounds)
               :
               : FOURMI_CLOBBERED_512);
}

__attribute__((target("avx512f,avx512bf16"), noinline)) void dot_512(long rounds) {
  asm volatile(FOURMI_TWELVE(FOURMI_ZERO_512) FOURMI_TWELVE_MORE(FOURMI_ZERO_512) FOURMI_ZERO_512(30)
                   FOURMI_ZERO_512(31) "1:\n" FOURMI_TWELVE(FOURMI_DOT_512)
                       FOURMI_TWELVE_MORE(FOURMI_DOT_512) "dec %0\njnz 1b\nvzeroupper\n"
               : "+r"(rounds)
               :
               : FOURMI_CLOBBERED_512);
}

__attribute__((noinline)) void fma_256(long rounds) {
  asm volatile(FOURMI_TWELVE(FOURMI_ZERO_256) FOURMI_ZERO_256(14)
                   FOURMI_ZERO_256(15) "1:\n" FOURMI_TWELVE(FOURMI_FMA_256) "dec %0\njnz 1b\nvzeroupper\n"
               : "+r"(rounds)
               :
               : FOURMI_CLOBBERED);
}

/// Operations a second of `loop`, whose round is `flops_a_round`.
double fastest(void (*loop)(long), double flops_a_round, Clock::duration budget) {
  const long rounds = 20'000;  // about 0.1 to 0.3 ms: shorter than a scheduler's slice, longer than a clock's grain
  const auto end = Clock::now() + budget;
  double best = 0;
  do {
    const auto start = Clock::now();
    loop(rounds);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, flops_a_round * static_cast<double>(rounds) / seconds);
  } while (Clock::now() < end);
  return best;
}

/// Which core a logical CPU belongs to; CPUs whose topology is not told are cores of their own.
std::pair<int, int> core_of(int cpu) {
  const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}/topology/", cpu);
  std::ifstream package_file(folder + "physical_package_id"), core_file(folder + "core_id");
  int package = 0, core = 0;
  if (package_file >> package && core_file >> core) return {package, core};
  return {-1, cpu};
}

/// CPUs' worth of time that the control group grants; infinite if it sets no limit.
double cpu_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
  return INFINITY;
}

}  // namespace

CorePeak measure_core(Isa isa, std::chrono::milliseconds budget) {
  CorePeak peak;
  if (isa == Isa::avx512) {
    peak.fp32 = fastest(fma_512, 24 * 16 * 2, budget / 2);
    // Some processors do two products a lane in more than twice the time; bf16 values multiply in fp32 as well.
    peak.bf16 = std::max(fastest(dot_512, 24 * 32 * 2, budget / 2), peak.fp32);
  } else {
    // The portable tier is held to what the machine could do, which is at least AVX2.
    peak.fp32 = peak.bf16 = fastest(fma_256, 12 * 8 * 2, budget);
  }
  return peak;
}

int usable_cores() {
  std::set<std::pair<int, int>> cores;
  // Masks of machines with more than 1024 CPUs do not fit cpu_set_t.
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
    FOURMI_CHECK(set != nullptr, "no memory for a CPU mask");
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    const bool fits = ::sched_getaffinity(0, size, set) == 0;
    for (int cpu = 0; fits && cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set)) cores.insert(core_of(cpu));
    }
    CPU_FREE(set);
    if (fits) break;
  }
  const double quota = std::ceil(cpu_quota());
  const double count = std::min(static_cast<double>(cores.size()), quota);
  return std::max(1, static_cast<int>(count));
}

}  // namespace fourmi

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/library/libraries.h"
#include "kernels/cuda/stream.h"
#include "kernels/runtime/cuda_card.h"
#include "kernels/runtime/cuda_devices.h"

namespace fourmi {

namespace {

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

std::string cuda_build() {
  return fmt::format("{} ({})", version_text(CUDART_VERSION), FOURMI_CUDA_CODE);
}

std::vector<std::pair<std::string, std::string>> cuda_card_facts(int index) {
  using cuda::check;
  const std::unique_ptr<DeviceRuntime> runtime = open_cuda_device(index);
  const std::unique_ptr<DeviceStream> stream = runtime->make_stream();
  const cuda::Card& card = static_cast<const cuda::CudaStream&>(*stream).card();
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, card.index), "asking the GPU");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking the GPU for its memory");
  int driver = 0, runtime_version = 0, count = 0, peers = 0;
  check(cudaDriverGetVersion(&driver), "asking for the driver");
  check(cudaRuntimeGetVersion(&runtime_version), "asking for CUDA's runtime");
  check(cudaGetDeviceCount(&count), "counting GPUs");
  for (int other = 0; other < count; ++other) {
    int can = 0;
    if (other != card.index) check(cudaDeviceCanAccessPeer(&can, card.index, other), "asking for peers");
    peers += can;
  }
  constexpr double GiB = 1024.0 * 1024.0 * 1024.0;
  std::vector<std::pair<std::string, std::string>> facts{
      {"GPU", p.name},
      {"compute capability", fmt::format("{}.{}", p.major, p.minor)},
      {"multiprocessors", fmt::format("{}", p.multiProcessorCount)},
      {"memory",
       fmt::format("{:.1f} GiB, {:.1f} free", static_cast<double>(total) / GiB, static_cast<double>(free) / GiB)},
      {"L2 cache", fmt::format("{:.1f} MiB", static_cast<double>(p.l2CacheSize) / (1 << 20))},
      {"shared memory of a block", fmt::format("{} KiB", p.sharedMemPerBlockOptin >> 10)},
      {"ECC", p.ECCEnabled ? "on" : "off"},
      {"CUDA of the driver", version_text(driver)},
      {"CUDA runtime", version_text(runtime_version)},
      {"GPUs", fmt::format("{}, {} of them peers of the first", count, peers)}};
  for (const std::string& library : cuda::library::library_facts()) facts.emplace_back("library", library);
  return facts;
}

bool use_cuda_libraries(DeviceStream& stream, bool use) {
  cuda::library::Libraries& libraries = static_cast<cuda::CudaStream&>(stream).libraries();
  libraries.use_cublaslt(use);
  libraries.use_cudnn(use);
  return use && libraries.cublaslt();
}

}  // namespace fourmi

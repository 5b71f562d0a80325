#include "framework/run/gpu_peak.h"

namespace fourmi {

std::optional<MachinePeak> gpu_peak(std::string_view name) {
  struct Row {
    std::string_view name;
    double fp32, bf16, fp8;  ///< tera operations a second
  };
  // The same chip in four forms. Datasheets "H100 Tensor Core GPU" (SXM, PCIe, NVL), "H200 Tensor Core GPU" (SXM, NVL),
  // "GH200 Grace Hopper Superchip", whose tables have BF16 1,979 1,513 1,671 and FP8 3,958 3,026 3,341 with sparsity,
  // FP32 67 51 60. H800 is H100 with slower links and FP64.
  constexpr Row rows[] = {
      {"NVIDIA H100 80GB HBM3", 67, 989.5, 1979}, {"NVIDIA H100 PCIe", 51, 756.5, 1513},
      {"NVIDIA H100 NVL", 60, 835.5, 1670.5},     {"NVIDIA H200", 67, 989.5, 1979},
      {"NVIDIA H200 NVL", 60, 835.5, 1670.5},     {"NVIDIA H800", 67, 989.5, 1979},
      {"NVIDIA H800 PCIe", 51, 756.5, 1513},      {"NVIDIA GH200 120GB", 67, 989.5, 1979},
      {"NVIDIA GH200 480GB", 67, 989.5, 1979},    {"NVIDIA GH200 144G HBM3e", 67, 989.5, 1979},
  };
  for (const Row& r : rows)
    if (r.name == name) return MachinePeak{r.fp32 * 1e12, r.bf16 * 1e12, r.fp8 * 1e12};
  return {};
}

}  // namespace fourmi

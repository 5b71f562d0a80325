#include "launch/gpu_check/speeds.h"

namespace fourmi::gpu_check {

namespace {

ordered_json measured(const bench::KernelCase& kernel, const Stream& stream, const KernelRun& run,
                      const Ceilings& ceilings) {
  double library = 0;
  if (kernel.flops > 0 && run.use_libraries && run.use_libraries(true)) {
    library = time_of(stream, kernel.by_calls ? kernel.by_calls : kernel.run, run.budget).median;
    run.use_libraries(false);
  }
  if (kernel.peer)
    library = time_of(
                  stream, [&](const Stream&) { kernel.peer(); }, run.budget)
                  .median;
  const Timing t = time_of(stream, kernel.run, run.budget);
  ordered_json figure{{"name", kernel.name}, {"shape", kernel.shape}, {"seconds", t.median},
                      {"low", t.low},        {"high", t.high},        {"calls", t.calls}};
  if (kernel.flops > 0) {
    figure["flops"] = kernel.flops;
    figure["flops_per_second"] = kernel.flops / t.median;
    figure["share_of_matrix"] = kernel.flops / t.median / ceilings.matrix;
  } else {
    figure["floor_bytes"] = kernel.bytes;
    figure["bytes_per_second"] = kernel.bytes / t.median;
    figure["share_of_copy"] = kernel.bytes / t.median / ceilings.copy;
  }
  if (kernel.beside) {
    const double beside = time_of(stream, kernel.beside, run.budget).median;
    figure["bf16_seconds"] = beside;
    figure["times_bf16"] = beside / t.median;
  }
  if (library > 0) {
    figure["library_seconds"] = library;
    figure["times_library"] = library / t.median;
  }
  return figure;
}

}  // namespace

void tell_kernels(const Stream& stream, const KernelRun& run, const Tell& tell) {
  tell({{"begin", "the operands of all cases"}, {"number", run.from - 1}});
  const bench::KernelCases cases(run.cases, stream);
  const Ceilings ceilings = measure_ceilings(stream, run.ceilings, run.use_libraries);
  for (std::size_t i = 0; i < cases.all().size(); ++i) {
    const auto number = static_cast<std::int64_t>(i);
    if (number < run.from) continue;
    const bench::KernelCase& kernel = cases.all()[i];
    tell({{"begin", kernel.name + ", " + kernel.shape}, {"number", number}});
    try {
      tell(measured(kernel, stream, run, ceilings));
    } catch (const Error& error) {
      tell({{"name", kernel.name}, {"shape", kernel.shape}, {"error", error.what()}});
    }
  }
}

}  // namespace fourmi::gpu_check

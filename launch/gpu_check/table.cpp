#include "launch/gpu_check/table.h"

#include "launch/gpu_check/figures.h"
#include "launch/gpu_check/nccl.h"
#include "launch/gpu_check/test_program.h"

namespace fourmi::gpu_check {

namespace {

constexpr double silence_of_a_measurement = 30, silence_of_a_test = 45;

}  // namespace

std::vector<Part> parts(const Places& p) {
  const auto measuring = [p](const char* name) {
    return [p, name](const Job& job) { return run_measuring(job, p.program, name, silence_of_a_measurement); };
  };
  // Small tests first; last what may hang or takes long, of Hopper each instruction alone before the kernels.
  const auto testing = [p](const char* program) {
    return [p, program](const Job& job) {
      return run_test_program(job, {.program = p.beside / program,
                                    .silence = silence_of_a_test,
                                    .batch = 8,
                                    .last = {"HopperPtx", "Hopper", "Attention", "GqaAssemble", "TrainOnCard"}});
    };
  };
  const auto with = [p](Outcome (*how)(const Job&, const Places&)) {
    return [p, how](const Job& job) { return how(job, p); };
  };
  return {
      {"facts", "what the machine says of its GPUs", 40, with(check_facts)},
      {"ceilings", "a copy of 2 GiB and a product of 8192^3 in bf16", 40, measuring("ceilings")},
      {"tests", "every operation beside the CPU, few tests in a process", 180, testing("test_card")},
      {"kernels", "each operation beside its floor", 100, measuring("kernels")},
      {"exchange", "ranks whose kernels write to each other's windows, beside a copy and a product", 60,
       measuring("exchange")},
      {"train", "steps of a mixture of experts in bf16 and FP8", 90, with(check_training_speed)},
      {"curve", "200 steps of recipes/tiny.yaml on the GPU and on the CPU", 120, with(check_curve)},
      {"layouts", "all layouts agree, ranks as threads", 90, testing("test_card_layouts")},
      {"nccl", "ranks that move a GPU's memory by NCCL, on one GPU or one each", 75,
       [p](const Job& job) { return check_nccl(job, p, silence_of_a_measurement); }},
      {"sanitizer", "compute-sanitizer over small tests", 90, with(check_under_sanitizer)},
  };
}

}  // namespace fourmi::gpu_check

// Ranks that move a GPU's memory by NCCL: processes under mpirun, one a GPU, or several that share the only one.
#pragma once

#include "launch/gpu_check/figures.h"
#include "launch/gpu_check/places.h"
#include "parallel/group.h"

namespace fourmi::gpu_check {

struct NcclSizes {
  std::int64_t large = std::int64_t{64} << 20;  ///< bytes that a rank receives in a timed call, its own included
  double seconds = 1;                           ///< for the rounds of a timed call
};

/// What a run of ranks tells, in this order: each is a figure's "name".
const std::vector<std::string>& nccl_steps();

/// Forms the group's communicators, and does each step on memory of the stream's device: the bytes of every rank are
/// checked, of the timed ones too. Collective; rank 0 tells. Wrong bytes are a figure with an "error", and the next
/// step follows; a rank that throws ends the run.
void tell_nccl(Group& group, DeviceStream& stream, const NcclSizes& sizes, const Tell& tell);

/// A rank's process, `fourmi gpu-check --part nccl` under mpirun. Where the library is not there, or does not let ranks
/// share a GPU, rank 0 tells {"absent": why}. Its standard output has figures alone, whatever the library prints.
void run_nccl_rank();

/// The command of so many ranks. `shared`: of one GPU, which NCCL has to be allowed.
std::vector<std::string> nccl_words(const std::string& mpirun, const std::string& program, int ranks, bool shared);

/// What became of such a run.
Outcome judge_nccl(const ChildEnd& end, int ranks, bool shared);

/// The part `nccl`. `silence`: seconds without a figure after which the ranks are killed.
Outcome check_nccl(const Job& job, const Places& places, double silence);

}  // namespace fourmi::gpu_check

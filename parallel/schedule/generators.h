// The generators behind make_schedule(). Each returns the actions of all ranks; sizes are already proven legal. P
// ranks, M micro-batches.
#pragma once

#include "parallel/schedule/schedule.h"

namespace fourmi::schedules {

/// All forwards, then all backwards.
Schedule gpipe(int num_ranks, int num_micro_batches);
/// Rank r: min(P-1-r, M) forwards, then one forward and one backward in turn, then the rest.
Schedule one_f_one_b(int num_ranks, int num_micro_batches);
/// As 1F1B with the backward cut in two; the weight half follows r micro-batches later, so every rank keeps P
/// micro-batches at most (Qi et al., Zero Bubble Pipeline Parallelism, ZB-H1).
Schedule zb_h1(int num_ranks, int num_micro_batches);
/// Rank r holds the stages r, P+r, 2P+r, ...; micro-batches go through in groups of P (Narayanan et al., Megatron-LM).
/// M % P = 0. `paired`: a rank does one forward more before its first backward, and from there on one forward and one
/// backward at a time as a pair (as Megatron-LM's overlap_moe_expert_parallel_comm).
Schedule interleaved(int num_ranks, int chunks, int num_micro_batches, bool paired);
/// Rank r holds the stages r and 2P-1-r, so first and last are both on rank 0 (Qi et al., ZB-V). Made by a greedy
/// choice with unit times and a memory of 2P chunks, which is what 1F1B takes.
Schedule zb_v(int num_ranks, int num_micro_batches);
/// Two directions at once over two copies of each stage (DeepSeek-V3, section 3.2.1). P even, M even and at least 2P.
Schedule dual_pipe(int num_ranks, int num_micro_batches);
/// DualPipe cut in half: stages as in ZB-V, one direction. M at least 2P.
Schedule dual_pipe_v(int num_ranks, int num_micro_batches);

/// The routes of one stage a rank, of a V, and an empty schedule with as many lists as ranks.
std::vector<StagePlace> straight(int num_ranks);
std::vector<StagePlace> v_shape(int num_ranks);
Schedule empty(std::string name, int num_ranks, int num_chunks, int num_micro_batches,
               std::vector<std::vector<StagePlace>> routes);

}  // namespace fourmi::schedules

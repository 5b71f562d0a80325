// What one rank executes in a step: its list of a schedule with every message posted, waited for and given a place.
//
// Everything that crosses a stage's border has one shape, so all of it lives in one row of border tensors, each taken
// when a message is expected or made and free again after its last reader. Receives are posted one action before the
// one that waits for them, or earlier: those of one sender in its order, since between two GPUs messages are told apart
// by nothing else. Sends are waited for when their turn comes again. Nothing of this depends on time, so it is decided
// once, counted exactly, and proven before the first step.
#pragma once

#include <vector>

#include "parallel/schedule/transfers.h"

namespace fourmi {

struct Instruction {
  enum class Kind : std::uint8_t { start_receive, finish_receive, start_send, finish_send, act } kind = Kind::act;
  // Of messages.
  Message message{};
  int border = -1;   ///< the tensor that travels
  int request = -1;  ///< of those that a rank has open
  // Of an action; a pair is two, its forward and its backward, next to each other where they are done together.
  Verb verb = Verb::forward;
  bool together = false;  ///< with the next instruction: a pair's forward
  Pass pass{};
  int slot = -1;          ///< of the chunk's activations, from its forward to its last use
  int kept = -1;          ///< of the chunk's gradients between the two halves of a backward
  int rows = -1;          ///< of the micro-batch's tokens, from its first action on this rank to its last
  int in = -1, out = -1;  ///< borders: forward: input, output; backward, backward_input: their gradients, the other way
                          ///< round; backward_weight: input and the gradient that came in; -1: the model's ends
  int input = -1;         ///< backward and its halves: the border that forward read
};

struct Program {
  std::vector<Instruction> instructions;
  std::vector<int> num_slots, num_kept;  ///< by chunk
  int num_borders = 0, num_requests = 0, num_rows = 0;
  int num_micro_batches = 0;
};

/// What becomes of a pair.
enum class Pairs : std::uint8_t {
  in_turn,  ///< its forward, then its backward: each waits for what it needs itself
  together  ///< both at once: they begin when both have what they need, and give what they make when both are done
};

/// For every rank. `most_sends`: messages of one kind to one rank that may be under way at once.
std::vector<Program> make_programs(const Schedule& schedule, int most_sends, Pairs pairs = Pairs::in_turn);

/// The same with the least number of sends, from 2, with which the order is proven.
std::vector<Program> make_proven_programs(const Schedule& schedule, Pairs pairs = Pairs::in_turn);

/// The programs of all ranks as one graph, where a send may end only after its receive is posted. Throws Error(bug)
/// unless each message is sent once and received once, by those that it names, those from one rank to another in one
/// order, and no ranks wait for one another in a circle; names what each of them waits for and what it would do next.
void prove_order(const Schedule& schedule, const std::vector<Program>& programs);

/// "F 1.2", "wait for the output of stage 3, micro-batch 0, from rank 1".
std::string to_string(const Instruction& instruction, int num_chunks);

/// Unique among the messages of a step.
int tag_of(const Message& message, int num_stages);

}  // namespace fourmi

// The keys of parallel that say how rows reach experts on other ranks.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_dispatch_fields(std::vector<Field>& table) {
  table.push_back(bind(
      {.path = "parallel.dispatcher",
       .type = Type::text,
       .meaning =
           "How tokens reach experts on other ranks. all-to-all: each token once to each rank that holds some of "
           "its experts. hierarchical: once to each node, from there to the node's ranks. device: as all-to-all (with "
           "dispatch_node_size as hierarchical), where ranks write into the memory of others of the group (of the "
           "node), which ranks of one host can, on the CPU. local: not at all, for expert: 1. auto: hierarchical "
           "where dispatch_node_size is given, else all-to-all. The results are the same.",
       .key_class = KeyClass::free,
       .choices = {"auto", "local", "all-to-all", "hierarchical", "device"},
       .foreign = {"moe_token_dispatcher_type", "moe_dispatcher"}},
      FOURMI_AT(parallel.dispatcher)));
  table.push_back(bind({.path = "parallel.dispatch_node_size",
                        .type = Type::whole,
                        .meaning = "Consecutive ranks of the expert axis that make a node for hierarchical and device "
                                   "dispatch: a power of two that divides expert.",
                        .unit = "ranks",
                        .key_class = KeyClass::free,
                        .nullable = true,
                        .least = 1,
                        .most = 64},
                       FOURMI_AT(parallel.dispatch_node_size)));
  table.push_back(bind(
      {.path = "parallel.dispatch_bound",
       .type = Type::number,
       .meaning = "Most rows that a rank is sent, and computes with its experts, at a time, as a multiple of what even "
                  "routing brings. A micro-batch that brings more goes in several rounds: nothing is dropped. Without "
                  "it a rank has memory for the worst routing.",
       .unit = "of the mean",
       .key_class = KeyClass::free,
       .nullable = true,
       .least = 1,
       .most = 1e6},
      FOURMI_AT(parallel.dispatch_bound)));
  table.push_back(
      bind({.path = "parallel.dispatch_multiprocessors",
            .type = Type::whole,
            .meaning =
                "Multiprocessors of a rank's GPU that move rows with dispatcher: device; the others compute meanwhile. "
                "Ranks that share a GPU take as many each. Without it as many as the link needs, by a data sheet's "
                "figures (kernels.md). Nothing on the CPU.",
            .unit = "multiprocessors",
            .key_class = KeyClass::free,
            .nullable = true,
            .least = 1,
            .most = 128},
           FOURMI_AT(parallel.dispatch_multiprocessors)));
}

}  // namespace fourmi::recipe

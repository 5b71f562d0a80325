#include "framework/train/pipeline.h"

#include <algorithm>
#include <chrono>

#include "framework/model/pair.h"
#include "framework/train/pair_rule.h"
#include "framework/train/tensor_bytes.h"
#include "parallel/schedule/verb_names.h"

namespace fourmi {

namespace {

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// The most of each count that any of the programs needs.
template <class Of>
int most(const std::map<int, Program>& programs, Of of) {
  int result = 0;
  for (const auto& [count, program] : programs) result = std::max(result, of(program));
  return result;
}

}  // namespace

Pipeline::Pipeline(const Recipe& recipe, const StageMap& map, int rank, std::span<const int> counts,
                   const ParameterStore& store, const ModelTables& tables, const LayerGroups& groups, Arena& arena)
    : map_(map), rank_(rank) {
  if (groups.context)
    part_ = {groups.context->rank(), groups.context->size(), recipe.parallel.context_method == ContextMethod::ring};
  std::size_t actions = 0;
  const Pairs pairs = pair_rule(recipe).how;
  bool together = false;
  for (int count : counts) {
    std::vector<Program> all = make_proven_programs(schedule_of(recipe, count), pairs);
    Program& mine = programs_[count] = std::move(all[static_cast<std::size_t>(rank)]);
    actions = std::max(actions, mine.instructions.size());
    for (const Instruction& i : mine.instructions) together |= i.together;
  }
  BatchSizes sizes = batch_sizes(recipe);
  sizes.experts.on_card |= arena.device() == Device::cuda;  // run.device: auto
  for (int index : map.stages_of(rank)) {
    models_.push_back(std::make_unique<Model>(recipe.model, store, map.stage(index), tables));
    models_.back()->reserve(sizes, recipe.memory.recompute, workspace_, promotes(recipe));
  }
  const Shape rows{sizes.shard_rows(), recipe.model.hidden_size};
  const DType activation = store.types().activation;
  workspace_.allocate(recipe.model, sizes, store.types(), groups, arena, together);
  for (std::size_t chunk = 0; chunk < models_.size(); ++chunk)
    models_[chunk]->place(most(programs_, [&](const Program& p) { return p.num_slots[chunk]; }),
                          most(programs_, [&](const Program& p) { return p.num_kept[chunk]; }), arena);
  // Forward alone takes what comes and makes what goes.
  const int borders = map.places.size() == 1 ? 0 : 2;
  borders_.resize(
      static_cast<std::size_t>(std::max(borders, most(programs_, [](const Program& p) { return p.num_borders; }))));
  for (Tensor& t : borders_) t = arena.allocate(rows, activation, "stage borders");
  requests_.resize(static_cast<std::size_t>(most(programs_, [](const Program& p) { return p.num_requests; })));
  // Positions are those of whole sequences, whoever holds their rows.
  for (int n = most(programs_, [](const Program& p) { return p.num_rows; }); n > 0; --n)
    rows_.emplace_back(recipe.data.micro_batch_size * recipe.data.sequence_length, arena);
  done_.reserve(actions);
}

bool Pipeline::has_head() const {
  return map_.places.back().rank == rank_;
}

const StagedRows& Pipeline::rows(int place, int micro_batch, MicroBatches& batches, const Stream& stream) {
  StagedRows& r = rows_[static_cast<std::size_t>(place)];
  r.take(micro_batch, batches, part_, stream);
  return r;
}

struct Pipeline::Run {
  const Stream& stream;
  const LossWeights& weights;
  const Context& context;
  MicroBatches& batches;
};

StagePass Pipeline::pass(const Instruction& i, const StagedRows& r, const Run& run) const {
  StagePass p{.batch = r.tensors(), .micro_batch = i.pass.micro_batch, .slot = i.slot, .kept = i.kept};
  p.weights = run.weights;
  p.x_MD = border(i.verb == Verb::forward ? i.in : i.input);
  if (i.verb == Verb::forward) {
    p.y_MD = border(i.out);
    return p;
  }
  p.dy_MD = border(i.in);
  if (i.verb != Verb::backward_weight) p.dx_MD = border(i.out);
  return p;
}

void Pipeline::act(const Instruction& i, Run& run) {
  Model& model = model_of(i);
  run.batches.enter(i.verb);
  const Span span(run.stream.timeline(), Work::other, name_of(i.verb));
  const std::int64_t begin = now();
  const StagedRows& r = rows(i.rows, i.pass.micro_batch, run.batches, run.stream);
  const StagePass p = pass(i, r, run);
  switch (i.verb) {
    case Verb::forward:
      run.batches.take(model.forward(run.stream, p, run.context), r.on_host());
      break;
    case Verb::backward:
      model.backward(run.stream, p, run.context);
      break;
    case Verb::backward_input:
      model.backward_input(run.stream, p, run.context);
      break;
    case Verb::backward_weight:
      model.backward_weight(run.stream, p, run.context);
      break;
    case Verb::pair:
      FOURMI_CHECK(false, "a pair in a program");
  }
  done_.push_back({i.verb, i.pass, begin, now()});
}

/// A pair's two halves, phase by phase.
void Pipeline::act_together(const Instruction& f, const Instruction& b, Run& run) {
  run.batches.enter(Verb::pair);
  const Span span(run.stream.timeline(), Work::other, name_of(Verb::pair));
  const std::int64_t begin = now();
  const StagedRows &forward_rows = rows(f.rows, f.pass.micro_batch, run.batches, run.stream),
                   &backward_rows = rows(b.rows, b.pass.micro_batch, run.batches, run.stream);
  const StagePass forward = pass(f, forward_rows, run), backward = pass(b, backward_rows, run);
  PairRunner pair(run.stream, {model_of(f), forward}, {model_of(b), backward}, run.context);
  run.batches.take(pair.run(), forward_rows.on_host());
  done_.push_back({Verb::pair, f.pass, begin, now()});
}

void Pipeline::run(const Stream& stream, Group& pipeline, int num_micro_batches, const LossWeights& weights,
                   const Context& context, MicroBatches& batches) {
  const auto found = programs_.find(num_micro_batches);
  FOURMI_CHECK(found != programs_.end(), "a step of {} micro-batches, which the recipe does not have",
               num_micro_batches);
  const int stages = static_cast<int>(map_.places.size());
  Run run{stream, weights, context, batches};
  for (StagedRows& r : rows_) r.forget();
  done_.clear();
  const std::vector<Instruction>& list = found->second.instructions;
  for (std::size_t at = 0; at < list.size(); ++at) {
    const Instruction& i = list[at];
    Request* request = i.request < 0 ? nullptr : &requests_[static_cast<std::size_t>(i.request)];
    switch (i.kind) {
      case Instruction::Kind::start_receive:
        *request = pipeline.start_receive(bytes_of(border(i.border)), i.message.from, tag_of(i.message, stages));
        break;
      case Instruction::Kind::start_send:
        *request = pipeline.start_send(bytes_of(border(i.border)), i.message.to, tag_of(i.message, stages));
        break;
      case Instruction::Kind::finish_receive:
      case Instruction::Kind::finish_send: {
        const Span span(stream.timeline(), Work::pipeline, "wait_for_stage");
        request->wait();
        break;
      }
      case Instruction::Kind::act:
        if (i.together)
          act_together(i, list[++at], run);
        else
          act(i, run);
        break;
    }
  }
}

/// Stage after stage, micro-batch after micro-batch: the order in which all ranks do it, so nobody waits in a circle.
void Pipeline::evaluate(const Stream& stream, Group& pipeline, int num_micro_batches, const Context& context,
                        MicroBatches& batches) {
  const int stages = static_cast<int>(map_.places.size());
  for (StagedRows& r : rows_) r.forget();
  for (int m = 0; m < num_micro_batches; ++m)
    for (int s = 0, here = 0; s < stages; ++s) {
      const StagePlace place = map_.places[static_cast<std::size_t>(s)];
      if (place.rank != rank_) continue;
      const auto other = [&](int stage) { return map_.places[static_cast<std::size_t>(stage)].rank; };
      const StagedRows& r = rows(0, m, batches, stream);
      StagePass p{.batch = r.tensors(), .micro_batch = m};
      if (s > 0) p.x_MD = border(here);
      if (s + 1 < stages) p.y_MD = border(1 - here);
      const Message in{.from = s > 0 ? other(s - 1) : rank_, .to = rank_, .stage = s - 1, .micro_batch = m};
      const Message out{.from = rank_, .to = s + 1 < stages ? other(s + 1) : rank_, .stage = s, .micro_batch = m};
      if (in.from != rank_) pipeline.start_receive(bytes_of(p.x_MD), in.from, tag_of(in, stages)).wait();
      batches.take(models_[static_cast<std::size_t>(place.chunk)]->evaluate(stream, p, context), r.on_host());
      if (out.to != rank_) pipeline.start_send(bytes_of(p.y_MD), out.to, tag_of(out, stages)).wait();
      here = 1 - here;
    }
}

}  // namespace fourmi

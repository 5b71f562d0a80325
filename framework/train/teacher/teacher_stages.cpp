#include "framework/train/teacher/teacher_stages.h"

#include "framework/train/stages.h"
#include "framework/train/tensor_bytes.h"

namespace fourmi {

namespace {

/// Without the head.
Holding holding(const Recipe& teacher, const StageMap& map, const Coordinates& at) {
  Holding held = at.holding(teacher, map);
  held.head = held.mtp = held.embedding_is_shared = false;
  return held;
}

}  // namespace

TeacherStages::TeacherStages(const Recipe& teacher, const StageMap& map, const Coordinates& at,
                             const LayerGroups& groups, Arena& arena)
    : map_(map),
      rank_(at.stage),
      held_(teacher.model, holding(teacher, map, at)),
      store_(held_, model_types(teacher.precision, teacher.run.reproducibility), arena, nullptr),
      tables_(teacher.model, store_.types(), teacher.data.sequence_length, arena) {
  const bool ring = teacher.parallel.context_method == ContextMethod::ring;
  if (groups.context) part_ = {groups.context->rank(), groups.context->size(), ring};
  BatchSizes sizes = batch_sizes(teacher);
  sizes.experts.on_card |= arena.device() == Device::cuda;
  const Shape border{sizes.shard_rows(), teacher.model.hidden_size};
  LayerGroups with_windows = groups;
  with_windows.windows = &arena;
  for (int index : map_.stages_of(rank_)) {
    Stage stage = map_.stage(index);
    stage.last = false;
    chunks_.push_back({.stage = index,
                       .model = std::make_unique<Model>(teacher.model, store_, stage, tables_),
                       .rows = StagedRows(teacher.data.micro_batch_size * teacher.data.sequence_length, arena),
                       .in_mD = {},
                       .out_mD = {}});
    Chunk& chunk = chunks_.back();
    chunk.model->allocate(sizes, Model::Use::evaluation, arena, Recompute::none, with_windows);
    const DType activation = store_.types().activation;
    if (index > 0 && rank_of(index - 1) != rank_) chunk.in_mD = arena.allocate(border, activation, "stage borders");
    for (Tensor& out : chunk.out_mD) out = arena.allocate(border, activation, "stage borders");
  }
}

/// What the stage before gives of a micro-batch, if another rank has it.
void TeacherStages::receive(Chunk& chunk, Group& pipeline, int micro_batch) {
  if (!chunk.in_mD) return;
  const int stages = static_cast<int>(map_.places.size());
  chunk.received =
      pipeline.start_receive(bytes_of(chunk.in_mD), rank_of(chunk.stage - 1), micro_batch * stages + chunk.stage - 1);
}

void TeacherStages::run(const Stream& stream, Group& pipeline, int num_micro_batches, const Context& context,
                        MicroBatches& batches, const LastLayer& last_layer) {
  const int stages = static_cast<int>(map_.places.size()), count = num_micro_batches;
  for (Chunk& chunk : chunks_) {
    chunk.rows.forget();
    receive(chunk, pipeline, 0);
  }
  for (int time = 0; time < count + stages - 1; ++time) {
    const auto now = static_cast<std::size_t>(time % 2), before = 1 - now;
    for (Chunk& chunk : chunks_) {
      const int s = chunk.stage, m = time - s;
      if (m < 0 || m >= count) continue;
      chunk.rows.take(m, batches, part_, stream);
      StagePass pass{.batch = chunk.rows.tensors(), .micro_batch = m};
      if (s > 0) {
        if (chunk.in_mD) chunk.received.wait();
        pass.x_MD = chunk.in_mD ? chunk.in_mD : chunk_of(s - 1).out_mD[before];
      }
      chunk.sent[now].wait();
      pass.y_MD = chunk.out_mD[now];
      chunk.model->evaluate(stream, pass, context);
      if (s + 1 < stages && rank_of(s + 1) != rank_)
        chunk.sent[now] = pipeline.start_send(bytes_of(pass.y_MD), rank_of(s + 1), m * stages + s);
      if (m + 1 < count) receive(chunk, pipeline, m + 1);
    }
    const int done = time - (stages - 1);
    if (done >= 0) last_layer(done, rank_of(stages - 1) == rank_ ? chunk_of(stages - 1).out_mD[now] : Tensor{});
  }
  for (Chunk& chunk : chunks_)
    for (Request& request : chunk.sent) request.wait();
}

}  // namespace fourmi

#include "framework/train/teacher/teacher_forward.h"

#include <algorithm>

#include "framework/train/cuts.h"
#include "framework/train/mesh_sizes.h"
#include "framework/train/teacher/teacher_recipe.h"
#include "framework/train/teacher/teacher_weights.h"
#include "framework/train/tensor_bytes.h"
#include "kernels/ops/copy.h"

namespace fourmi {

namespace {

LayerGroups layer_groups(const RankGroups* groups) {
  if (!groups) return {};
  return {.tensor = &groups->tensor(),
          .context = &groups->context(),
          .expert = &groups->expert(),
          .expert_tensor = &groups->expert_tensor()};
}

}  // namespace

TeacherForward::TeacherForward(const Recipe& student, const StageMap& student_stages, const Mesh& student_mesh,
                               int rank, const RankGroups* groups, Arena& arena)
    : recipe_(teacher_recipe(student)),
      mesh_(mesh_sizes(recipe_, student_mesh.ranks())),
      stages_(teacher_stages(recipe_)),
      at_(recipe_, stages_, mesh_, rank),
      groups_(groups) {
  const Layout mine{recipe_, mesh_, stages_}, theirs{student, student_mesh, student_stages};
  std::int64_t most_samples = 0, most_received = 0;
  for (const auto& [tokens, sequences] : student.data.global_batch_size.over_tokens.steps) {
    const auto samples = static_cast<std::int64_t>(sequences);
    const auto at = moves_.try_emplace(samples, mine, theirs, rank, samples).first;
    most_samples = std::max(most_samples, samples);
    most_received = std::max(most_received, at->second.most_received());
  }
  layers_.emplace(recipe_, stages_, at_, layer_groups(groups), arena);
  const std::int64_t D = recipe_.model.hidden_size;
  const DType activation = layers_->store().types().activation;
  if (at_.stage == stages_.places.back().rank)
    sent_nD_ = arena.allocate({batch_sizes(recipe_).shard_rows(), D}, activation, "the teacher's rows on their way");
  to_.resize(static_cast<std::size_t>(mesh_.ranks())), from_ = to_;
  if (student_mesh.coordinate(rank, Axis::pipeline) != student_stages.places.back().rank) return;
  received_nD_ = arena.allocate({most_received, D}, activation, "the teacher's rows as they come");
  const BatchSizes batch = batch_sizes(student);
  const std::int64_t rows =
      most_samples / student_mesh.size(Axis::data) / student.data.micro_batch_size * batch.shard_rows();
  const Share tensor{student_mesh.coordinate(rank, Axis::tensor), student_mesh.size(Axis::tensor)};
  head_.emplace(recipe_, student.model.vocab_size, tensor, rows, most_received, arena);
}

void TeacherForward::load(Group& world, const Checkpoint& checkpoint, const Stream& stream) {
  load_weights(world, checkpoint, layers_->store(), recipe_.model.num_hidden_layers, stream);
  // Ranks without the student's head ask for nothing.
  if (head_)
    load_weights(world, checkpoint, head_->store(), 0, stream, head_->stored_rows());
  else
    load_boxes(world, checkpoint, {});
  prepared_.clear();
}

void TeacherForward::initialise(std::uint64_t seed, const Stream& stream) {
  initialise_weights(layers_->store(), seed, recipe_.model.initializer_range, stream);
  if (head_) initialise_weights(head_->store(), seed, recipe_.model.initializer_range, stream);
  prepared_.clear();
}

/// The teacher's micro-batches of a step on this rank.
class TeacherForward::Step : public MicroBatches {
 public:
  Step(const TeacherForward& teacher, const Loader& loader, const StepPlan& plan)
      : teacher_(teacher), loader_(loader), plan_(plan) {}
  void fill(int index, Batch& batch) override {
    const Member& data = teacher_.at_.data;
    loader_.micro_batch(plan_, data.rank, data.size, index, teacher_.recipe_.data.micro_batch_size, batch);
  }
  void take(const BatchLosses&, const BatchTensors&) override {}

 private:
  const TeacherForward& teacher_;
  const Loader& loader_;
  const StepPlan& plan_;
};

void TeacherForward::prepare(const Loader& loader, const StepPlan& plan, const Stream& stream) {
  if (plan.samples == prepared_) return;
  const OwningSpan span(stream.timeline(), Work::other, "teacher");
  const RowMoves& moves = this->moves(std::ssize(plan.samples));
  Step batches(*this, loader, plan);
  const Context context = cuts_of(recipe_, nullptr);
  layers_->run(stream, groups_->pipeline(), static_cast<int>(moves.rounds().size()), context, batches,
               [&](int micro_batch, const Tensor& hidden_mD) {
                 exchange(moves.rounds()[static_cast<std::size_t>(micro_batch)], hidden_mD, stream);
               });
  prepared_.assign(plan.samples.begin(), plan.samples.end());
}

/// Collective among all ranks.
void TeacherForward::exchange(const RowMoves::Round& round, const Tensor& hidden_mD, const Stream& stream) const {
  const OwningSpan span(stream.timeline(), Work::gather, "teacher_rows");
  const auto row_bytes =
      static_cast<std::size_t>(fourmi::bytes_of(layers_->store().types().activation, {recipe_.model.hidden_size}));
  std::int64_t num_sent = 0;
  for (const RowMoves::Run& run : round.sent) {
    copy(stream, hidden_mD.rows(run.row, run.row + run.count), sent_nD_.rows(num_sent, num_sent + run.count));
    num_sent += run.count;
  }
  for (std::size_t r = 0; r < to_.size(); ++r) {
    to_[r] = static_cast<std::size_t>(round.to[r]) * row_bytes;
    from_[r] = static_cast<std::size_t>(round.from[r]) * row_bytes;
  }
  const Tensor sent = num_sent > 0 ? sent_nD_.rows(0, num_sent) : Tensor{},
               received = round.num_received > 0 ? received_nD_.rows(0, round.num_received) : Tensor{};
  groups_->world().all_to_all(sent ? bytes_of(sent) : std::span<std::byte>{}, to_,
                              received ? bytes_of(received) : std::span<std::byte>{}, from_);
  std::int64_t at = 0;
  for (const RowMoves::Run& run : round.received) {
    head_->add(stream, received_nD_.rows(at, at + run.count), run.row);
    at += run.count;
  }
}

}  // namespace fourmi

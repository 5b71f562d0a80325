#include "framework/train/order_layers.h"

#include "framework/model/head.h"
#include "framework/train/cuts.h"
#include "framework/train/teacher/teacher_recipe.h"

namespace fourmi {

LayerOrder::LayerOrder(const Recipe& r, const StageMap& map, int pipeline_rank, bool balance_loss,
                       PromotedLayers promoted, const Panels& panels, StepOrder& order)
    : m_(r.model),
      recompute_(r.memory.recompute),
      sizes_(batch_sizes(r)),
      types_(model_types(r.precision, r.run.reproducibility)),
      promoted_(promoted),
      operand_(types_.operand),
      leaves_(cuts_of(r, nullptr).leaves),
      // A rank that holds whole sequences needs nobody for their statistics.
      shares_statistics_(balance_loss && (sizes_.context > 1 || sizes_.shard_rows() % sizes_.tokens_per_sequence != 0)),
      panels_(panels),
      order_(order),
      experts_(r.model, sizes_, types_.accumulate, leaves_.apart, order),
      distill_(r.distill) {
  if (distill_.online()) {
    const Recipe teacher = teacher_recipe(r);
    teacher_activation_ = model_types(teacher.precision, teacher.run.reproducibility).activation;
  }
  for (int stage : map.stages_of(pipeline_rank)) stages_.push_back(map.stage(stage));
}

/// Every rank's rows to all.
void LayerOrder::gather(std::int64_t columns, DType dtype) {
  order_.call(GroupKind::tensor, Call::all_gather,
              bytes_of(dtype, {sizes_.shard_rows(), columns}) * (sizes_.tensor - 1));
}

/// Of partial sums of all rows, to each other rank its rows.
void LayerOrder::sum(std::int64_t columns, std::int64_t partials) {
  for (std::int64_t p = 0; p < partials; ++p)
    order_.call(GroupKind::tensor, Call::all_to_all,
                sizes_.shard_rows() * columns * size_of(types_.accumulate) * (sizes_.tensor - 1));
}

/// Each sequence is a call.
void LayerOrder::gather_of_sequences(std::int64_t columns, DType dtype, std::int64_t rows) {
  const std::int64_t sequences = sizes_.num_sequences();
  for (std::int64_t s = 0; s < sequences; ++s)
    order_.call(GroupKind::context, Call::all_gather,
                bytes_of(dtype, {rows / sequences, columns}) * (sizes_.context - 1));
}

void LayerOrder::sum_of_sequences(std::int64_t columns) {
  const std::int64_t sequences = sizes_.num_sequences();
  for (std::int64_t s = 0; s < sequences; ++s)
    order_.call(GroupKind::context, Call::all_to_all,
                sizes_.rows / sequences * columns * size_of(types_.accumulate) * (sizes_.context - 1));
}

std::int64_t LayerOrder::my_heads() const {
  return (latent() ? m_.num_attention_heads : m_.num_key_value_heads) / sizes_.tensor;
}

/// What attention reads of other ranks' rows.
void LayerOrder::project() {
  const auto to_sequence = [&](std::int64_t columns, DType dtype) {
    if (!sizes_.ring()) gather_of_sequences(columns, dtype, sizes_.rows);
  };
  if (!latent()) {
    gather_operand(m_.hidden_size);
    for (int key_or_value = 0; key_or_value < 2; ++key_or_value)
      to_sequence(my_heads() * m_.head_dim, types_.activation);
    return;
  }
  gather_operand(m_.q_lora_rank > 0 ? m_.q_lora_rank : m_.hidden_size);
  gather_operand(m_.kv_lora_rank);
  gather(m_.qk_rope_head_dim, types_.activation);
  to_sequence(m_.kv_lora_rank, operand_);
  to_sequence(m_.qk_rope_head_dim, types_.activation);
}

void LayerOrder::attention_forward() {
  project();
  if (sizes_.ring()) ring_forward();
  sum(m_.hidden_size);
}

void LayerOrder::attention_backward() {
  if (sizes_.ring())
    ring_backward();
  else
    for (std::int64_t columns : {score_head_dim(m_), value_head_dim(m_)})  // of keys, of values
      sum_of_sequences(my_heads() * columns);
  if (!latent()) return sum(m_.hidden_size, leaves_.apart ? 3 : 1);  // queries, keys, values
  sum(m_.qk_rope_head_dim);
  sum(m_.kv_lora_rank);
  sum(m_.q_lora_rank > 0 ? m_.q_lora_rank : m_.hidden_size);
}

void LayerOrder::mlp_forward() {
  gather_operand(m_.hidden_size);
  sum(m_.hidden_size);
}

void LayerOrder::mlp_backward(const std::function<void()>& gathering) {
  gather_operand(m_.hidden_size);
  gathering();
  sum(m_.hidden_size, leaves_.apart ? 2 : 1);  // gate, up
}

void LayerOrder::feed_forward_backward(std::int64_t layer, const std::function<void()>& gathering) {
  const auto mlp = [&] {
    if (has_mlp(layer))
      mlp_backward(gathering);
    else
      gathering();
  };
  if (is_moe(layer))
    experts_.backward_input(mlp);
  else
    mlp();
}

/// A balance loss' statistics, which travel while others work.
void LayerOrder::balance(std::int64_t layer, const std::function<void()>& meanwhile) {
  if (!shares_statistics_ || !is_moe(layer)) return meanwhile();
  const std::int64_t blocks = 16 * sizes_.num_sequences() / sizes_.context;
  const auto of_dtypes = [&](const auto& each) {
    for (DType dtype : {DType::i32, types_.accumulate}) each(dtype);
  };
  of_dtypes([&](DType dtype) {
    order_.call(GroupKind::tensor, Call::all_gather,
                blocks / sizes_.tensor * m_.n_routed_experts * size_of(dtype) * (sizes_.tensor - 1));
  });
  const auto of_sequences = [&] {
    of_dtypes([&](DType dtype) { gather_of_sequences(m_.n_routed_experts, dtype, blocks); });
  };
  if (sizes_.tensor == 1) of_sequences();
  meanwhile();
  if (sizes_.tensor > 1) of_sequences();
}

void LayerOrder::block_forward(std::int64_t layer) {
  begin(layer);
  attention_forward();
  if (is_moe(layer))
    experts_.forward([&] { balance(layer, [&] { shared_forward(); }); });
  else
    mlp_forward();
}

void LayerOrder::block_recompute(std::int64_t layer) {
  begin(layer);
  const bool full = mode(layer) == Recompute::full;
  full ? attention_forward() : project();
  const auto feed_forward = [&] {
    if (is_moe(layer)) experts_.recompute(mode(layer));
    if (has_mlp(layer)) gather_operand(m_.hidden_size);
  };
  full ? balance(layer, feed_forward) : feed_forward();
}

void LayerOrder::block_backward_input(std::int64_t layer) {
  begin(layer);
  feed_forward_backward(layer, [] {});
  gather_operand(m_.hidden_size);
  attention_backward();
}

void LayerOrder::block_backward(std::int64_t layer, bool halves_apart, const std::function<void()>& gathering) {
  begin(layer);
  feed_forward_backward(layer, gathering);
  gather_operand(m_.hidden_size);
  if (is_moe(layer) && halves_apart) experts_.backward_weight();
  attention_backward();
}

void LayerOrder::head(bool distills) {
  gather(m_.hidden_size, types_.activation);
  const VocabularyShare vocabulary = vocabulary_share(m_.vocab_size, {0, static_cast<int>(sizes_.tensor)});
  const std::int64_t chunk = Head::chunk_rows(sizes_, vocabulary.padded_rows);
  for (std::int64_t begin = 0; begin < sizes_.rows; begin += chunk) {
    const std::int64_t n = std::min(chunk, sizes_.rows - begin);
    const auto share = [&](std::int64_t numbers) {
      order_.call(GroupKind::tensor, Call::all_gather, numbers * size_of(types_.accumulate) * (sizes_.tensor - 1));
    };
    for (std::int64_t numbers : {n, leaves_.vocabulary * n, n}) share(numbers);  // maximum, sums, the target's logit
    if (!distills) continue;
    int sums = distill_.temperature != 1 ? 1 : 0;  // the student's at the temperature
    if (teacher_activation_) {
      if (begin == 0) gather(distill_.teacher.section->hidden_size, *teacher_activation_);
      share(n);   // the teacher's maximum
      sums += 3;  // its sums; then the divergence and its mean
    } else {
      sums += distill_.samples ? 1 : 2;  // of what is known, and of the rest
    }
    for (; sums > 0; --sums) share(leaves_.vocabulary * n);
  }
  sum(m_.hidden_size);
}

void LayerOrder::embedding_backward(const std::function<void()>& gathering) {
  gather(m_.hidden_size, types_.activation);
  gathering();
}

void LayerOrder::forward(const Stage& s) {
  if (s.first) embedding_forward();
  for (std::int64_t l = s.begin; l < s.end; ++l) {
    panels_.need(l);
    block_forward(l);
  }
  forward_ends(s);
}

void LayerOrder::forward_ends(const Stage& s) {
  if (s.last) head(distill_.learns_logits());
  if (!has_mtp(s)) return;
  panels_.need(mtp());
  embedding_forward();
  block_forward(mtp());
  head();
}

void LayerOrder::recompute(const Stage& s, std::int64_t layer) {
  if (layer < s.end) return block_recompute(layer);
  embedding_forward();
  mode(layer) == Recompute::full ? block_forward(layer) : block_recompute(layer);
}

void LayerOrder::restore(const Instruction& i, const Stage& s, std::int64_t layer) {
  panels_.need(layer);
  const Holder mine{i.pass.chunk, i.slot, layer};
  if (mode(layer) != Recompute::none && holder_ != mine) recompute(s, layer);
  holder_ = mine;
}

/// The halves of multi-token prediction's backward are both in the first one.
void LayerOrder::backward_ends(const Instruction& i, const Stage& s, bool halves_apart) {
  if (!has_mtp(s)) return;
  restore(i, s, mtp());
  block_backward(mtp(), halves_apart, [] {});
  embedding_backward();
  panels_.reduce(mtp());
}

/// A layer's gradient goes to its owners when the next one's rows travel, where nothing is made again in between.
void LayerOrder::backward(const Instruction& i, const Stage& s) {
  backward_ends(i, s, false);
  std::int64_t late = -1;
  const auto finish = [&] {
    if (late >= 0) panels_.reduce(late);
    late = -1;
  };
  for (std::int64_t l = s.end; l-- > s.begin;) {
    if (mode(l) != Recompute::none || (late >= 0 && mode(late) != Recompute::none)) finish();
    restore(i, s, l);
    block_backward(l, false, finish);
    late = l;
  }
  if (s.first) embedding_backward(finish);
  finish();
}

void LayerOrder::backward_input(const Instruction& i, const Stage& s) {
  backward_ends(i, s, true);
  for (std::int64_t l = s.end; l-- > s.begin;) {
    restore(i, s, l);
    block_backward_input(l);
  }
  if (s.first) embedding_backward();
}

void LayerOrder::backward_weight(const Instruction& i, const Stage& s) {
  for (std::int64_t l = s.end; l-- > s.begin;) {
    restore(i, s, l);
    if (is_moe(l)) experts_.backward_weight();
    panels_.reduce(l);
  }
}

void LayerOrder::act(const Instruction& i) {
  const Stage& s = stage(i);
  switch (i.verb) {
    case Verb::forward:
      forward(s);
      holder_ = {i.pass.chunk, i.slot, has_mtp(s) ? mtp() : s.end - 1};
      break;
    case Verb::backward:
      return backward(i, s);
    case Verb::backward_input:
      return backward_input(i, s);
    case Verb::backward_weight:
      return backward_weight(i, s);
    case Verb::pair:
      FOURMI_CHECK(false, "a pair in a program");
  }
}

}  // namespace fourmi

#include "framework/model/head.h"
#include "framework/train/engine_parts.h"
#include "framework/train/traffic.h"

namespace fourmi {

namespace {

/// Adds up the calls of framework/model's layers, verb by verb. Each function is called as the layer it is named for.
class Calls {
 public:
  Calls(const Recipe& r, const StageMap& map, int pipeline_rank, bool balance_loss)
      : m_(r.model),
        recompute_(r.memory.recompute),
        sizes_{r.data.micro_batch_size * r.data.sequence_length / r.parallel.context, r.data.sequence_length,
               r.parallel.tensor, r.parallel.context, r.parallel.context_method},
        types_(model_types(r.precision.compute, r.run.reproducibility)),
        leaves_(cuts_of(r, nullptr).leaves),
        // A rank that holds whole sequences needs nobody for their statistics.
        shares_statistics_(balance_loss &&
                           (sizes_.context > 1 || sizes_.shard_rows() % sizes_.tokens_per_sequence != 0)) {
    for (int stage : map.stages_of(pipeline_rank)) stages_.push_back(map.stage(stage));
  }

  RowTraffic of(const Program& program) {
    for (const Instruction& i : program.instructions)
      if (i.kind == Instruction::Kind::act) act(i);
    return sum_;
  }

 private:
  /// `elements`: what each other rank gets of this one, in all.
  void add(Call call, std::int64_t elements, DType dtype, std::int64_t calls = 1) {
    Traffic& t = sum_.tensor[static_cast<std::size_t>(call)];
    t.calls += calls;
    t.bytes += elements * size_of(dtype) * (sizes_.tensor - 1);
  }
  /// Each sequence is a call.
  void add_of_sequences(Call call, std::int64_t elements, DType dtype) {
    Traffic& t = sum_.context[static_cast<std::size_t>(call)];
    t.calls += sizes_.num_sequences();
    t.bytes += elements * size_of(dtype) * (sizes_.context - 1);
  }
  /// Every rank's rows to all.
  void gather(std::int64_t columns) { add(Call::all_gather, sizes_.shard_rows() * columns, types_.activation); }
  /// Of partial sums of all rows, to each other rank its rows.
  void sum(std::int64_t columns, std::int64_t partials = 1) {
    add(Call::all_to_all, partials * sizes_.shard_rows() * columns, types_.accumulate, partials);
  }

  bool latent() const { return m_.kv_lora_rank > 0; }
  std::int64_t source() const { return m_.q_lora_rank > 0 ? m_.q_lora_rank : m_.hidden_size; }
  std::int64_t my_heads() const { return (latent() ? m_.num_attention_heads : m_.num_key_value_heads) / sizes_.tensor; }
  void project() {
    const auto to_sequence = [&](std::int64_t columns) {
      if (sizes_.ring()) return;
      add_of_sequences(Call::all_gather, sizes_.rows * columns, types_.activation);
    };
    if (!latent()) {
      gather(m_.hidden_size);
      for (int key_or_value = 0; key_or_value < 2; ++key_or_value) to_sequence(my_heads() * m_.head_dim);
      return;
    }
    gather(source());
    for (std::int64_t columns : {m_.kv_lora_rank, m_.qk_rope_head_dim}) gather(columns), to_sequence(columns);
  }
  /// So many times a rank's keys and values, or their gradients, to the next rank.
  void pass_on(std::int64_t times, DType dtype) {
    Traffic& t = sum_.context[static_cast<std::size_t>(Call::send)];
    for (std::int64_t columns : {score_head_dim(m_), value_head_dim(m_)}) {
      t.calls += times;
      sum_.context[static_cast<std::size_t>(Call::receive)].calls += times;
      t.bytes += times * sizes_.rows * my_heads() * columns * size_of(dtype);
    }
  }
  void attention_forward() {
    project();
    if (sizes_.ring()) pass_on(sizes_.context - 1, types_.activation);
    sum(m_.hidden_size);
  }
  void attention_backward() {
    gather(m_.hidden_size);
    if (sizes_.ring()) {
      pass_on(sizes_.context - 1, types_.activation);
      pass_on(sizes_.context, types_.accumulate);
    } else {
      for (std::int64_t columns : {score_head_dim(m_), value_head_dim(m_)})  // of keys, of values
        add_of_sequences(Call::all_to_all, sizes_.rows * my_heads() * columns, types_.accumulate);
    }
    if (!latent()) return sum(m_.hidden_size, leaves_.apart ? 3 : 1);  // queries, keys, values
    sum(m_.qk_rope_head_dim);
    sum(m_.kv_lora_rank);
    sum(source());
  }

  void mlp_forward() {
    gather(m_.hidden_size);
    sum(m_.hidden_size);
  }
  void mlp_backward() {
    gather(m_.hidden_size);
    sum(m_.hidden_size, leaves_.apart ? 2 : 1);  // gate, up
  }
  bool has_mlp(std::int64_t layer) const { return !is_moe_layer(m_, layer) || m_.n_shared_experts > 0; }
  void balance(std::int64_t layer) {
    if (!shares_statistics_ || !is_moe_layer(m_, layer)) return;
    const std::int64_t mine = 16 * sizes_.num_sequences() / sizes_.context * m_.n_routed_experts;
    for (DType dtype : {DType::i32, types_.accumulate}) {
      add(Call::all_gather, mine / sizes_.tensor, dtype);
      add_of_sequences(Call::all_gather, mine, dtype);
    }
  }

  void block_forward(std::int64_t layer) {
    attention_forward();
    balance(layer);
    if (has_mlp(layer)) mlp_forward();
  }
  void block_recompute(std::int64_t layer) {
    if (recompute_ == Recompute::full) {
      attention_forward();
      balance(layer);
    } else {
      project();
    }
    if (has_mlp(layer)) gather(m_.hidden_size);
  }
  void block_backward(std::int64_t layer) {
    if (has_mlp(layer)) mlp_backward();
    attention_backward();
  }

  void head() {
    gather(m_.hidden_size);
    const std::int64_t chunk = Head::chunk_rows(sizes_);
    for (std::int64_t begin = 0; begin < sizes_.rows; begin += chunk) {
      const std::int64_t n = std::min(chunk, sizes_.rows - begin);
      for (std::int64_t rows : {n, leaves_.vocabulary * n, n}) add(Call::all_gather, rows, types_.accumulate);
    }
    sum(m_.hidden_size);
  }
  void embedding_forward() { sum(m_.hidden_size); }
  void embedding_backward() { gather(m_.hidden_size); }

  bool has_mtp(const Stage& s) const { return s.last && m_.num_nextn_predict_layers > 0; }
  /// Layers with that of multi-token prediction.
  std::int64_t end_of(const Stage& s) const { return s.end + has_mtp(s); }

  void forward(const Stage& s) {
    if (s.first) embedding_forward();
    for (std::int64_t l = s.begin; l < s.end; ++l) block_forward(l);
    if (s.last) head();
    if (!has_mtp(s)) return;
    embedding_forward();
    block_forward(m_.num_hidden_layers);
    head();
  }
  void recompute(const Stage& s, std::int64_t layer) {
    if (layer < s.end) return block_recompute(layer);
    embedding_forward();
    recompute_ == Recompute::full ? block_forward(layer) : block_recompute(layer);
  }
  void backward(const Stage& s, std::int64_t layer) {
    block_backward(layer);
    if (layer == s.end) embedding_backward();  // multi-token prediction's own
  }

  /// The layer that ran last still has its activations (Workspace::Holder).
  struct Holder {
    int chunk = -1, slot = -1;
    std::int64_t layer = -1;
    bool operator==(const Holder&) const = default;
  };
  void restore(const Instruction& i, const Stage& s, std::int64_t layer) {
    const Holder mine{i.pass.chunk, i.slot, layer};
    if (recompute_ != Recompute::none && holder_ != mine) recompute(s, layer);
    holder_ = mine;
  }
  void act(const Instruction& i) {
    const Stage& s = stages_[static_cast<std::size_t>(i.pass.chunk)];
    if (i.verb == Verb::forward) {
      forward(s);
      holder_ = {i.pass.chunk, i.slot, end_of(s) - 1};
      return;
    }
    // The halves of multi-token prediction's backward are both in the first one.
    for (std::int64_t l = i.verb == Verb::backward_weight ? s.end : end_of(s); l-- > s.begin;) {
      restore(i, s, l);
      if (i.verb != Verb::backward_weight) backward(s, l);
    }
    if (s.first && i.verb != Verb::backward_weight) embedding_backward();
  }

  const ModelSection& m_;
  Recompute recompute_;
  BatchSizes sizes_;
  ModelTypes types_;
  Leaves leaves_;
  bool shares_statistics_;
  std::vector<Stage> stages_;  // by chunk
  RowTraffic sum_;
  Holder holder_;
};

}  // namespace

RowTraffic row_traffic(const Recipe& r, const StageMap& map, int pipeline_rank, const Program& program,
                       bool balance_loss) {
  return Calls(r, map, pipeline_rank, balance_loss).of(program);
}

}  // namespace fourmi

// Attention by cuDNN's graphs, through its C++ frontend, which finds cuDNN's functions in what we opened.
#include "kernels/cuda/library/attention_plans.h"

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <map>
#include <unordered_map>

#include "kernels/cuda/library/cudnn.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the frontend's own way to be told; the same for every stream
}

namespace fourmi::cuda::library {
namespace {

namespace fe = cudnn_frontend;
using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

/// Which memory a tensor of a graph is.
enum Uid : std::int64_t {
  q = 1,
  k,
  v,
  o,
  lse,
  d_o,
  dq,
  dk,
  dv,
  lengths,
  q_begin,
  k_begin,
  v_begin,
  o_begin,
  lse_begin
};

[[noreturn]] void failed(const char* what, const std::string& said) {
  throw Error(ExitStatus::environment, "cuDNN", fmt::format("{}: {}, success was expected", what, said),
              "Run fourmi doctor; what came before in the log may say more");
}

/// What an action of the frontend answered; where it throws instead (a library of CUDA's is missing), that.
template <class Action>
fe::error_t said(const Action& action) {
  try {
    return action();
  } catch (const std::exception& e) {
    return {fe::error_code_t::INVALID_VALUE, e.what()};
  }
}

struct Builder {
  const AttentionGraph& g;
  fe::graph::Graph& graph;

  TensorPointer table(const char* name, Uid uid, std::int64_t entries) const {
    return graph.tensor(fe::graph::Tensor_attributes()
                            .set_name(name)
                            .set_uid(uid)
                            .set_dim({entries, 1, 1, 1})
                            .set_stride({1, 1, 1, 1})
                            .set_data_type(fe::DataType_t::INT32));
  }
  TensorPointer begin(const char* name, Uid uid) const { return table(name, uid, g.documents + 1); }
  std::vector<std::int64_t> dims(const RaggedTensor& t) const { return {g.documents, t.heads, g.longest, t.size}; }
  std::vector<std::int64_t> strides(const RaggedTensor& t) const {
    return {g.longest * t.row_stride, t.head_stride, t.row_stride, 1};
  }
  TensorPointer input(const char* name, Uid uid, const RaggedTensor& t, const TensorPointer& offsets,
                      fe::DataType_t type = fe::DataType_t::BFLOAT16) const {
    return graph.tensor(fe::graph::Tensor_attributes()
                            .set_name(name)
                            .set_uid(uid)
                            .set_dim(dims(t))
                            .set_stride(strides(t))
                            .set_ragged_offset(offsets)
                            .set_data_type(type));
  }
  void output(const TensorPointer& made, Uid uid, const RaggedTensor& t, const TensorPointer& offsets,
              fe::DataType_t type = fe::DataType_t::BFLOAT16) const {
    made->set_output(true)
        .set_uid(uid)
        .set_dim(dims(t))
        .set_stride(strides(t))
        .set_ragged_offset(offsets)
        .set_data_type(type);
  }

  void build() const {
    graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_sm_version(90);
    const TensorPointer rows = table("lengths", Uid::lengths, g.documents);
    const TensorPointer at_q = begin("q_begin", Uid::q_begin), at_k = begin("k_begin", Uid::k_begin),
                        at_v = begin("v_begin", Uid::v_begin), at_o = begin("o_begin", Uid::o_begin),
                        at_lse = begin("lse_begin", Uid::lse_begin);
    const TensorPointer in_q = input("q", Uid::q, query_of(g), at_q), in_k = input("k", Uid::k, key_of(g), at_k),
                        in_v = input("v", Uid::v, value_of(g), at_v);
    if (!g.backward) {
      auto [out, stats] = graph.sdpa(in_q, in_k, in_v,
                                     fe::graph::SDPA_attributes()
                                         .set_name("attention")
                                         .set_generate_stats(true)
                                         .set_attn_scale(g.scale)
                                         .set_padding_mask(true)
                                         .set_seq_len_q(rows)
                                         .set_seq_len_kv(rows)
                                         .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                                         .set_diagonal_band_right_bound(0));
      output(out, Uid::o, output_of(g), at_o);
      output(stats, Uid::lse, lse_of(g), at_lse, fe::DataType_t::FLOAT);
      return;
    }
    auto [gradient_q, gradient_k, gradient_v] = graph.sdpa_backward(
        in_q, in_k, in_v, input("o", Uid::o, output_of(g), at_o), input("do", Uid::d_o, output_of(g), at_o),
        input("lse", Uid::lse, lse_of(g), at_lse, fe::DataType_t::FLOAT),
        fe::graph::SDPA_backward_attributes()
            .set_name("attention_backward")
            .set_attn_scale(g.scale)
            .set_padding_mask(true)
            .set_seq_len_q(rows)
            .set_seq_len_kv(rows)
            .set_max_total_seq_len_q(g.rows)
            .set_max_total_seq_len_kv(g.rows)
            .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
            .set_diagonal_band_right_bound(0)
            .set_deterministic_algorithm(true));
    output(gradient_q, Uid::dq, query_of(g), at_q);
    output(gradient_k, Uid::dk, key_of(g), at_k);
    output(gradient_v, Uid::dv, value_of(g), at_v);
  }
};

class CudnnAttention final : public AttentionPlans {
 public:
  explicit CudnnAttention(cudaStream_t stream) {
    if (const auto status = fe::detail::create_handle(&handle_); status != CUDNN_STATUS_SUCCESS)
      failed("a handle", fe::detail::get_error_string(status));
    if (const auto status = fe::detail::set_stream(handle_, stream); status != CUDNN_STATUS_SUCCESS)
      failed("a stream", fe::detail::get_error_string(status));
  }
  ~CudnnAttention() override {
    plans_.clear();
    fe::detail::destroy_handle(handle_);
  }

  std::optional<std::int64_t> scratch_bytes(const AttentionGraph& g) override {
    const Plan& p = plan(g);
    return p.refused ? std::nullopt : std::optional(p.scratch_bytes);
  }

  void run(const AttentionGraph& g, const AttentionOperands& at, void* scratch) override {
    Plan& p = plan(g);
    FOURMI_CHECK(!p.refused, "a graph that cuDNN refused");
    const auto set = [&](Uid uid, const void* memory) { p.memory[uid] = const_cast<void*>(memory); };
    set(Uid::q, at.q), set(Uid::k, at.k), set(Uid::v, at.v), set(Uid::o, at.o), set(Uid::lse, at.lse);
    set(Uid::lengths, at.lengths), set(Uid::q_begin, at.q_begin), set(Uid::k_begin, at.k_begin);
    set(Uid::v_begin, at.v_begin), set(Uid::o_begin, at.o_begin), set(Uid::lse_begin, at.lse_begin);
    if (g.backward) set(Uid::d_o, at.d_o), set(Uid::dq, at.dq), set(Uid::dk, at.dk), set(Uid::dv, at.dv);
    if (fe::error_t status = said([&] { return p.graph.execute(handle_, p.memory, scratch); }); status.is_bad())
      failed("attention", status.get_message());
  }

  std::string refusal() const override { return refusal_; }

 private:
  struct Plan {
    fe::graph::Graph graph;
    std::unordered_map<std::int64_t, void*> memory;
    std::int64_t scratch_bytes = 0;
    bool refused = false;
  };

  Plan& plan(const AttentionGraph& g) {
    if (const auto known = plans_.find(g); known != plans_.end()) return *known->second;
    auto p = std::make_unique<Plan>();
    fe::error_t status = said([&] {
      Builder{g, p->graph}.build();
      return make(*p);
    });
    if (status.is_bad()) {
      p->refused = true;
      refusal_ = status.get_message();
    }
    return *plans_.emplace(g, std::move(p)).first->second;
  }

  fe::error_t make(Plan& p) const {
    if (const auto status = p.graph.validate(); status.is_bad()) return status;
    if (const auto status = p.graph.build_operation_graph(handle_); status.is_bad()) return status;
    if (const auto status = p.graph.create_execution_plans({fe::HeurMode_t::A}); status.is_bad()) return status;
    if (const auto status = p.graph.check_support(); status.is_bad()) return status;
    if (const auto status = p.graph.build_plans(); status.is_bad()) return status;
    return p.graph.get_workspace_size(p.scratch_bytes);
  }

  cudnnHandle_t handle_ = nullptr;
  std::map<AttentionGraph, std::unique_ptr<Plan>> plans_;
  std::string refusal_;
};

/// For the frontend, which then finds functions there.
void open_cudnn(const Linker& linker) {
  static void* const opened = fe::cudnn_dlhandle = linker.open(Cudnn::wanted.soname);
  FOURMI_CHECK(opened != nullptr, "cuDNN asked for where it is missing");
}

}  // namespace

std::string attention_plans_missing() {
  return {};
}

std::string graph_trouble(const Linker& linker, const AttentionGraph& g) {
  open_cudnn(linker);
  fe::graph::Graph graph;
  fe::error_t status = said([&] {
    Builder{g, graph}.build();
    fe::error_t answer = graph.validate();
    return answer.is_good() ? graph.build_operation_graph(nullptr) : answer;
  });
  return status.is_good() ? std::string() : status.get_message();
}

std::unique_ptr<AttentionPlans> open_attention_plans(const Linker& linker, cudaStream_t stream) {
  open_cudnn(linker);
  return std::make_unique<CudnnAttention>(stream);
}

}  // namespace fourmi::cuda::library

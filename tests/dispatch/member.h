// One rank's part of a test layer, through a dispatcher.
#pragma once

#include "kernels/exchange/window.h"
#include "kernels/runtime/thread_pool.h"
#include "tests/dispatch/layer.h"
#include "tests/parallel/member_threads.h"

namespace fourmi::testing {

struct Way {
  DispatchMethod method = DispatchMethod::all_to_all;
  int node_size = 1;
  std::int64_t max_rows = 0, block = 0, max_choices = 0;
  int num_channels = 2, num_slots = 8;
  /// In place of make_dispatcher.
  std::function<std::unique_ptr<Dispatcher>(Group&, const DispatchOptions&, const Tensor& window)> make = {};
};

/// What peers write to; nothing where they do not. What lies before and behind it must stay as it is.
struct WindowMemory {
  explicit WindowMemory(std::int64_t size)
      : bytes(static_cast<std::size_t>(size + 3 * exchange::Window::alignment), around) {
    if (size == 0) return;
    void* begin = bytes.data() + exchange::Window::alignment;
    std::size_t space = bytes.size() - static_cast<std::size_t>(exchange::Window::alignment);
    tensor = Tensor(std::align(exchange::Window::alignment, static_cast<std::size_t>(size), begin, space), DType::u8,
                    {size});
  }
  ~WindowMemory() {
    const auto* begin = static_cast<const std::byte*>(tensor.data);
    for (const std::byte& b : bytes)
      if (!begin || &b < begin || &b >= begin + tensor.bytes()) {
        if (b == around) continue;
        ADD_FAILURE() << "byte " << &b - begin << " of a window of " << tensor.bytes() << " was written";
        return;
      }
  }
  static constexpr std::byte around{0xff};
  std::vector<std::byte> bytes;
  Tensor tensor;
};

/// A dispatcher with what its peers write to.
class OwnDispatcher {
 public:
  OwnDispatcher(const Way& way, Group& group, const DispatchOptions& options)
      : window_(dispatch_sizes(way.method, group.size(), options).window_bytes),
        dispatcher_(way.make ? way.make(group, options, window_.tensor)
                             : make_dispatcher(way.method, group, options, window_.tensor)) {}
  Dispatcher& operator*() const { return *dispatcher_; }
  Dispatcher* operator->() const { return dispatcher_.get(); }

 private:
  WindowMemory window_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

template <class T>
DispatchOptions options_of(const Layer& l, const Way& way) {
  return {.num_experts = l.E,
          .num_choices = l.K,
          .max_tokens = l.most_tokens(),
          .row_bytes = std::max(l.D, l.K) * size_of(dtype_of<Accumulator<T>>),
          .weights = dtype_of<Accumulator<T>>,
          .max_rows = way.max_rows,
          .max_choices = way.max_choices,
          .block = way.block,
          .node_size = way.node_size,
          .num_channels = way.num_channels,
          .num_slots = way.num_slots};
}

/// The tokens that visit `rank` in a round must be there: by source rank, then by token, with what they carry.
template <class T>
void expect_canonical(const Layer& l, const Dispatcher& d, const DispatchPlan& plan, int round, const Arrivals& got,
                      int rank, std::int64_t block) {
  using A = Accumulator<T>;
  std::int64_t u = 0;
  // Rounds are cut alike everywhere; the last rank with tokens up to an end says where it is.
  const std::int64_t begin = plan.begin(round), end = plan.end(round), M = plan.experts_MK.dim(0);
  ASSERT_TRUE(begin % block == 0 || begin == M) << "a round begins inside a block";
  const bool last = round + 1 == plan.num_rounds();
  for (std::size_t r = 0; r < l.tokens.size(); ++r) {
    const int source = static_cast<int>(r);
    if (M != l.tokens[r] && plan.num_rounds() > 1) return;  // the cut is not known from here
    const Rows<T> x = make_rows<T>(l, source, l.D, of_x);
    const Rows<A> weights = make_rows<A>(l, source, l.K, of_weights);
    for (std::int64_t t = begin; t < (last ? l.tokens[r] : end); ++t) {
      const auto experts = l.experts(source, t);
      const auto local = [&](std::int32_t e) { return e / d.num_local() == rank; };
      if (std::none_of(experts.begin(), experts.end(), local)) continue;
      ASSERT_LT(u, got.x_UD.dim(0));
      ASSERT_EQ(0, std::memcmp(got.x_UD.rows(u, u + 1).data, &x.x[static_cast<std::size_t>(t * l.D)],
                               static_cast<std::size_t>(l.D) * sizeof(T)))
          << "row " << u << " is not token " << t << " of rank " << source;
      for (std::int64_t k = 0; k < l.K; ++k) {
        const std::int32_t e = experts[static_cast<std::size_t>(k)];
        const std::int64_t i = u * l.K + k;
        ASSERT_EQ(got.experts_UK.as<std::int32_t>()[i],
                  local(e) ? e - static_cast<std::int32_t>(d.first_expert()) : -1);
        ASSERT_EQ(got.weights_UK.as<A>()[i], local(e) ? weights.x[static_cast<std::size_t>(t * l.K + k)] : A{0});
      }
      ++u;
    }
  }
  EXPECT_EQ(u, got.x_UD.dim(0)) << "rows of nobody";
}

template <class T>
Outcome<T> through_dispatcher(Group& group, const Layer& l, const Way& way) {
  using A = Accumulator<T>;
  const int rank = group.rank();
  ThreadPool pool(1);
  const Stream stream(pool);
  const OwnDispatcher dispatcher(way, group, options_of<T>(l, way));
  Dispatcher& d = *dispatcher;
  const std::int64_t M = l.tokens[static_cast<std::size_t>(rank)], leaves = l.num_leaves / group.size();

  Rows<T> x = make_rows<T>(l, rank, l.D, of_x), residual = make_rows<T>(l, rank, l.D, of_residual),
          dy = make_rows<T>(l, rank, l.D, of_dy), first = make_rows<T>(l, rank, l.D, of_first);
  Rows<A> weights = make_rows<A>(l, rank, l.K, of_weights), second = make_rows<A>(l, rank, l.D, of_second);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < M; ++t)
    for (std::int32_t e : l.experts(rank, t)) ids.push_back(e);

  Poisoned for_plan, for_buffers, for_arrivals, for_gradients;
  DispatchPlan plan = d.make_plan();
  plan.fields(d.sizes(), for_plan.visitor());
  DispatchBuffers buffers;
  buffers.fields(d.sizes(), for_buffers.visitor());
  Arrivals arrivals, gradients;
  arrivals.fields(d.sizes(), l.D, dtype_of<T>, dtype_of<A>, for_arrivals.visitor());
  gradients.fields(d.sizes(), l.D, dtype_of<T>, dtype_of<A>, for_gradients.visitor());
  const auto poison = [&] { for_buffers.fill(), for_arrivals.fill(), for_gradients.fill(); };

  Outcome<T> o;
  const auto poisoned = [](std::int64_t n, auto zero) {
    std::vector<decltype(zero)> v(static_cast<std::size_t>(n));
    if (n > 0) std::memset(static_cast<void*>(v.data()), 0xff, v.size() * sizeof(zero));
    return v;
  };
  o.y = poisoned(M * l.D, T{}), o.dx = poisoned(M * l.D, T{}), o.dweights = poisoned(M * l.K, A{});
  const Tensor y(o.y.data(), dtype_of<T>, {M, l.D}), dx(o.dx.data(), dtype_of<T>, {M, l.D}),
      dweights(o.dweights.data(), dtype_of<A>, {M, l.K});
  const auto global_ids = [&](const Arrivals& a, std::int64_t u) {
    std::vector<std::int64_t> e;
    for (std::int64_t k = 0; k < l.K; ++k) {
      const std::int32_t id = a.experts_UK.template as<std::int32_t>()[u * l.K + k];
      e.push_back(id < 0 ? -1 : id + d.first_expert());
    }
    return e;
  };
  const auto weights_of = [&](const Arrivals& a, std::int64_t u) {
    const A* w = a.weights_UK.template as<A>() + u * l.K;
    return std::vector<A>(w, w + l.K);
  };

  const std::int64_t moved = group.bytes_moved();
  d.plan(stream, Tensor(ids.data(), DType::i32, {M, l.K}), plan, buffers);
  for (int q = 0; q < plan.num_rounds(); ++q) {
    poison();
    const Arrivals a = d.dispatch(stream, plan, q, x.tensor(), weights.tensor(), arrivals, buffers);
    expect_canonical<T>(l, d, plan, q, a, rank, d.options().block);
    for_buffers.fill();  // nothing of dispatch is needed for combine
    const std::int64_t U = a.x_UD.dim(0);
    const auto* first_id = a.experts_UK.as<std::int32_t>();
    const auto choices = std::count_if(first_id, first_id + U * l.K, [](std::int32_t id) { return id >= 0; });
    o.most_choices = std::max<std::int64_t>(o.most_choices, choices);
    EXPECT_LE(U, d.most_arrivals());
    EXPECT_LE(choices, d.most_choices());
    std::vector<A> partial;
    for (std::int64_t u = 0; u < U; ++u)
      for (A v :
           token_sum<T>(l, rank * leaves, leaves, global_ids(a, u), weights_of(a, u), a.x_UD.as<T>() + u * l.D, false))
        partial.push_back(v);
    d.combine(stream, plan, q, Tensor(partial.data(), dtype_of<A>, {U, l.D}), buffers, y, residual.tensor());
  }
  o.forward = d.traffic();
  for (int q = plan.num_rounds() - 1; q >= 0; --q) {
    poison();
    const Arrivals a = d.dispatch(stream, plan, q, x.tensor(), weights.tensor(), arrivals, buffers);
    for_buffers.fill();
    const Arrivals g = d.dispatch(stream, plan, q, dy.tensor(), {}, gradients, buffers);
    const std::int64_t U = a.x_UD.dim(0);
    std::vector<A> partial, dw;
    for (std::int64_t u = 0; u < U; ++u) {
      const T *xu = a.x_UD.as<T>() + u * l.D, *dyu = g.x_UD.as<T>() + u * l.D;
      const auto e = global_ids(a, u);
      for (A v : token_sum<T>(l, rank * leaves, leaves, e, weights_of(a, u), dyu, true)) partial.push_back(v);
      for (std::int64_t id : e) dw.push_back(id < 0 ? A{0} : weight_gradient(l, id, xu, dyu));
    }
    for_buffers.fill();
    d.combine(stream, plan, q, Tensor(partial.data(), dtype_of<A>, {U, l.D}), buffers, dx, first.tensor(),
              second.tensor());
    for_buffers.fill();
    d.combine(stream, plan, q, Tensor(dw.data(), dtype_of<A>, {U, l.K}), buffers, dweights);
  }
  o.all = d.traffic();
  o.load = d.load();
  o.group_bytes = group.bytes_moved() - moved;
  return o;
}

template <class T>
std::vector<Outcome<T>> on_ranks(const Layer& l, const Way& way) {
  return run_members(static_cast<int>(l.tokens.size()),
                     [&](Group& group) { return through_dispatcher<T>(group, l, way); });
}

template <class T>
void expect_exact(const Layer& l, const std::vector<Outcome<T>>& got) {
  for (std::size_t r = 0; r < got.size(); ++r)
    EXPECT_TRUE(got[r] == brute_force<T>(l, static_cast<int>(r))) << "rank " << r;
}

}  // namespace fourmi::testing

// Short runs on ranks that are threads of the test, and what they leave: losses, gradients, weights, counts, memory.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "framework/train/engine.h"
#include "framework/train/teacher/cached_teacher.h"
#include "framework/train/teacher/teacher.h"
#include "framework/train/teacher/teacher_recipe.h"
#include "kernels/runtime/on_host.h"
#include "tests/train/small_recipe.h"

namespace fourmi {

/// Of teachers that nobody trained.
inline constexpr std::uint64_t teacher_seed = 17;

struct RunResult {
  std::vector<StepResult> steps;
  std::map<std::string, std::vector<double>> gradients;  ///< of the last step, whole tensors
  std::map<std::string, std::vector<double>> weights;
  std::map<std::string, std::vector<double>> state;  ///< what a checkpoint holds: masters, moments, router bias
  std::vector<std::int64_t> expert_counts;           ///< of the last step, over all ranks
  std::vector<Engine::Memory> memory;                ///< by rank: the arenas' peaks when all was done
  std::vector<std::vector<Pipeline::Done>> done;     ///< by rank: the actions of the last step
  std::vector<std::vector<GroupTraffic>> traffic;    ///< by rank: of the last step
};

inline std::vector<double> widened(const Stream& stream, const Tensor& tensor) {
  const OnHost here(stream, tensor);
  const Tensor& t = here.tensor();
  std::vector<double> v(static_cast<std::size_t>(t.num_elements()));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = t.dtype == DType::f64   ? t.as<double>()[i]
           : t.dtype == DType::f32 ? static_cast<double>(t.as<float>()[i])
                                   : static_cast<double>(t.as<bfloat16>()[i]);
  return v;
}

/// Rows of the part of a parameter that a rank holds, from its `first_row` on, into the whole.
inline void place(const Stream& stream, const Parameter& p, std::int64_t first_row, const Tensor& rows,
                  std::vector<double>& whole) {
  const std::vector<double> part = widened(stream, rows);
  const std::int64_t width = p.shape.num_elements() / p.shape[0],
                     mine = p.local.num_elements() / std::max<std::int64_t>(1, p.local[0]);
  for (std::int64_t r = 0; r < rows.dim(0); ++r)
    std::copy_n(part.begin() + r * mine, mine, whole.begin() + (p.first_row + first_row + r) * width + p.first_column);
}

/// Every call is held against its order. `prepare` is called on each rank before the first step, `finish` after the
/// last, on one rank at a time. On the CPU, or all on `device`. `made_up_ids`: synthetic sources draw from so many ids,
/// not from all. Throws what the first rank threw.
inline RunResult train_on(const Recipe& given, int num_ranks, int num_steps, int threads_per_rank = 1,
                          const std::function<void(Engine&)>& prepare = nullptr,
                          const std::function<void(Engine&)>& finish = nullptr, DeviceRuntime* device = nullptr,
                          std::optional<std::int64_t> made_up_ids = {}) {
  Recipe recipe = given;
  recipe.guard.check_calls = true;
  auto groups = make_thread_groups("data", num_ranks);
  RunResult result;
  std::string error;
  result.memory.resize(static_cast<std::size_t>(num_ranks));
  result.done.resize(static_cast<std::size_t>(num_ranks));
  result.traffic.resize(static_cast<std::size_t>(num_ranks));
  std::mutex mutex;
  const auto train = [&](Group& group, int rank) {
    ThreadPool pool(threads_per_rank);
    const std::unique_ptr<DeviceStream> of_device = device ? device->make_stream() : nullptr;
    const Stream stream = device ? Stream(*of_device, pool) : Stream(pool);
    if (device) group.use_device(*of_device);
    const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
    const Loader loader(recipe.data, sources, recipe.run.seed, made_up_ids.value_or(recipe.model.vocab_size));
    const RankGroups ranks = make_groups(recipe, group);
    const std::unique_ptr<RankGroups> teachers = make_teacher_groups(recipe, group);
    Engine engine(recipe, ranks, stream, teachers.get());
    engine.initialise();
    if (auto* teacher = dynamic_cast<Teacher*>(engine.guidance())) teacher->forward().initialise(teacher_seed, stream);
    if (auto* cached = dynamic_cast<CachedTeacher*>(engine.guidance()))
      cached->open(std::make_shared<const CacheReader>(recipe.distill.cache), header_of(recipe, loader));
    if (prepare) prepare(engine);
    Position position = loader.start();
    double tokens = 0;
    for (int s = 1; s <= num_steps; ++s) {
      const StepPlan plan = loader.plan_step(position);
      const StepResult r = engine.step(loader, plan, s, tokens, [](Phase, std::int64_t) {});
      tokens += static_cast<double>(plan.num_targets);
      position = plan.next;
      if (rank == 0) result.steps.push_back(r);
    }
    std::lock_guard lock(mutex);
    if (finish) finish(engine);
    result.memory[static_cast<std::size_t>(rank)] = engine.arenas().sizes();
    const auto done = engine.pipeline().done();
    result.done[static_cast<std::size_t>(rank)].assign(done.begin(), done.end());
    result.traffic[static_cast<std::size_t>(rank)] = engine.traffic();
    const Tensor& counts = engine.expert_counts();
    result.expert_counts.assign(counts.as<std::int64_t>(), counts.as<std::int64_t>() + counts.num_elements());
    engine.optimizer().visit_gradients([&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
      std::vector<double>& whole = result.gradients[p.name];
      whole.resize(static_cast<std::size_t>(p.shape.num_elements()), std::nan(""));
      place(stream, p, first_row, rows, whole);
    });
    for (const Box& box : engine.boxes()) {
      std::vector<double>& whole = result.state[box.name];
      whole.resize(static_cast<std::size_t>(box.global.num_elements()), std::nan(""));
      const std::vector<double> part = widened(stream, box.data);
      for (std::size_t i = 0; i < part.size(); ++i)
        whole[static_cast<std::size_t>(box.global_index(static_cast<std::int64_t>(i)))] = part[i];
    }
    const auto collect = [&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
      std::vector<double>& whole = result.weights[p.name];
      whole.resize(static_cast<std::size_t>(p.shape.num_elements()), std::nan(""));
      place(stream, p, first_row, rows, whole);
    };
    const auto of_owners_alone = [&](const Parameter& p) {
      const bool in_turn = engine.store().level() == ZeroLevel::weights && p.layer >= 0;
      return (in_turn && p.set != ParameterSet::router_bias) || (p.is_map && engine.store().types().scaled());
    };
    engine.optimizer().visit_weights([&](const Parameter& p, std::int64_t first_row, const Tensor& rows) {
      if (of_owners_alone(p)) collect(p, first_row, rows);
    });
    for (const Parameter& p : engine.store().table().all())
      if (!of_owners_alone(p)) collect(p, 0, engine.store().weight(engine.store().slot(p.name)));
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      Group& group = *groups[static_cast<std::size_t>(rank)];
      try {
        train(group, rank);
      } catch (const std::exception& e) {  // the others must not wait for this rank
        const std::lock_guard lock(mutex);
        if (error.empty()) error = e.what();
        group.cancel(e.what());
      }
    });
  for (std::thread& t : threads) t.join();
  if (!error.empty()) throw std::runtime_error(error);
  return result;
}

/// Distance of two gradients over the norm of `expected`.
inline double relative_error(const std::vector<double>& expected, const std::vector<double>& got) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  EXPECT_GT(norm, 0);
  return std::sqrt(error / norm);
}

/// One step in fp64: losses, counts and every gradient.
inline void expect_agreement(const RunResult& one, const RunResult& many, const std::string& what) {
  const StepResult &a = one.steps[0], &b = many.steps[0];
  EXPECT_EQ(b.targets, a.targets) << what;
  EXPECT_NEAR(b.loss, a.loss, 1e-12) << what;
  EXPECT_NEAR(b.loss_mtp, a.loss_mtp, 1e-12) << what;
  EXPECT_NEAR(b.loss_balance, a.loss_balance, 1e-12) << what;
  EXPECT_NEAR(b.grad_norm, a.grad_norm, 1e-9 * a.grad_norm) << what;
  EXPECT_EQ(many.expert_counts, one.expert_counts) << what;
  ASSERT_EQ(many.gradients.size(), one.gradients.size()) << what;
  for (const auto& [name, expected] : one.gradients)
    EXPECT_LE(relative_error(expected, many.gradients.at(name)), 1e-9) << what << ": " << name;
}

/// The bytes of all arenas of the rank that took most.
inline std::int64_t most_bytes(const RunResult& run) {
  std::int64_t most = 0;
  for (const Engine::Memory& rank : run.memory) {
    std::int64_t bytes = 0;
    for (const auto& [name, size] : rank) bytes += size;
    most = std::max(most, bytes);
  }
  return most;
}

inline std::int64_t measured_bytes(const Recipe& recipe, int num_ranks) {
  std::int64_t bytes = 0;
  for (const auto& [name, size] : Engine::measure(recipe, num_ranks)) bytes += size;
  return bytes;
}

inline void expect_equal_bits(const RunResult& a, const RunResult& b, const std::string& what) {
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (std::size_t s = 0; s < a.steps.size(); ++s) {
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.steps[s].loss), std::bit_cast<std::uint64_t>(b.steps[s].loss))
        << what << " step " << s + 1;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.steps[s].grad_norm), std::bit_cast<std::uint64_t>(b.steps[s].grad_norm))
        << what << " step " << s + 1;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.steps[s].loss_mtp), std::bit_cast<std::uint64_t>(b.steps[s].loss_mtp))
        << what;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(a.steps[s].loss_balance),
              std::bit_cast<std::uint64_t>(b.steps[s].loss_balance))
        << what;
  }
  const auto compare = [&](const auto& ours, const auto& theirs) {
    EXPECT_EQ(ours.size(), theirs.size()) << what;
    for (const auto& [name, values] : ours)
      EXPECT_EQ(std::memcmp(values.data(), theirs.at(name).data(), values.size() * sizeof(double)), 0)
          << what << ": " << name;
  };
  compare(a.weights, b.weights);
  compare(a.state, b.state);
}

}  // namespace fourmi

// A small state, cut over any number of ranks, and threads as ranks.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/checkpoint/save.h"
#include "framework/digest/sha256.h"
#include "parallel/group.h"

namespace fourmi::testing {

/// A folder in memory (thousands of saves with fsync would be slow on a disk) that is removed at the end of a test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = "/dev/shm/checkpoint_test_XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Runs `body` on `size` threads, each with its group; rethrows the first exception.
inline void on_ranks(int size, const std::function<void(Group&)>& body) {
  auto groups = make_thread_groups("test", size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      try {
        body(*groups[static_cast<std::size_t>(r)]);
      } catch (...) {
        errors[static_cast<std::size_t>(r)] = std::current_exception();
        groups[static_cast<std::size_t>(r)]->cancel("a rank threw");
      }
    });
  for (auto& t : threads) t.join();
  for (auto& e : errors)
    if (e) std::rethrow_exception(e);
}

struct TensorSpec {
  std::string name, alias;
  DType dtype;
  Shape shape;
};

inline std::vector<TensorSpec> sample_tensors() {
  return {{"/optimizer/master/model.embed_tokens.weight", "/model/model.embed_tokens.weight", DType::f32, {37, 11}},
          {"/optimizer/exp_avg/model.embed_tokens.weight", "", DType::bf16, {37, 11}},
          {"/optimizer/exp_avg_sq/model.norm.weight", "", DType::f32, {5}},
          {"/optimizer/master/model.layers.3.mlp.experts.up_proj.weight", "", DType::f64, {6, 3, 5}},
          {"/training/router_bias", "", DType::f32, {1}},
          {"/training/positions", "", DType::i64, {9}},
          {"/training/mask", "", DType::u8, {3, 2, 2, 2, 2}},
          {"/training/ids", "", DType::i32, {64}},
          {"/training/nothing", "", DType::f32, {0, 4}}};
}

/// Any bits, NaNs among them; a function of (tensor, byte).
inline std::byte sample_byte(std::size_t tensor, std::int64_t i, int variant) {
  std::uint64_t x = (tensor + 1) * 0x9e3779b97f4a7c15u + static_cast<std::uint64_t>(i) * 0xd1342543de82ef95u +
                    static_cast<std::uint64_t>(variant) * 77777u;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9u;
  return static_cast<std::byte>(x >> 40);
}

/// The boxes of one rank of `size`, whose bytes are either the sample's (fill) or 0xee. Tensors are cut unevenly; every
/// third one is whole on one rank.
class Boxes {
 public:
  Boxes(int rank, int size, bool fill, int variant = 0) {
    const auto specs = sample_tensors();
    for (std::size_t t = 0; t < specs.size(); ++t) {
      const TensorSpec& s = specs[t];
      const std::int64_t rows = s.shape[0];
      std::int64_t begin = rows * rank * rank / (size * size), end = rows * (rank + 1) * (rank + 1) / (size * size);
      if (t % 3 == 2) {
        const bool mine = static_cast<int>(t) % size == rank;
        begin = mine ? 0 : rows;
        end = rows;
      }
      Box b{s.name, s.alias, s.shape, begin, {}};
      Shape shape = s.shape;
      shape.dims[0] = end - begin;
      const std::int64_t bytes = shape.num_elements() * size_of(s.dtype);
      storage_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes) + 1));
      b.data = Tensor(storage_.back().get(), s.dtype, shape);
      for (std::int64_t i = 0; i < bytes; ++i)
        storage_.back()[static_cast<std::size_t>(i)] =
            fill ? sample_byte(t, i + (rows > 0 ? begin * (s.shape.num_elements() / rows) * size_of(s.dtype) : 0),
                               variant)
                 : std::byte{0xee};
      boxes_.push_back(b);
    }
  }
  std::span<const Box> get() const { return boxes_; }
  std::vector<Box>& list() { return boxes_; }

 private:
  std::vector<Box> boxes_;
  std::vector<std::unique_ptr<std::byte[]>> storage_;
};

inline CheckpointState sample_state(std::int64_t step) {
  return {step,
          step * 1024,
          R"({"position": {"gcide": 77}, "rate": 0.1})",
          "run:\n  name: sample\n",
          R"({"ranks": 1, "host": "here"})",
          ""};
}

/// Saves the sample with `size` ranks; the outcome of every rank.
inline std::vector<SaveOutcome> save_sample(int size, const std::filesystem::path& checkpoints, std::int64_t step,
                                            SaveOptions options = {}, int variant = 0) {
  std::vector<SaveOutcome> outcomes(static_cast<std::size_t>(size));
  on_ranks(size, [&](Group& group) {
    const Boxes boxes(group.rank(), size, true, variant);
    outcomes[static_cast<std::size_t>(group.rank())] =
        save_checkpoint(group, checkpoints, boxes.get(), sample_state(step), options);
  });
  return outcomes;
}

/// Loads and proves the sample with `size` ranks, and compares every byte with what was saved.
inline void expect_loads(int size, const std::filesystem::path& folder, int variant = 0) {
  on_ranks(size, [&](Group& group) {
    const Checkpoint c = prove_checkpoint(group, folder);
    const Boxes expected(group.rank(), size, true, variant);
    const Boxes loaded(group.rank(), size, false);
    load_boxes(group, c, loaded.get());
    prove_live_state(group, c, loaded.get());
    for (std::size_t i = 0; i < expected.get().size(); ++i) {
      const Box& a = expected.get()[i];
      const Box& b = loaded.get()[i];
      ASSERT_EQ(a.data.bytes(), b.data.bytes());
      ASSERT_EQ(0, std::memcmp(a.data.data, b.data.data, static_cast<std::size_t>(a.data.bytes()))) << a.name;
    }
  });
}

inline std::string read_file(const std::filesystem::path& path) {
  std::string text(std::filesystem::file_size(path), '\0');
  FILE* f = std::fopen(path.c_str(), "rb");
  EXPECT_EQ(text.size(), std::fread(text.data(), 1, text.size(), f));
  std::fclose(f);
  return text;
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  FILE* f = std::fopen(path.c_str(), "wb");
  ASSERT_EQ(text.size(), std::fwrite(text.data(), 1, text.size(), f));
  std::fclose(f);
}

/// A manifest with another body and the right digest of its own bytes, as an attacker would make it.
inline std::string forged(std::string good, const std::string& from, const std::string& to) {
  const std::size_t at = good.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  good.replace(at, from.size(), to);
  const std::size_t body = good.find('\n') + 1;
  return good.replace(12, 64, sha256(good.substr(body)));
}

}  // namespace fourmi::testing

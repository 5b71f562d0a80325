// What tests of layouts share: recipes on packed documents, and runs that must agree with one rank's.
#pragma once

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "kernels/numerics/random.h"
#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/runs.h"

namespace fourmi {

/// A folder of texts of 1 to 40 bytes: sequences of 32 tokens hold several, and borders fall everywhere.
class ShortDocuments {
 public:
  ShortDocuments() : path_(std::filesystem::temp_directory_path() / fmt::format("fourmi-layouts-{}", getpid())) {
    std::filesystem::create_directories(path_);
    const RandomKey key = random_key(1, "test", "documents");
    for (std::uint64_t i = 0; i < 100; ++i) {
      const std::uint64_t bits = random_bits(key, i);
      std::string text;
      for (std::uint64_t c = 0; c < 1 + bits % 40; ++c)
        text += static_cast<char>('a' + random_bits(key, 1000 * i + c) % 26);
      std::ofstream(path_ / std::to_string(i)) << text;
    }
  }
  ~ShortDocuments() { std::filesystem::remove_all(path_); }

  Recipe in(Recipe r) const {
    r.data.train[0].path = path_.string(), r.data.train[0].format = "text";
    return r;
  }

 private:
  std::filesystem::path path_;
};

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

}  // namespace fourmi

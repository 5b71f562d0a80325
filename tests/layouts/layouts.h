// What tests of layouts share: recipes on packed documents.
#pragma once

#include <unistd.h>

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

}  // namespace fourmi

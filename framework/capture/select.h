// Which tokens of a teacher's distribution are kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/capture/row_format.h"
#include "kernels/numerics/random.h"

namespace fourmi {

/// One row's softmax at a temperature: p_v = exp((logits_v - max) / temperature) / sum; padding is -infinity.
template <class T>
struct TeacherRow {
  std::span<const T> logits;
  T max{}, sum{};
  double temperature = 1;
};

/// Keeps memory between rows; one a thread.
class TokenSelection {
 public:
  explicit TokenSelection(const CacheFormat& format) : format_(format) {}

  /// Writes format.entries words and returns what comes after them: the mass of what is not among them, or the entropy.
  /// `key` and `position` decide a sample's chance.
  ///
  /// A sample is systematic sampling with probability proportional to size (Madow 1949): the likeliest tokens are in it
  /// with their probability, as long as that exceeds an equal part of what is left; of the others each is in it as
  /// often as its probability says, with one weight for all. So the expectation is the distribution, exactly n tokens
  /// have all of its mass, and the variance is less than that of drawing with replacement.
  template <class T>
  float take(const TeacherRow<T>& row, RandomKey key, std::uint64_t position, std::uint32_t* packed);

 private:
  template <class T>
  void find_likeliest(const TeacherRow<T>& row);
  template <class T>
  float take_sample(const TeacherRow<T>& row, RandomKey key, std::uint64_t position, std::uint32_t* packed);

  struct Candidate {
    double logit;
    std::int32_t id;
  };
  CacheFormat format_;
  std::vector<Candidate> likeliest_;  // of the last row, likeliest first
  std::vector<double> weights_;       // of the row's columns, without the likeliest
};

}  // namespace fourmi

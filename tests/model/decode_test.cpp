// Decoding token by token from the latent cache says what the whole forward pass says.
#include "framework/model/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/model/sampling.h"
#include "kernels/numerics/random.h"
#include "tests/model/decode_together.h"
#include "tests/model/small_model.h"

namespace fourmi {
namespace {

void check_decoding(const ModelSection& section, Compute compute, double tolerance) {
  const BatchSizes sizes{8, 8};
  SmallModel m(section, compute, Reproducibility::run, sizes, 7, Model::Use::evaluation);
  SmallBatch batch(sizes, section.vocab_size, 3, 1);  // one document
  std::fill(batch.targets.begin(), batch.targets.end(), 5);
  const BatchLosses losses = m.model.evaluate(m.stream, batch.tensors(), m.options);

  Arena arena({"cache", Arena::Mode::allocate, true}, 8 << 20);
  Decoder decoder(m.model, m.store, {.max_tokens = 16}, arena);
  for (int round = 0; round < 2; ++round) {  // a cleared decoder begins anew
    for (std::int64_t t = 0; t < sizes.rows; ++t) {
      const std::span<const double> logits = decoder.next(m.stream, batch.tokens[static_cast<std::size_t>(t)]);
      double sum = 0;
      for (double l : logits) sum += std::exp(l);
      const double loss = std::log(sum) - logits[5];
      const double expected = losses.loss_M.dtype == DType::f64 ? losses.loss_M.as<double>()[t]
                                                                : static_cast<double>(losses.loss_M.as<float>()[t]);
      EXPECT_NEAR(loss, expected, tolerance * (1 + std::abs(expected))) << "token " << t;
    }
    EXPECT_EQ(decoder.num_tokens(), sizes.rows);
    decoder.clear();
  }
}

TEST(Decode, EqualsTheWholeForwardPass) {
  for (bool query_latent : {true, false}) {
    check_decoding(small_section(query_latent), Compute::fp64, 1e-12);
    check_decoding(small_section(query_latent), Compute::fp32, 1e-4);
    check_decoding(small_section(query_latent), Compute::bf16, 0.1);
  }
}

TEST(Decode, TextsTogetherHaveTheBitsOfEachAlone) {
  for (bool query_latent : {true, false})
    for (Compute compute : {Compute::fp64, Compute::fp32, Compute::bf16})
      check_texts_together(small_section(query_latent), compute);
}

TEST(Decode, SamplingFollowsTemperatureTopPAndSeed) {
  const std::vector<double> logits{0.0, 3.0, 2.9, -5.0, 9.0};
  EXPECT_EQ(sample(logits, {.temperature = 0}, 0, 5), 4);
  EXPECT_EQ(sample(logits, {.temperature = 0}, 0, 4), 1) << "ids from banned_from on are never chosen";
  std::vector<int> count(5, 0);
  for (std::int64_t i = 0; i < 4000; ++i)
    ++count[static_cast<std::size_t>(sample(logits, {.temperature = 1, .top_p = 1, .seed = 3}, i, 4))];
  const double total = 1 + std::exp(3.0) + std::exp(2.9) + std::exp(-5.0);
  EXPECT_NEAR(count[1] / 4000.0, std::exp(3.0) / total, 0.03);
  EXPECT_NEAR(count[2] / 4000.0, std::exp(2.9) / total, 0.03);
  for (std::int64_t i = 0; i < 200; ++i) {
    const auto id = sample(logits, {.temperature = 1, .top_p = 0.6, .seed = 3}, i, 4);
    EXPECT_TRUE(id == 1 || id == 2) << "outside of the nucleus";
    EXPECT_EQ(id, sample(logits, {.temperature = 1, .top_p = 0.6, .seed = 3}, i, 4));
  }
}

// Of a large vocabulary only the likeliest are sorted: the draw is that of all of them.
TEST(Decode, SamplingOfManyIsThatOfAllInOrder) {
  std::vector<double> logits(5000);
  const RandomKey key = random_key(1, "logits", "");
  for (std::size_t i = 0; i < logits.size(); ++i)
    logits[i] = std::round(random_normal(key, i) * 8) / 8;  // many are equal
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return logit(a) > logit(b); });
  double total = 0;
  for (const double l : logits) total += std::exp(l);
  std::size_t deepest = 0;
  for (const double top_p : {1.0, 0.9, 0.2})
    for (std::int64_t i = 0; i < 100; ++i) {
      double kept = 0;
      std::size_t count = 0;
      while (count < order.size() && kept < top_p * total) kept += std::exp(logit(order[count++]));
      double u = random_uniform(random_key(5, "sample", ""), static_cast<std::uint64_t>(i)) * kept;
      std::size_t rank = 0;
      while (rank + 1 < count && (u -= std::exp(logit(order[rank]))) >= 0) ++rank;
      deepest = std::max(deepest, rank);
      EXPECT_EQ(sample(logits, {.temperature = 1, .top_p = top_p, .seed = 5}, i, 5000), order[rank])
          << top_p << " " << i;
    }
  EXPECT_GT(deepest, 512U) << "beyond the second piece that is sorted";
}

}  // namespace
}  // namespace fourmi

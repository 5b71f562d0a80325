// What must hold for every family: the gradient of every element, equal bits on every machine, decoding, evaluation.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "framework/model/decode.h"
#include "tests/model/decode_together.h"
#include "tests/model/small_families.h"

namespace fourmi {
namespace {

class EveryFamily : public testing::TestWithParam<Family> {
 protected:
  const ModelSection& section() const { return GetParam().section; }
  bool has_mtp() const { return section().num_nextn_predict_layers > 0; }
};
std::string name_of_family(const testing::TestParamInfo<Family>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Families, EveryFamily, testing::ValuesIn(small_families()), name_of_family);

TEST_P(EveryFamily, EveryGradientAgainstFiniteDifferences) {
  const BatchSizes sizes{16, 8};
  SmallModel m(section(), Compute::fp64, Reproducibility::run, sizes);
  stir_vectors(m);
  SmallBatch batch(sizes, section().vocab_size);
  expect_gradients_of_finite_differences(m, batch, {has_mtp() ? 0.3 : 0.0, 0.05});
}

std::vector<std::byte> gradient_bits(const SmallModel& m) {
  std::vector<std::byte> bits;
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision}) {
    const auto* p = static_cast<const std::byte*>(m.store.gradients(set).data);
    bits.insert(bits.end(), p, p + m.store.gradients(set).bytes());
  }
  return bits;
}

TEST_P(EveryFamily, EveryInstructionSetAndThreadCountGivesEqualBits) {
  const BatchSizes sizes{32, 16};
  SmallBatch batch(sizes, section().vocab_size);
  for (Compute compute : {Compute::fp32, Compute::bf16})
    for (Reproducibility mode : {Reproducibility::run, Reproducibility::layout}) {
      std::vector<std::byte> reference;
      for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        for (int threads : {1, 3}) {
          if (!has_isa(isa)) continue;
          SmallModel m(section(), compute, mode, sizes);
          stir_vectors(m);
          ThreadPool pool(threads);
          m.model.forward_backward(Stream(pool, isa), batch.tensors(), {has_mtp() ? 0.3 : 0.0, 0.05}, m.options);
          EXPECT_EQ(m.refused, 0);
          const std::vector<std::byte> bits = gradient_bits(m);
          if (reference.empty()) reference = bits;
          EXPECT_TRUE(bits == reference) << name_of(isa) << " with " << threads << " threads";
        }
    }
}

/// Mode layout: both sequences in one micro-batch, or one after the other.
TEST_P(EveryFamily, LayoutModeDoesNotSeeTheMicroBatch) {
  for (Compute compute : {Compute::fp32, Compute::bf16}) {
    SmallModel both(section(), compute, Reproducibility::layout, {32, 16}),
        one(section(), compute, Reproducibility::layout, {16, 16});
    stir_vectors(both);
    stir_vectors(one);
    SmallBatch together({32, 16}, section().vocab_size, 3, 1), first({16, 16}, section().vocab_size, 3, 1),
        second({16, 16}, section().vocab_size, 3, 2);
    const LossWeights weights{has_mtp() ? 0.3 : 0.0, 0.05};
    both.model.forward_backward(both.stream, together.tensors(), weights, both.options);
    one.model.forward_backward(one.stream, second.tensors(), weights, one.options);
    one.model.forward_backward(one.stream, first.tensors(), weights, one.options);
    EXPECT_TRUE(gradient_bits(both) == gradient_bits(one));
  }
}

TEST_P(EveryFamily, EvaluationReusesMemoryAndKeepsBits) {
  SmallModel training(section(), Compute::bf16, Reproducibility::run, {16, 8});
  SmallModel evaluation(section(), Compute::bf16, Reproducibility::run, {16, 8}, 7, Model::Use::evaluation);
  SmallBatch batch({16, 8}, section().vocab_size);
  const BatchLosses a = training.model.forward_backward(training.stream, batch.tensors(), {0, 0.05}, training.options);
  const BatchLosses b = evaluation.model.evaluate(evaluation.stream, batch.tensors(), evaluation.options);
  EXPECT_EQ(std::memcmp(a.loss_M.data, b.loss_M.data, static_cast<std::size_t>(b.loss_M.bytes())), 0);
}

/// Decoding with a cache says, token by token, what the whole forward pass says; longer than any window.
TEST_P(EveryFamily, DecodingEqualsTheWholeForwardPass) {
  const BatchSizes sizes{12, 12};
  for (auto [compute, tolerance] : {std::pair{Compute::fp64, 1e-12}, {Compute::fp32, 1e-4}, {Compute::bf16, 0.1}}) {
    SmallModel m(section(), compute, Reproducibility::run, sizes, 7, Model::Use::evaluation);
    stir_vectors(m);
    SmallBatch batch(sizes, section().vocab_size, 3, 1);  // one document
    std::fill(batch.targets.begin(), batch.targets.end(), 5);
    const BatchLosses losses = m.model.evaluate(m.stream, batch.tensors(), m.options);
    Arena arena({"cache", Arena::Mode::allocate, true}, 8 << 20);
    Decoder decoder(m.model, m.store, {.max_tokens = 16}, arena);
    for (int round = 0; round < 2; ++round) {  // a cleared decoder begins anew
      for (std::int64_t t = 0; t < sizes.rows; ++t) {
        const std::span<const double> logits = decoder.next(m.stream, batch.tokens[static_cast<std::size_t>(t)]);
        double sum = 0;
        for (double l : logits) sum += std::exp(l);
        const double expected = losses.loss_M.dtype == DType::f64 ? losses.loss_M.as<double>()[t]
                                                                  : static_cast<double>(losses.loss_M.as<float>()[t]);
        EXPECT_NEAR(std::log(sum) - logits[5], expected, tolerance * (1 + std::abs(expected))) << "token " << t;
      }
      decoder.clear();
    }
  }
}

TEST_P(EveryFamily, TextsTogetherHaveTheBitsOfEachAlone) {
  for (Compute compute : {Compute::fp64, Compute::fp32, Compute::bf16}) check_texts_together(section(), compute);
}

TEST(Families, AWindowHidesWhatIsBeforeIt) {
  ModelSection section = small_families().front().section;
  section.num_hidden_layers = 1, section.max_window_layers = 0;  // one layer: a row sees 3 tokens and no more
  const BatchSizes sizes{8, 8};
  SmallModel m(section, Compute::fp64, Reproducibility::run, sizes, 7, Model::Use::evaluation);
  SmallBatch batch(sizes, section.vocab_size, 3, 1);
  auto losses = [&] {
    const Tensor l = m.model.evaluate(m.stream, batch.tensors(), m.options).loss_M;
    return std::vector<double>(l.as<double>(), l.as<double>() + l.num_elements());
  };
  const std::vector<double> before = losses();
  batch.tokens[2] = (batch.tokens[2] + 1) % 24;
  const std::vector<double> after = losses();
  for (std::size_t t = 0; t < 8; ++t) {
    if (batch.targets[t] >= 0) {
      EXPECT_EQ(before[t] != after[t], t >= 2 && t < 5) << "token " << t;
    }
  }
}

TEST(Families, TiedEmbeddingsAreOneTensor) {
  const ParameterTable tied(small_families().front().section);
  for (const Parameter& p : tied.all()) EXPECT_NE(p.name, "lm_head.weight");
  ModelSection section = small_families().front().section;
  section.tie_word_embeddings = false;
  const ParameterTable apart(section);
  EXPECT_EQ(apart.num_elements(ParameterSet::matrices) - tied.num_elements(ParameterSet::matrices),
            section.vocab_size * section.hidden_size);
}

}  // namespace
}  // namespace fourmi

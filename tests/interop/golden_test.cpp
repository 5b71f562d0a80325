// What transformers computes: logits, loss and every parameter's gradient of a tiny model of each family.
#include "tests/interop/golden.h"

#include <gtest/gtest.h>

#include <cmath>

#include "framework/model/decode.h"
#include "kernels/ops/reduce.h"

namespace fourmi::interop {
namespace {

class Golden : public testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder() const { return golden_folder() / GetParam(); }
  /// Logits and gradients lie in a safetensors file too, which is no model's: read by its header.
  std::vector<float> expected(const std::string& name) {
    const std::string file = content(folder() / "golden.safetensors");
    const auto size = static_cast<std::int64_t>(file.size());
    const auto begin = static_cast<std::size_t>(8 + header_length(file.substr(0, 8), size, "golden"));
    const auto header = parse_safetensors_header(std::string_view(file).substr(8, begin - 8),
                                                 size - static_cast<std::int64_t>(begin), "golden");
    for (const StoredTensor& t : header.tensors) {
      if (t.name != name) continue;
      std::vector<float> values(static_cast<std::size_t>(t.shape.num_elements()));
      widen(t.type,
            std::as_bytes(std::span(file)).subspan(begin + static_cast<std::size_t>(t.begin), values.size() * 4),
            values);
      return values;
    }
    ADD_FAILURE() << "no " << name;
    return {};
  }
};

constexpr const char* families[] = {"llama",   "llama-tied",  "qwen2",       "qwen3",          "qwen3-moe",
                                    "mixtral", "deepseek-v2", "deepseek-v3", "deepseek-v3-mtp"};
INSTANTIATE_TEST_SUITE_P(Families, Golden, testing::ValuesIn(families), [](const auto& i) {
  std::string name = i.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(Golden, LossAndGradientsOfEveryParameter) {
  GoldenBatch batch(folder());
  LoadedModel m(folder(), Compute::fp32, Model::Use::training, {batch.sequences * batch.length, batch.length});
  const BatchLosses losses = m.model.forward_backward(m.stream, batch.tensors(), batch.weights, m.options);
  const auto mean = [](const Tensor& rows, std::int64_t targets) {
    double sum = 0;
    for (std::int64_t i = 0; i < rows.num_elements(); ++i) sum += static_cast<double>(rows.as<float>()[i]);
    return sum / static_cast<double>(targets);
  };
  EXPECT_NEAR(mean(losses.loss_M, batch.num_targets), batch.loss, 1e-6);
  ASSERT_EQ(static_cast<bool>(losses.loss_mtp_M), batch.has_mtp);
  if (batch.has_mtp) {
    EXPECT_NEAR(mean(losses.loss_mtp_M, batch.num_mtp_targets), batch.loss_mtp, 1e-6);
  }
  int compared = 0;
  for (const Parameter& p : m.table.all()) {
    if (p.set == ParameterSet::router_bias) continue;
    const std::vector<float> theirs = expected("gradient." + p.name);
    const Tensor mine = m.store.gradient(m.store.slot(p.name));
    ASSERT_EQ(static_cast<std::size_t>(mine.num_elements()), theirs.size()) << p.name;
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < theirs.size(); ++i) {
      const double a = static_cast<double>(mine.as<float>()[i]) / static_cast<double>(batch.num_targets),
                   b = static_cast<double>(theirs[i]);
      difference += (a - b) * (a - b), norm += b * b;
    }
    EXPECT_GT(norm, 0) << p.name;
    EXPECT_LE(std::sqrt(difference), 1e-4 * std::sqrt(norm)) << p.name;
    ++compared;
  }
  EXPECT_GT(compared, 15);
}

/// Packed documents and all: the loss with target v is the sum's logarithm less the logit of v.
TEST_P(Golden, LogitsOfEveryRow) {
  GoldenBatch batch(folder());
  LoadedModel m(folder(), Compute::fp32, Model::Use::evaluation, {batch.sequences * batch.length, batch.length});
  const std::vector<float> theirs = expected("logits"),
                           of_mtp = batch.has_mtp ? expected("logits_mtp") : std::vector<float>();
  const std::size_t rows = batch.tokens.size(), vocabulary = theirs.size() / rows;
  const auto expect_rows = [&](const Tensor& loss, const std::vector<float>& logits, std::size_t v) {
    for (std::size_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (std::size_t k = 0; k < vocabulary; ++k) sum += std::exp(static_cast<double>(logits[i * vocabulary + k]));
      ASSERT_NEAR(std::log(sum) - static_cast<double>(loss.as<float>()[i]),
                  static_cast<double>(logits[i * vocabulary + v]), 1e-5)
          << "row " << i << ", token " << v;
    }
  };
  for (std::size_t v = 0; v < vocabulary; ++v) {
    std::fill(batch.targets.begin(), batch.targets.end(), static_cast<std::int32_t>(v));
    std::fill(batch.mtp_targets.begin(), batch.mtp_targets.end(), static_cast<std::int32_t>(v));
    const BatchLosses losses = m.model.evaluate(m.stream, batch.tensors(), m.options);
    expect_rows(losses.loss_M, theirs, v);
    if (batch.has_mtp) expect_rows(losses.loss_mtp_M, of_mtp, v);
  }
}

/// Token by token, with a cache: the logits themselves, of the sequence that is one document.
TEST_P(Golden, LogitsOfDecoding) {
  GoldenBatch batch(folder());
  LoadedModel m(folder(), Compute::fp32, Model::Use::evaluation, {batch.sequences * batch.length, batch.length});
  const std::vector<float> theirs = expected("logits");
  Arena arena({"cache", Arena::Mode::allocate, true}, 8 << 20);
  Decoder decoder(m.model, m.store, {.max_tokens = batch.length}, arena);
  for (auto i = static_cast<std::size_t>(batch.length); i < 2 * static_cast<std::size_t>(batch.length); ++i) {
    const std::span<const double> logits = decoder.next(m.stream, batch.tokens[i]);
    for (std::size_t v = 0; v < logits.size(); ++v)
      ASSERT_NEAR(logits[v], static_cast<double>(theirs[i * logits.size() + v]), 1e-5)
          << "row " << i << ", token " << v;
  }
}

}  // namespace
}  // namespace fourmi::interop

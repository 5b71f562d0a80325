// Every element's gradient of a whole model against central finite differences in fp64.
#include <gtest/gtest.h>

#include "tests/model/small_model.h"

namespace fourmi {
namespace {

void check_every_gradient(const ModelSection& section) {
  const BatchSizes sizes{16, 8};
  SmallModel m(section, Compute::fp64, Reproducibility::run, sizes);
  SmallBatch batch(sizes, section.vocab_size);
  expect_gradients_of_finite_differences(m, batch, {section.num_nextn_predict_layers ? 0.3 : 0.0, 0.05});
}

TEST(Gradient, EveryElementDeepSeekV3WithMtp) {
  check_every_gradient(small_section());
}
TEST(Gradient, EveryElementDeepSeekV2WithoutQueryLatent) {
  check_every_gradient(small_section(false));
}

}  // namespace
}  // namespace fourmi

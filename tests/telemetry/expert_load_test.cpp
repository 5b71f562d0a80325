#include "framework/telemetry/expert_load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fourmi {
namespace {

TEST(ExpertLoad, FiguresOfALayerByHand) {
  const std::vector<std::int64_t> counts{6, 2, 0, 0};
  const std::vector<double> bias{0.25, -0.5, 0.125, 0};
  const LayerLoad l = layer_load(7, counts, bias);
  EXPECT_EQ(l.layer, 7);
  EXPECT_DOUBLE_EQ(l.max_over_mean, 3.0);
  EXPECT_DOUBLE_EQ(l.entropy, -(0.75 * std::log2(0.75) + 0.25 * std::log2(0.25)) / 2);  // over log2 4
  EXPECT_EQ(l.dead, 2);
  EXPECT_DOUBLE_EQ(l.bias_max, 0.5);
  EXPECT_DOUBLE_EQ(l.bias_spread, 0.75);
}

TEST(ExpertLoad, TheEnds) {
  const std::vector<std::int64_t> even{5, 5, 5}, one{0, 9, 0}, none{0, 0};
  EXPECT_DOUBLE_EQ(layer_load(0, even, {}).entropy, 1);
  EXPECT_DOUBLE_EQ(layer_load(0, even, {}).max_over_mean, 1);
  EXPECT_DOUBLE_EQ(layer_load(0, one, {}).entropy, 0);
  EXPECT_DOUBLE_EQ(layer_load(0, one, {}).max_over_mean, 3);
  EXPECT_EQ(layer_load(0, one, {}).dead, 2);
  EXPECT_EQ(layer_load(0, none, {}).dead, 0);
  EXPECT_EQ(layer_load(0, none, {}).max_over_mean, 1);
}

TEST(ExpertLoad, AWindowAddsUpItsStepsAndBeginsAnew) {
  ExpertLoadWindow window({1, 4}, 2);
  window.add(std::vector<std::int64_t>{4, 0, 1, 1});
  window.add(std::vector<std::int64_t>{0, 4, 3, 1});
  const std::vector<double> biases{0, 0, 0.5, -0.25};
  const LoadSummary first = window.close(biases);
  EXPECT_EQ(first.steps, 2);
  ASSERT_EQ(first.layers.size(), 2u);
  EXPECT_EQ(first.layers[0].dead, 0) << "each expert had tokens in one of the steps";
  EXPECT_DOUBLE_EQ(first.layers[0].max_over_mean, 1);
  EXPECT_DOUBLE_EQ(first.layers[1].max_over_mean, 4.0 / 3);
  EXPECT_EQ(first.layers[1].layer, 4);
  EXPECT_DOUBLE_EQ(first.layers[1].bias_spread, 0.75);
  EXPECT_DOUBLE_EQ(first.worst_max_over_mean(), 4.0 / 3);
  window.add(std::vector<std::int64_t>{0, 2, 2, 0});
  const LoadSummary second = window.close({});
  EXPECT_EQ(second.steps, 1);
  EXPECT_EQ(second.dead(), 2);
}

TEST(ExpertLoad, TheLineIsJsonThatALogTakes) {
  ExpertLoadWindow window({1}, 4);
  window.add(std::vector<std::int64_t>{6, 2, 0, 0});
  const std::string line = to_json_line(30, 2, window.close(std::vector<double>{0.25, -0.5, 0.125, 0}));
  EXPECT_EQ(line.rfind("{\"step\":30,", 0), 0u);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["steps"], 1);
  EXPECT_EQ(json["launch"], 2);
  EXPECT_EQ(json["dead"], 2);
  EXPECT_EQ(json["layers"][0]["layer"], 1);
  EXPECT_EQ(json["layers"][0]["max_over_mean"], 3.0);
  EXPECT_EQ(json["layers"][0]["bias_max"], 0.5);
}

}  // namespace
}  // namespace fourmi

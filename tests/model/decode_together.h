// Some texts in one decoder, in steps of any shape, say what each says alone and token by token: to the bit.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "framework/model/decode.h"
#include "tests/model/small_model.h"

namespace fourmi {

inline std::vector<std::int32_t> text_for_decoding(std::int64_t text, std::int64_t vocab_size) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < 9 + text; ++i)
    tokens.push_back(static_cast<std::int32_t>((7 * i + 5 * text + 1) % vocab_size));
  return tokens;
}

/// Logits of all tokens, from a decoder that has nothing beside.
inline std::vector<double> logits_alone(const SmallModel& m, const std::vector<std::int32_t>& tokens) {
  Arena arena({"cache", Arena::Mode::allocate, true}, 8 << 20);
  Decoder decoder(m.model, m.store, {.max_tokens = 16}, arena);
  std::vector<double> all;
  for (std::int32_t t : tokens) {
    const std::span<const double> logits = decoder.next(m.stream, t);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

inline void check_texts_together(const ModelSection& section, Compute compute) {
  constexpr std::size_t num_texts = 3;
  SmallModel m(section, compute, Reproducibility::run, {8, 8}, 7, Model::Use::evaluation);
  Arena arena({"cache", Arena::Mode::allocate, true}, 16 << 20);
  Decoder decoder(m.model, m.store, {.texts = num_texts, .max_tokens = 16, .rows = 12, .logit_rows = 12}, arena);
  // Tokens that each text gives to a step; texts come and go, and the last one is read in one piece.
  const std::vector<std::vector<std::int64_t>> steps{{4, 0, 0}, {1, 3, 0}, {1, 1, 10}, {0, 1, 1}, {3, 5, 0}};
  std::vector<std::vector<std::int32_t>> texts;
  std::vector<std::vector<double>> said(num_texts);
  std::vector<std::size_t> read(num_texts);
  for (std::size_t t = 0; t < num_texts; ++t)
    texts.push_back(text_for_decoding(static_cast<std::int64_t>(t), section.vocab_size));
  for (const auto& step : steps) {
    std::vector<DecoderRun> runs;
    for (std::size_t t = num_texts; t-- > 0;) {  // in any order
      if (step[t] == 0) continue;
      runs.push_back({.text = static_cast<std::int64_t>(t),
                      .tokens = std::span(texts[t]).subspan(read[t], static_cast<std::size_t>(step[t])),
                      .logits = step[t]});
      read[t] += static_cast<std::size_t>(step[t]);
    }
    std::span<const double> logits = decoder.step(m.stream, runs);
    for (const DecoderRun& r : runs) {
      const auto n = static_cast<std::size_t>(r.logits * section.vocab_size);
      auto& all = said[static_cast<std::size_t>(r.text)];
      all.insert(all.end(), logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(n));
      logits = logits.subspan(n);
    }
  }
  for (std::size_t t = 0; t < num_texts; ++t) {
    ASSERT_EQ(decoder.num_tokens(static_cast<std::int64_t>(t)), static_cast<std::int64_t>(read[t]));
    texts[t].resize(read[t]);
    EXPECT_EQ(said[t], logits_alone(m, texts[t])) << "text " << t;
  }
}

}  // namespace fourmi

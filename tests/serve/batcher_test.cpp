// Texts that are written together are those that each would be alone; who comes late joins in; nobody waits for ever.
#include "framework/serve/batcher.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/serve/small_service.h"

namespace fourmi {
namespace {

TextRequest request(std::vector<std::int32_t> prompt, std::int64_t max_tokens, double temperature = 0) {
  return {.prompt = std::move(prompt), .max_tokens = max_tokens, .sampling = {.temperature = temperature, .seed = 5}};
}

std::vector<std::int32_t> ids(Writing& writing) {
  std::vector<std::int32_t> all;
  for (const WrittenToken& t : all_tokens(writing)) all.push_back(t.token);
  return all;
}

TEST(Batcher, WritesTogetherWhatEachWouldBeAlone) {
  std::vector<TextRequest> requests;
  for (std::int32_t i = 0; i < 11; ++i)
    requests.push_back(
        request(std::vector<std::int32_t>(static_cast<std::size_t>(1 + 3 * i), 1 + i), 30 - 2 * i, i % 2));
  std::vector<std::vector<std::int32_t>> alone;
  {
    SmallWriter one(1);
    for (const TextRequest& r : requests) alone.push_back(ids(*one.batcher.write(r)));
  }
  SmallWriter many(4);
  std::vector<std::shared_ptr<Writing>> writings;
  for (const TextRequest& r : requests) writings.push_back(many.batcher.write(r));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(ids(*writings[i]), alone[i]) << i;
    EXPECT_EQ(std::ssize(alone[i]), requests[i].max_tokens);
    EXPECT_EQ(writings[i]->finish(), Finish::length);
  }
  EXPECT_EQ(many.batcher.load().writing, 0);
}

TEST(Batcher, ALateTextHasItsFirstTokenBeforeOthersEnd) {
  SmallWriter w(2, 60000);
  const auto first = w.batcher.write(request({1}, 50000));
  WrittenToken token;
  ASSERT_TRUE(first->next(token));
  const auto late = w.batcher.write(request({2, 3}, 3));
  ASSERT_TRUE(late->next(token));
  EXPECT_EQ(first->finish(), Finish::not_yet);
  EXPECT_EQ(all_tokens(*late).size(), 2U);
  first->cancel();
  while (w.batcher.load().writing > 0) std::this_thread::yield();  // its place is free again
}

TEST(Batcher, LogProbabilitiesOfAPromptAreThoseOfTheWholePass) {
  SmallWriter w(2);
  TextRequest r = request({3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4}, 2);
  r.score_prompt = true;
  r.num_likeliest = 3;
  const auto prompt = r.prompt;
  const auto beside = w.batcher.write(request({7}, 40));  // takes rows of each step
  const std::vector<WrittenToken> all = all_tokens(*w.batcher.write(r));
  ASSERT_EQ(all.size(), prompt.size() + 2);
  EXPECT_TRUE(std::isnan(all[0].logprob));

  Arena arena({"cache", Arena::Mode::allocate, true}, 8 << 20);
  Decoder decoder(w.model.model, w.model.store, {.max_tokens = 64}, arena);
  for (std::size_t i = 0; i + 1 < prompt.size(); ++i) {
    const std::span<const double> logits = decoder.next(w.model.stream, prompt[i]);
    double sum = 0, largest = logits[0];
    for (double l : logits) sum += std::exp(l), largest = std::max(largest, l);
    const WrittenToken& t = all[i + 1];
    EXPECT_EQ(t.token, prompt[i + 1]);
    EXPECT_NEAR(t.logprob, logits[static_cast<std::size_t>(t.token)] - std::log(sum), 1e-9) << i;
    ASSERT_EQ(t.likeliest.size(), 3U);
    EXPECT_NEAR(t.likeliest[0].logprob, largest - std::log(sum), 1e-9);
    EXPECT_GE(t.likeliest[0].logprob, t.likeliest[1].logprob);
  }
}

TEST(Batcher, MoreThanMayWaitAreRefusedAndAnEndEndsAll) {
  std::vector<std::shared_ptr<Writing>> writings;
  {
    SmallWriter w(1, 60000, 2);
    writings.push_back(w.batcher.write(request({1}, 50000)));
    WrittenToken token;
    ASSERT_TRUE(writings[0]->next(token));
    for (int i = 0; i < 2; ++i) writings.push_back(w.batcher.write(request({2}, 5)));
    EXPECT_EQ(w.batcher.write(request({3}, 5)), nullptr);
  }
  for (const auto& w : writings) {
    all_tokens(*w);
    EXPECT_EQ(w->finish(), Finish::cancelled);
  }
}

}  // namespace
}  // namespace fourmi

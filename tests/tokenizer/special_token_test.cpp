#include "framework/tokenizer/special_token.h"

#include "framework/recipe/recipe.h"
#include "framework/tokenizer/choose.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

TEST(SpecialTokens, AreTheAddedOnesThatSaySoAndTheEndOfADocument) {
  const BpeTokenizer tokenizer = test::golden_tokenizer("cl100k");  // 600 <mask>, 601 <|end|>; 602 is text
  for (const std::int32_t token : {tokenizer.end_of_document(), 600, 601})
    EXPECT_TRUE(is_special_token(tokenizer, token));
  for (const std::int32_t token : {5, 599, 602}) EXPECT_FALSE(is_special_token(tokenizer, token));
  DataSection data;
  data.tokenizer = "bytes";
  const auto bytes = make_tokenizer(data, 320);
  EXPECT_TRUE(is_special_token(*bytes, 256));
  EXPECT_FALSE(is_special_token(*bytes, '>'));
}

}  // namespace
}  // namespace fourmi

#include "framework/tokenizer/bytes.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "framework/tokenizer/choose.h"
#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

TEST(ByteTokenizer, RoundTripsEveryByte) {
  std::string text;
  for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(i));
  const ByteTokenizer tokenizer;
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  for (std::int32_t i = 0; i < 256; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(tokenizer.decode(ids), text);
  ids.push_back(tokenizer.end_of_document());
  EXPECT_EQ(tokenizer.decode(ids), text);
  for (const std::int32_t bad : {-1, 257})
    test::message_of(ExitStatus::input, [&] { tokenizer.decode(std::vector<std::int32_t>{bad}); });
}

TEST(MakeTokenizer, ChecksTheModel) {
  const auto make = [](const std::string& name, std::int64_t rows) {
    DataSection data;
    data.tokenizer = name;
    return make_tokenizer(data, rows);
  };
  EXPECT_EQ(make("bytes", 257)->vocab_size(), 257);
  test::message_of(ExitStatus::usage, [&] { make("bytes", 256); });
  test::message_of(ExitStatus::input, [&] { make("bites", 320); });
}

}  // namespace
}  // namespace fourmi

// A vocabulary learnt from a corpus.
#include "framework/corpus/train.h"

#include <gtest/gtest.h>

#include "tests/corpus/corpus.h"

namespace fourmi {
namespace {

using test::Corpus;

TEST(TrainTokenizer, ThreadsChangeNothing) {
  const test::Folder folder;
  const Corpus corpus(folder);
  TrainTokenizerOptions options;
  options.inputs = corpus.inputs;
  options.learn.vocab_size = 500;
  const TrainedTokenizer one = train_tokenizer(options);
  options.threads = 3;
  options.block_bytes = 500;
  EXPECT_EQ(train_tokenizer(options).json, one.json);
  const BpeTokenizer tokenizer(read_tokenizer_json(one.json, "trained"), "", "key");
  EXPECT_EQ(tokenizer.vocab_size(), 500);
  options.learn.vocab_size = 256;
  test::message_of(ExitStatus::usage, [&] { train_tokenizer(options); });
}

}  // namespace
}  // namespace fourmi

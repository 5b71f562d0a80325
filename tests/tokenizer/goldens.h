// The files that make_tokenizer_goldens.py made.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "framework/tokenizer/bpe.h"

namespace fourmi::test {

inline std::string golden(const std::string& name) {
  std::ifstream in(std::string(FOURMI_SOURCE_DIR) + "/tests/tokenizer/goldens/" + name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline BpeTokenizer golden_tokenizer(const std::string& name) {
  return BpeTokenizer(read_tokenizer_json(golden(name + ".json"), name), "", "data.end_of_document");
}

inline const char* const golden_names[] = {"gpt2",   "cl100k", "qwen2", "deepseek", "prefix",    "string",  "ignoring",
                                           "dollar", "forms",  "llama", "mistral",  "metaspace", "crossing"};

}  // namespace fourmi::test

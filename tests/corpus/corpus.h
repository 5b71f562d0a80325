// Texts to tokenize, and what is in files.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/data/files.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi::test {

inline std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// JSON lines and texts, compressed and not, and the documents in them.
struct Corpus {
  explicit Corpus(const Folder& folder, int lines = 400) {
    std::mt19937_64 random(1);
    const std::string text = golden("train.txt");
    const auto document = [&] {
      const std::size_t begin = random() % (text.size() - 500);
      return text.substr(text.find(' ', begin), random() % 400);
    };
    for (const char* name : {"a.jsonl", "b.jsonl.gz", "c.txt", "d.txt.gz"}) {
      const bool json = std::string(name).find("jsonl") != std::string::npos;
      std::string bytes;
      for (int i = 0; i < (json ? lines : 1); ++i) {
        std::string one = i % 50 == 7 ? "" : document();
        while (!one.empty() && (one.back() & 0x80)) one.pop_back();
        if (!json) one += "\xff\xfe tail";
        // Documents are cut anywhere: only whole characters may be in JSON.
        const std::string line =
            nlohmann::json{{"text", one}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        if (json) one = nlohmann::json::parse(line)["text"];
        documents.push_back(one);
        bytes += json ? line + (i % 3 ? "\n" : "\r\n") : one;
      }
      inputs.push_back(folder.write(name, std::string(name).ends_with(".gz") ? gzip(bytes) : bytes));
    }
  }
  std::vector<std::filesystem::path> inputs;
  std::vector<std::string> documents;
};

}  // namespace fourmi::test

// The four floors, held by reading what every file includes: arrows only downward (docs/architecture.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

bool is_source(const fs::path& p) {
  static const std::set<std::string> endings{".h", ".cpp", ".cu", ".cuh"};
  return endings.count(p.extension().string()) > 0;
}

/// "framework/model" for framework/model/block.h, "kernels" for kernels/ops/linear.h.
std::string room(const std::string& path) {
  std::string first = path.substr(0, path.find('/'));
  if (first != "framework") return first;
  const std::size_t end = path.find('/', first.size() + 1);
  return path.substr(0, end);
}

const std::map<std::string, std::set<std::string>> may_include = {
    {"kernels", {"kernels"}},
    {"parallel", {"parallel", "kernels"}},
    {"framework/digest", {"framework/digest", "kernels"}},
    {"framework/recipe", {"framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/tokenizer", {"framework/tokenizer", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/chat",
     {"framework/chat", "framework/tokenizer", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/data",
     {"framework/data", "framework/chat", "framework/tokenizer", "framework/recipe", "framework/digest", "parallel",
      "kernels"}},
    {"framework/corpus",
     {"framework/corpus", "framework/data", "framework/tokenizer", "framework/digest", "framework/recipe", "parallel",
      "kernels"}},
    {"framework/model", {"framework/model", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/checkpoint", {"framework/checkpoint", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/ledger", {"framework/ledger", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/interop",
     {"framework/interop", "framework/run", "framework/checkpoint", "framework/ledger", "framework/model",
      "framework/tokenizer", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/serve",
     {"framework/serve", "framework/model", "framework/chat", "framework/tokenizer", "framework/recipe",
      "framework/digest", "parallel", "kernels"}},
    {"framework/harvest",
     {"framework/harvest", "framework/run", "framework/data", "framework/tokenizer", "framework/recipe",
      "framework/digest", "parallel", "kernels"}},
    {"framework/run", {"framework/run", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/telemetry",
     {"framework/telemetry", "framework/run", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/capture",
     {"framework/capture", "framework/run", "framework/checkpoint", "framework/ledger", "framework/data",
      "framework/chat", "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"framework/train",
     {"framework/train", "framework/capture", "framework/interop", "framework/telemetry", "framework/run",
      "framework/checkpoint", "framework/ledger", "framework/model", "framework/data", "framework/tokenizer",
      "framework/recipe", "framework/digest", "parallel", "kernels"}},
    {"launch",
     {"launch", "framework/capture", "framework/interop", "framework/serve", "framework/harvest", "framework/corpus",
      "framework/train", "framework/telemetry", "framework/run", "framework/checkpoint", "framework/ledger",
      "framework/model", "framework/data", "framework/chat", "framework/tokenizer", "framework/recipe",
      "framework/digest", "parallel", "kernels"}},
};

TEST(Layering, IncludesPointDownward) {
  const fs::path top = FOURMI_SOURCE_DIR;
  const std::regex include(R"re(^\s*#\s*include\s*"([^"]+)")re");
  int files = 0;
  for (const char* floor : {"kernels", "parallel", "framework", "launch"})
    for (const auto& entry : fs::recursive_directory_iterator(top / floor)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      ++files;
      const std::string path = fs::relative(entry.path(), top).string();
      const auto allowed = may_include.find(room(path));
      ASSERT_NE(allowed, may_include.end()) << path << " is in a folder that has no place in the house";
      std::ifstream in(entry.path());
      std::string line;
      std::smatch match;
      while (std::getline(in, line))
        if (std::regex_search(line, match, include)) {
          const std::string target = match[1];
          if (target == "commit.h") continue;  // written at each build (launch/commit.cmake)
          EXPECT_TRUE(fs::exists(top / target))
              << path << " includes " << target << ", which is not a path from the top";
          EXPECT_TRUE(allowed->second.count(room(target)))
              << path << " includes " << target << ", an arrow upward or sideways";
        }
    }
  EXPECT_GT(files, 50);
}

TEST(Layering, KernelsAndParallelKnowNoLibraryOfAnotherFloor) {
  const fs::path top = FOURMI_SOURCE_DIR;
  const std::map<std::string, std::set<std::string>> only_in = {{"mpi.h", {"parallel"}},
                                                                {"hdf5.h", {"framework/checkpoint"}},
                                                                {"yaml-cpp/", {"framework/recipe"}},
                                                                {"pcre2.h", {"framework/tokenizer"}},
                                                                {"utf8proc.h", {"framework/tokenizer"}},
                                                                {"CLI/", {"launch"}}};
  for (const char* floor : {"kernels", "parallel", "framework", "launch"})
    for (const auto& entry : fs::recursive_directory_iterator(top / floor)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      const std::string path = fs::relative(entry.path(), top).string();
      if (path == "launch/build_info.cpp") continue;  // asks each library for its version, nothing else
      std::ifstream in(entry.path());
      std::string line;
      while (std::getline(in, line))
        for (const auto& [header, rooms] : only_in) {
          const bool included = line.rfind("#include <" + header, 0) == 0;
          EXPECT_TRUE(!included || rooms.count(room(path))) << path << " includes " << header;
        }
    }
}

TEST(House, FilesCanBeReadInOneSitting) {
  const fs::path top = FOURMI_SOURCE_DIR;
  for (const char* floor : {"kernels", "parallel", "framework", "launch", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(top / floor)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      std::ifstream in(entry.path());
      const auto lines = std::count(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>(), '\n');
      EXPECT_LE(lines, 400) << entry.path();
    }
}

}  // namespace

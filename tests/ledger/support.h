// A small ledger: a run that launches, saves, loses a branch to a kill, and goes on.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "framework/digest/sha256.h"
#include "framework/ledger/lineage.h"
#include "framework/ledger/trace.h"
#include "kernels/runtime/error.h"

namespace fourmi::testing {

/// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "fourmi-ledger-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline DatasetFact dataset(const std::string& name, const std::string& license = "CC0-1.0") {
  DatasetFact f{name, "text", license, "a library", {{"/data/" + name, 1000, sha256(name)}}, "", "reading"};
  f.sha256 = digest_of(f.files);
  return f;
}

inline LaunchFact launch(std::int64_t number, std::int64_t step) {
  return {number, step, 2, number == 1 ? "fresh" : "go on", "abc", "0.1", sha256("recipe"), {"host", "host"}, {}};
}

/// Steps of 10 tokens of the first source and 5 of the second, each saved after `every`.
inline void train(RunLineage& lineage, std::int64_t& step, std::int64_t to, std::int64_t every) {
  const std::int64_t tokens[] = {10, 5};
  while (step < to) {
    lineage.consumed(++step, tokens);
    if (step % every != 0) continue;
    lineage.snapshot();
    lineage.seal(sha256(fmt::format("root {}", step)), 15 * step);
    lineage.settle(true);
  }
}

/// Launch 1 saves steps 4 and 8 and is killed; launch 2 goes on from step 4 (8 was damaged) and saves 8 and 12.
struct SmallLedger {
  explicit SmallLedger(const std::filesystem::path& file) : path(file) {
    std::int64_t step = 0;
    {
      LedgerWriter writer(path);
      RunLineage lineage(writer, "");
      lineage.say(RunFact::type, to_payload(RunFact{"small", sha256("recipe"), "deepseek_v3"}));
      lineage.declare({dataset("web"), dataset("books", "GFDL-1.3-only")});
      lineage.say(LaunchFact::type, to_payload(launch(1, 0)));
      train(lineage, step, 4, 4);
      first_head = lineage.head();
      train(lineage, step, 8, 4);
      abandoned_head = lineage.head();
    }
    LedgerWriter writer(path);
    RunLineage lineage(writer, first_head);
    lineage.declare({dataset("web"), dataset("books", "GFDL-1.3-only")});
    lineage.say(LaunchFact::type, to_payload(launch(2, 4)));
    step = 4;
    train(lineage, step, 12, 4);
    head = lineage.head();
  }
  std::filesystem::path path;
  std::string first_head, abandoned_head, head;
};

}  // namespace fourmi::testing

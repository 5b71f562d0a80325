#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Result {
  int status = -1;  ///< exit status; -signal
  std::string output, errors;
};

std::string take(const fs::path& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  fs::remove(path);
  return text;
}

/// Runs a program with its standard output in `output` (a temporary file if empty) and more environment variables.
Result run(std::vector<std::string> words, const std::vector<std::string>& environment = {},
           const std::string& output = {}) {
  const fs::path base = fs::temp_directory_path() / ("fourmi-cli-" + std::to_string(::getpid()));
  const std::string out = output.empty() ? base.string() + ".out" : output, err = base.string() + ".err";
  const pid_t child = ::fork();
  if (child == 0) {
    for (const auto& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(out_fd, STDOUT_FILENO);
    ::dup2(err_fd, STDERR_FILENO);
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  Result result;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  if (output.empty()) result.output = take(out);
  result.errors = take(err);
  return result;
}

Result fourmi(std::vector<std::string> words, const std::vector<std::string>& environment = {},
              const std::string& output = {}) {
  words.insert(words.begin(), FOURMI_PROGRAM);
  return run(std::move(words), environment, output);
}

/// Nothing but one error line: `fourmi: error: <place>: <found>, <expected>. <remedy>`.
void expect_error(const Result& result, int status, const std::string& line) {
  EXPECT_EQ(result.status, status) << result.errors;
  EXPECT_EQ(result.output, "");
  EXPECT_TRUE(std::regex_match(result.errors, std::regex("fourmi: error: " + line + "\n"))) << result.errors;
}

std::vector<std::string> commands() {
  std::vector<std::string> names;
  std::ifstream header(fs::path(FOURMI_SOURCE_DIR) / "launch/commands.h");
  const std::regex declaration(R"(void add_(\w+)\(.*)");
  std::smatch match;
  for (std::string line; std::getline(header, line);) {
    if (!std::regex_match(line, match, declaration)) continue;
    names.push_back(match[1]);
    std::replace(names.back().begin(), names.back().end(), '_', '-');
  }
  return names;
}

TEST(CommandLine, VersionTellsWhatWasBuilt) {
  const Result result = fourmi({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.errors, "");
  EXPECT_TRUE(result.output.starts_with("fourmi " FOURMI_VERSION "\ncommit: ")) << result.output;
  for (const char* key :
       {"build: ", "instruction sets: ", "MPI: Open MPI", "HDF5: ", "\nCUDA: " FOURMI_CUDA_BUILD "\n"}) {
    EXPECT_NE(result.output.find(key), std::string::npos) << key;
  }
  // The commit is that of the tree, and says whether the tree differs from it (as far as it did not change since the
  // build).
  const Result head =
      run({"git", "-c", "safe.directory=*", "-C", FOURMI_SOURCE_DIR, "rev-parse", "--short=12", "HEAD"});
  if (head.status == 0) {
    EXPECT_NE(result.output.find("commit: " + head.output.substr(0, 12)), std::string::npos) << result.output;
  } else {
    EXPECT_NE(result.output.find("commit: unknown\n"), std::string::npos);
  }
}

TEST(CommandLine, HelpNamesEveryCommandAndEachHasItsOwn) {
  const Result help = fourmi({"--help"});
  EXPECT_EQ(help.status, 0);
  ASSERT_GE(commands().size(), 5u);
  for (const auto& command : commands()) {
    EXPECT_TRUE(std::regex_search(help.output, std::regex("\n  " + command + " +\\S"))) << command << help.output;
    const Result own = fourmi({command, "--help"});
    EXPECT_EQ(own.status, 0) << command;
    EXPECT_NE(own.output.find("Usage: "), std::string::npos) << own.output;
  }
}

TEST(CommandLine, WrongUsageIsOneLineAndStatusTwo) {
  expect_error(fourmi({}), 2, "command line: .*, expected .*\\. See fourmi --help");
  expect_error(fourmi({"trian", "x"}), 2, "command line: found trian, expected .*\\. Did you mean train\\? .*");
  expect_error(fourmi({"--frob"}), 2, "command line: found --frob, .*");
  expect_error(fourmi({"train"}), 2, "fourmi train: RECIPE is required, .* See fourmi train --help");
  expect_error(fourmi({"train", "x", "--frob"}), 2, "fourmi train: .*--frob.*");
  expect_error(fourmi({"generate", "x", "--max-tokens", "many"}), 2, "fourmi generate: .*many.*");
}

TEST(CommandLine, WhatAllRanksFindRankZeroSays) {
  const Result other = fourmi({"train"}, {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK=1"});
  EXPECT_EQ(other.status, 2);
  EXPECT_EQ(other.errors, "");
  const Result zero = fourmi({"train"}, {"OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_RANK=0"});
  EXPECT_EQ(zero.status, 2);
  EXPECT_NE(zero.errors, "");
}

TEST(CommandLine, ALostResultIsAnError) {
  expect_error(fourmi({"schema"}, {}, "/dev/full"), 3, "standard output: .*, expected .*");
}

TEST(CommandLine, TheProcessorIsCheckedWithoutNewerInstructionsBeforeAnyLibrary) {
  const Result code = run({FOURMI_OBJDUMP, "-d", "--no-show-raw-insn",
                           "--disassemble=_ZN12_GLOBAL__N_115check_processorEv", FOURMI_PROGRAM});
  ASSERT_EQ(code.status, 0) << code.errors;
  ASSERT_NE(code.output.find("cpuid"), std::string::npos) << "the check is not in the program";
  // VEX instructions (all begin with v), BMI1, BMI2, LZCNT, MOVBE.
  const std::regex newer(
      R"(\t(v[a-z]+|andn|bextr|bls[a-z]+|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|tzcnt|lzcnt|movbe)\b)");
  std::smatch match;
  EXPECT_FALSE(std::regex_search(code.output, match, newer)) << match.str();
  const Result sections = run({FOURMI_OBJDUMP, "-h", FOURMI_PROGRAM});
  EXPECT_NE(sections.output.find(".preinit_array"), std::string::npos);
}

}  // namespace

// docs/kernels.md's table of kernels against the machine code as tests/gpu_code/kernels.txt has it, which a test of
// label gpu_code compares with the compiler's. A row names files, "rms_norm.cu: forward" of a file one kernel, and
// begins its registers with the fewest and the most of all forms of these.
#include <fnmatch.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Kernel {
  std::string file, name;
  int forms = 0, fewest = 0, most = 0;
};

std::vector<Kernel> kernels() {
  std::ifstream file(FOURMI_SOURCE_DIR "/tests/gpu_code/kernels.txt");
  std::vector<Kernel> all;
  for (std::string line; std::getline(file, line);) {
    Kernel k;
    std::istringstream words(line);
    if (line.empty() || line[0] == '#') continue;
    EXPECT_TRUE(words >> k.file >> k.name >> k.forms >> k.fewest >> k.most) << line;
    all.push_back(k);
  }
  return all;
}

struct Row {
  std::string line;
  std::vector<std::string> names;  ///< in backticks
  std::string registers;
};

std::vector<Row> rows() {
  std::ifstream page(FOURMI_SOURCE_DIR "/docs/kernels.md");
  std::vector<Row> all;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    std::vector<std::string> cells;
    std::istringstream text(line);
    for (std::string cell; std::getline(text, cell, '|');) cells.push_back(cell);
    if (line.starts_with("| operations | file | floor | registers |")) inside = true;
    if (line.empty()) inside = false;
    if (!inside || cells.size() < 6 || line.find('`') == std::string::npos) continue;
    Row row{line, {}, cells[4]};
    const std::regex name("`([^`]+)`");
    for (std::sregex_iterator i(cells[2].begin(), cells[2].end(), name), end; i != end; ++i)
      row.names.push_back((*i)[1]);
    all.push_back(row);
  }
  return all;
}

/// Is the kernel that of a name in the table? Folders of files are for the reader; kernels.txt has none.
bool is(const Kernel& k, const std::string& name) {
  const std::size_t colon = name.find(": ");
  if (colon != std::string::npos && k.name != name.substr(colon + 2)) return false;
  const std::string path = name.substr(0, colon), file = path.substr(path.rfind('/') + 1);
  return ::fnmatch(file.c_str(), k.file.c_str(), 0) == 0;
}

TEST(KernelTable, RegistersAreThoseOfTheMachineCode) {
  const std::vector<Kernel> all = kernels();
  const std::vector<Row> table = rows();
  ASSERT_GT(all.size(), 50u);
  ASSERT_GT(table.size(), 10u);
  std::vector<int> seen(all.size());
  for (const Row& row : table) {
    int fewest = 1000, most = 0;
    for (const std::string& name : row.names) {
      bool found = false;
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (!is(all[i], name)) continue;
        found = true, ++seen[i];
        fewest = std::min(fewest, all[i].fewest), most = std::max(most, all[i].most);
      }
      EXPECT_TRUE(found) << name << " is no file or kernel of tests/gpu_code/kernels.txt:\n" << row.line;
    }
    const std::string range =
        fewest == most ? std::to_string(most) : std::to_string(fewest) + " to " + std::to_string(most);
    EXPECT_TRUE(std::regex_match(row.registers, std::regex(" " + range + "([ ;,].*)?")))
        << range << " registers are in tests/gpu_code/kernels.txt:\n"
        << row.line;
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    EXPECT_EQ(seen[i], 1) << "rows of docs/kernels.md that have " << all[i].file << ": " << all[i].name;
}

}  // namespace

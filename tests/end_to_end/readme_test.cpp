// The README's commands run, in its order, in one scratch copy of the tree's top:
//   each line of a ```sh block that begins with build/bin/ or launch/ (the two set-up commands stand in plain blocks);
//   a ```yaml block is the file that the line before it names in backquotes.
#include <optional>
#include <regex>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

struct Block {
  std::string language, before;  ///< the last line of text above
  std::vector<std::string> lines;
};

std::vector<Block> blocks_of(const fs::path& page) {
  std::vector<Block> blocks;
  std::optional<Block> open;
  std::string before;
  for (const std::string& line : lines_of(page)) {
    if (line.starts_with("```")) {
      if (open) {
        blocks.push_back(*open);
        open.reset();
      } else {
        open = Block{line.substr(3), before, {}};
      }
    } else if (open) {
      open->lines.push_back(line);
    } else if (!line.empty()) {
      before = line;
    }
  }
  return blocks;
}

using Readme = Scene;

TEST_F(Readme, CommandsRun) {
  fs::create_directories(folder() / "build/bin");
  fs::create_symlink(FOURMI_PROGRAM, folder() / "build/bin/fourmi");
  for (const char* name : {"recipes", "launch", "docs"})
    fs::create_symlink(fs::path(FOURMI_SOURCE_DIR) / name, folder() / name);
  int commands = 0;
  for (const Block& block : blocks_of(FOURMI_SOURCE_DIR "/README.md")) {
    std::smatch name;
    if (block.language == "yaml" && std::regex_search(block.before, name, std::regex("`([\\w-]+\\.yaml)`"))) {
      std::string text;
      for (const std::string& line : block.lines) text += line + "\n";
      put_text(folder() / name[1].str(), text);
    }
    if (block.language != "sh") continue;
    for (const std::string& line : block.lines) {
      if (!line.starts_with("build/bin/") && !line.starts_with("launch/")) continue;
      ++commands;
      const Result result = run({"bash", "-c", line}, folder(), Seconds(120));
      SCOPED_TRACE(line);
      ASSERT_EQ(result.status, 0) << to_string(result);
    }
  }
  EXPECT_GE(commands, 5);
}

}  // namespace
}  // namespace fourmi::testing

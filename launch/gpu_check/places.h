// Where the check finds what it starts.
#pragma once

#include <filesystem>
#include <string>

namespace fourmi::gpu_check {

struct Places {
  std::string program;  ///< this program, by the name that it was started by: in a bundle /proc/self/exe is a loader
  std::filesystem::path beside;   ///< folder of the program: test programs are there
  std::filesystem::path recipes;  ///< folder; empty: not found
  std::filesystem::path text;     ///< the quickstart's text in a bundle; empty: where the recipe says
};
/// `started_as`: argv[0].
Places find_places(const std::string& started_as);

/// A tool of CUDA's, in PATH or where CUDA installs it; empty: not on this machine.
std::string find_tool(const std::string& name);

}  // namespace fourmi::gpu_check

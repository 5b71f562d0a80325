// launches/<n>.yaml: what each launch of a run was given, and on what it ran.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace fourmi {

struct LaunchRecord {
  std::int64_t number = 1;
  std::string started_as;  ///< "fresh", "go on", "branch"
  std::string
      branched_from;  ///< the checkpoint that a branch came from; also said again by each launch that goes on from it
  std::int64_t step = 0;           ///< the step that the launch started after
  std::vector<std::string> hosts;  ///< of each rank, in rank order
  std::string commit, version, build_type, instruction_set;
  std::string device;                                            ///< "cpu", or a GPU's name
  std::vector<std::pair<std::string, std::string>> libraries;    ///< name, version
  std::vector<std::pair<std::string, std::string>> environment;  ///< variables that steer libraries
  std::vector<std::string> changes;                              ///< "optimizer.learning_rate: 0.006 -> 0.003"
  std::string command;                                           ///< the words of the command line
  std::string recipe;                                            ///< resolved, YAML
};

/// One more than the highest number in launches/, so 1 for a new directory. Only the holder of the lease may ask.
std::int64_t next_launch(const std::filesystem::path& run_directory);

/// Writes launches/<number>.yaml. Throws Error(environment).
void write_launch(const std::filesystem::path& run_directory, const LaunchRecord& record);

/// `branched_from` of the newest launch that is recorded; empty if the run is no branch.
std::string branched_from(const std::filesystem::path& run_directory);

}  // namespace fourmi

// What this program was built from and runs with.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fourmi {

struct BuildInfo {
  std::string version;  ///< "0.1.0"
  std::string commit;   ///< "1e15408abcde", with "-dirty" if the tree differed from it; "unknown" outside a repository
  std::string commit_date;  ///< "2026-11-21"; empty with an unknown commit
  std::string build_type;   ///< "Release"
  std::string compiler;
};

const BuildInfo& build_info();

/// Name and version of the libraries that are loaded.
std::vector<std::pair<std::string, std::string>> library_versions();

/// Environment variables that steer libraries (Open MPI, UCX, HDF5, the loader, malloc), for the record: none changes a
/// result.
std::vector<std::pair<std::string, std::string>> steering_environment();

/// What `fourmi --version` prints.
std::string version_text();

}  // namespace fourmi

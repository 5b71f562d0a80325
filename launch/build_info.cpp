#include "launch/build_info.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <hdf5.h>
#include <mpi.h>
#include <openssl/crypto.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "commit.h"
#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

namespace {

/// "Open MPI v4.1.4": the library tells more, of which the first part identifies it. May be asked before MPI_Init.
std::string mpi_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "unknown";
  const std::string whole(text.data());
  return whole.substr(0, whole.find_first_of(",\n"));
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace

const BuildInfo& build_info() {
  static const BuildInfo info{FOURMI_VERSION, FOURMI_COMMIT, FOURMI_COMMIT_DATE, FOURMI_BUILD_TYPE, "GCC " __VERSION__};
  return info;
}

std::vector<std::pair<std::string, std::string>> library_versions() {
  return {{"MPI", mpi_version()},
          {"HDF5", hdf5_version()},
          {"yaml-cpp", FOURMI_YAML_CPP},
          {"zlib", zlibVersion()},
          {"OpenSSL", OpenSSL_version(OPENSSL_VERSION)},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"glibc", gnu_get_libc_version()}};
}

std::vector<std::pair<std::string, std::string>> steering_environment() {
  // Prefixes of names; none of these holds a secret.
  constexpr std::array<std::string_view, 9> steering{"OMPI_MCA_",       "PMIX_MCA_",      "UCX_",
                                                     "HDF5_",           "MALLOC_",        "LD_PRELOAD",
                                                     "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "OPAL_PREFIX"};
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    for (const std::string_view prefix : steering) {
      if (text.starts_with(prefix)) found.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string version_text() {
  const BuildInfo& info = build_info();
  std::string sets;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (has_isa(isa)) sets += fmt::format("{}{}", sets.empty() ? "" : " ", name_of(isa));
  }
  std::string text =
      fmt::format("fourmi {}\ncommit: {}{}\nbuild: {}, {}\ninstruction sets: {} (this machine: {})\n", info.version,
                  info.commit, info.commit_date.empty() ? "" : fmt::format(" ({})", info.commit_date), info.build_type,
                  info.compiler, "portable avx2 avx512", sets);
  for (const auto& [name, version] : library_versions()) text += fmt::format("{}: {}\n", name, version);
  return text + "CUDA: " + cuda_build();
}

}  // namespace fourmi

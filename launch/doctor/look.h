// Looks at this rank's machine. Each function adds its facts; none throws for what it finds: what cannot be asked is
// told as unknown.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launch/doctor/fact.h"
#include "parallel/launcher.h"

namespace fourmi::doctor {

void look_at_build(Facts& facts);                                ///< look.cpp: commit, compiler, libraries, environment
void look_at_system(Facts& facts, const LaunchInfo& launch);     ///< look.cpp: host, kernel, launcher, devices
void look_at_processor(Facts& facts, const LaunchInfo& launch);  ///< processor.cpp: model, instruction sets, cores
void look_at_memory(Facts& facts, const LaunchInfo& launch);  ///< memory.cpp: memory, control group, limits, /dev/shm

struct DiskQuestion {
  std::filesystem::path directory;  ///< where runs would be; its nearest parent that exists is asked
  bool measure = true;              ///< write up to 128 MiB or for half a second (one rank of a host)
};
void look_at_disk(Facts& facts, const DiskQuestion& question);  ///< disk.cpp: kind, room, links, speed

/// files.cpp: size and digest of a file that all ranks must have alike (of files above 64 MiB: of size, first and last
/// 16 MiB).
void look_at_file(Facts& facts, const std::filesystem::path& file);
/// The digest that it tells: 16 hexadecimal digits, and what they cover; or why there is none.
std::string digest_text(const std::filesystem::path& file);

}  // namespace fourmi::doctor

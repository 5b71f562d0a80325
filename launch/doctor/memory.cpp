#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "launch/doctor/look.h"

namespace fourmi::doctor {

namespace {

/// A line of /proc/meminfo in bytes; negative: not told.
double meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  double kib = 0;
  while (file >> name >> kib) {
    std::getline(file, unit);
    if (name == key + ":") return kib * 1024;
  }
  return -1;
}

std::string control_group_limit() {
  std::string text;
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
    if (std::ifstream file(path); file >> text) {
      // The old interface says "none" by the greatest number of pages.
      if (text == "max" || text.size() > 18) return "none";
      return bytes_text(std::stod(text));
    }
  return "none";
}

struct Limit {
  const char* name;
  int resource;
  rlim_t least;  ///< below: a problem in training
  bool bytes;
  const char* remedy;
};

void add_limit(Facts& facts, const Limit& l) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(l.resource), &limit) != 0) return;
  const bool none = limit.rlim_cur == RLIM_INFINITY;
  const std::string value = none      ? "none"
                            : l.bytes ? bytes_text(static_cast<double>(limit.rlim_cur))
                                      : fmt::format("{}", limit.rlim_cur);
  facts.push_back({"limit", l.name, value, Agree::should});
  if (none || (l.least > 0 && limit.rlim_cur >= l.least)) return;
  facts.back().verdict = l.least > 0 ? Verdict::problem : Verdict::note;
  facts.back().remedy = l.remedy;
}

void add_shared_memory(Facts& facts, const LaunchInfo& launch) {
  struct statvfs disk {};
  const bool there = ::statvfs("/dev/shm", &disk) == 0 && ::access("/dev/shm", W_OK) == 0;
  const double free = there ? static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) : 0;
  facts.push_back({"memory", "/dev/shm", there ? bytes_text(free) + " free" : "cannot be written"});
  // Open MPI's shared-memory transport takes about 4 MiB a rank.
  if (free >= 16.0 * (1 << 20) * launch.local_size) return;
  facts.back().verdict = launch.local_size > 1 ? Verdict::problem : Verdict::note;
  facts.back().remedy = "Ranks of one machine talk through /dev/shm: mount a tmpfs there (containers: --shm-size=1g)";
}

}  // namespace

void look_at_memory(Facts& facts, const LaunchInfo& launch) {
  const double total = meminfo("MemTotal"), available = meminfo("MemAvailable");
  facts.push_back({"memory", "total", total < 0 ? "unknown" : bytes_text(total), Agree::should});
  facts.push_back({"memory", "available", available < 0 ? "unknown" : bytes_text(available)});
  facts.push_back({"memory", "control group's limit", control_group_limit()});
  add_shared_memory(facts, launch);
  add_limit(facts, {"address space (ulimit -v)", RLIMIT_AS, 0, true,
                    "A run that needs more ends with exit status 3; ulimit -v unlimited"});
  add_limit(facts, {"file size (ulimit -f)", RLIMIT_FSIZE, 0, true,
                    "Checkpoints beyond it cannot be saved; ulimit -f unlimited"});
  add_limit(facts, {"open files (ulimit -n)", RLIMIT_NOFILE, 256, false, "ulimit -n 1024"});
}

}  // namespace fourmi::doctor

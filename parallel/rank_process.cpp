#include "parallel/rank_process.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

namespace fourmi {
namespace {

struct Stat {
  char state = 0;
  std::uint64_t start_time = 0;
};

/// /proc/<id>/stat: "id (name) state ..."; the name may hold anything, so fields are counted from its last bracket.
Stat stat_of(std::int64_t id) {
  std::ifstream file("/proc/" + std::to_string(id) + "/stat");
  std::string text;
  std::getline(file, text);
  const auto bracket = text.rfind(')');
  Stat stat;
  if (bracket == std::string::npos) return stat;
  std::istringstream fields(text.substr(bracket + 1));
  fields >> stat.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> stat.start_time;
  return stat;
}

}  // namespace

RankProcess RankProcess::mine() {
  RankProcess p;
  p.id = getpid();
  struct ::stat name_space {};
  if (::stat("/proc/self/ns/pid", &name_space) == 0) p.name_space = name_space.st_ino;
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(boot, text);
  p.host = std::hash<std::string>()(text);
  p.start_time = stat_of(p.id).start_time;
  return p;
}

bool RankProcess::is_stopped() const {
  const Stat now = stat_of(id);
  return now.state == 'T' && now.start_time == start_time;
}

void RankProcess::kill() const {
  ::kill(static_cast<pid_t>(id), SIGKILL);
}

}  // namespace fourmi

// By what way ranks reach one another's memory, as far as it follows from where they are; and what processes leave.
#include "parallel/peer_memory/reach.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "kernels/runtime/error.h"
#include "parallel/peer_memory/agree.h"
#include "parallel/peer_memory/segment_names.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

RankPlace place(const char* host, const char* boot, bool on_device = false) {
  RankPlace p;
  std::strcpy(p.host.data(), host), std::strcpy(p.boot.data(), boot);
  p.on_device = on_device;
  return p;
}

std::string refused(const std::vector<RankPlace>& places) {
  try {
    choose_reach(places, "expert");
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage);
    EXPECT_EQ(e.place(), "parallel.dispatcher");
    EXPECT_NE(e.remedy().find("all-to-all"), std::string::npos);
    return e.cause();
  }
  return "taken";
}

TEST(Reach, FollowsFromWhereRanksAre) {
  using Places = std::vector<RankPlace>;
  EXPECT_EQ(choose_reach(Places{place("a", "1"), place("a", "1")}, "expert"), Reach::shared_segment);
  EXPECT_EQ(choose_reach(Places{place("a", "1", true), place("a", "1", true)}, "expert"), Reach::cuda_ipc);
  EXPECT_EQ(choose_reach(Places{place("a", "1", true), place("b", "2", true)}, "expert"), Reach::nccl_windows);
}

TEST(Reach, NamesTwoRanksThatDoNotReachEachOther) {
  EXPECT_NE(refused({place("a", "1"), place("a", "1"), place("b", "2")})
                .find("ranks 0 and 2 of expert, which are on hosts a and b"),
            std::string::npos);
  // Two machines of one name, and two containers of one machine.
  EXPECT_NE(refused({place("a", "1"), place("a", "2")}).find("ranks 0 and 1"), std::string::npos);
  EXPECT_NE(refused({place("a", "1"), place("b", "1")}).find("ranks 0 and 1"), std::string::npos);
  EXPECT_NE(refused({place("a", "1", true), place("a", "1", true), place("a", "1")}).find("ranks 0 and 2"),
            std::string::npos);
}

TEST(Reach, WhatFailsOnOneRankFailsOnAll) {
  const auto said = run_members(3, [](Group& group) -> std::string {
    agree_on(group, [] {});
    try {
      agree_on(group, [&] {
        if (group.rank() > 0)
          throw Error(ExitStatus::environment, "a place", fmt::format("rank {} has none", group.rank()), "Get some");
      });
    } catch (const Error& e) {
      return fmt::format("{} {}", static_cast<int>(e.status()), e.what());
    }
    return "went on";
  });
  for (const std::string& s : said) EXPECT_EQ(s, "3 a place: rank 1 has none. Get some");
}

bool is_there(const std::string& name) {
  const int fd = ::shm_open(name.c_str(), O_RDWR, 0);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

TEST(SegmentNames, WhatNobodyHoldsIsTakenAway) {
  const std::string name = fmt::format("/{}test-{}", SegmentName::prefix, ::getpid());
  const int fd = ::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ::flock(fd, LOCK_SH);
  remove_stale_segments(-1);
  EXPECT_TRUE(is_there(name)) << "somebody makes it";
  ::close(fd);  // as when its process is killed
  remove_stale_segments(60);
  EXPECT_TRUE(is_there(name)) << "it is fresh";
  remove_stale_segments(-1);
  EXPECT_FALSE(is_there(name));
  ::shm_unlink(name.c_str());
}

TEST(SegmentNames, AreOneForAllRanksAndAnotherNextTime) {
  const auto names = run_members(3, [](Group& group) {
    const SegmentName first = SegmentName::agree_on(group), second = SegmentName::agree_on(group);
    return first.text() + second.text();
  });
  EXPECT_EQ(names[0], names[1]);
  EXPECT_EQ(names[0], names[2]);
  EXPECT_NE(names[0].substr(0, names[0].size() / 2), names[0].substr(names[0].size() / 2));
}

}  // namespace
}  // namespace fourmi

#include "framework/train/inputs.h"

#include <fmt/format.h>

#include <span>
#include <vector>

#include "framework/checkpoint/agree.h"
#include "framework/run/host.h"

namespace fourmi {

void agree_inputs_open(const DataSection& data, Group& group) {
  agreed(group, [&] {
    try {
      open_inputs(data);
    } catch (const Error& error) {
      if (group.size() == 1) throw;
      throw Error(error.status(), fmt::format("{}: {}", host_name(), error.place()), error.cause(), error.remedy());
    }
  });
}

void agree_inputs_equal(const Loader& loader, const Validation& validation, Group& group) {
  struct Facts {
    std::int64_t bytes, checksum;
    bool operator==(const Facts&) const = default;
  };
  std::vector<Facts> mine;
  std::vector<std::string> names;
  for (const SourcePosition& source : loader.start().sources) {
    mine.push_back({source.bytes, source.checksum});
    names.push_back("data.train." + source.name);
  }
  mine.push_back({validation.num_bytes(), validation.checksum()});
  names.emplace_back("data.validation");
  std::vector<Facts> first = mine;
  group.broadcast(std::as_writable_bytes(std::span(first)), 0);
  agreed(group, [&] {
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i] == first[i]) continue;
      throw Error(ExitStatus::input, fmt::format("{}: {}", host_name(), names[i]),
                  fmt::format("{} bytes with CRC-32 {:08x}, rank 0's {} bytes with {:08x} were expected", mine[i].bytes,
                              mine[i].checksum, first[i].bytes, first[i].checksum),
                  "Give all hosts the same files.");
    }
  });
}

}  // namespace fourmi

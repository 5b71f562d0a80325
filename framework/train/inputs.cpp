#include "framework/train/inputs.h"

#include <fmt/format.h>

#include <span>
#include <vector>

#include "framework/checkpoint/agree.h"
#include "framework/run/host.h"
#include "framework/tokenizer/choose.h"

namespace fourmi {

namespace {

/// Of several hosts it matters whose file is not what it should be.
template <class Action>
void agreed_on_hosts(Group& group, const Action& action) {
  agreed(group, [&] {
    try {
      action();
    } catch (const Error& error) {
      if (group.size() == 1) throw;
      throw Error(error.status(), fmt::format("{}: {}", host_name(), error.place()), error.cause(), error.remedy());
    }
  });
}

}  // namespace

void agree_tokenizer(DataSection& data, const std::filesystem::path& run, Group& group) {
  agreed_on_hosts(group, [&] { pin_tokenizer(data, run); });
  std::string first = data.tokenizer_sha256;
  broadcast_text(group, first, 0);
  agreed(group, [&] {
    if (data.tokenizer_sha256 != first)
      throw Error(ExitStatus::input, fmt::format("{}: data.tokenizer", host_name()),
                  fmt::format("{} has the SHA-256 {}, rank 0's {} was expected", data.tokenizer_file,
                              data.tokenizer_sha256, first),
                  "Give all hosts the same files.");
  });
}

void agree_inputs_open(const DataSection& data, Group& group) {
  agreed_on_hosts(group, [&] { open_inputs(data); });
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

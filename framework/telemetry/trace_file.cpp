#include "framework/telemetry/trace_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "framework/run/files.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

constexpr int tag = 0;

/// Grows while the ranks tell; appears under its name when it is whole.
class Growing {
 public:
  explicit Growing(const std::filesystem::path& path) : path_(path), aside_(path.string() + ".part") {
    files::make_folder(path.parent_path());
    out_.open(aside_, std::ios::binary | std::ios::trunc);
  }
  ~Growing() {
    std::error_code ignored;
    if (!whole_) std::filesystem::remove(aside_, ignored);
  }
  void add(std::string_view text) { out_.write(text.data(), static_cast<std::streamsize>(text.size())); }
  void finish() {
    errno = 0;
    out_.close();
    std::error_code error;
    if (out_) std::filesystem::rename(aside_, path_, error);
    whole_ = out_ && !error;
    if (!whole_)
      throw Error(ExitStatus::environment, path_.string(),
                  fmt::format("it cannot be written: {}", error ? error.message() : std::strerror(errno)),
                  "Make room, or leave logging.trace_steps out");
  }

 private:
  std::filesystem::path path_, aside_;
  std::ofstream out_;
  bool whole_ = false;
};

}  // namespace

std::filesystem::path trace_path(const std::filesystem::path& run_directory, std::int64_t step) {
  return run_directory / "traces" / fmt::format("step-{:08d}.json", step);
}

void gather_at_first(Group& world, const std::string& mine, const std::function<void(int, const std::string&)>& take) {
  if (world.rank() != 0) {
    const std::size_t size = mine.size();
    world.start_send(std::as_bytes(std::span(&size, 1)), 0, tag).wait();
    world.start_send(std::as_bytes(std::span(mine)), 0, tag).wait();
    return;
  }
  take(0, mine);
  std::string theirs;
  for (int r = 1; r < world.size(); ++r) {
    std::size_t size = 0;
    world.start_receive(std::as_writable_bytes(std::span(&size, 1)), r, tag).wait();
    theirs.resize(size);
    world.start_receive(std::as_writable_bytes(std::span(theirs)), r, tag).wait();
    take(r, theirs);
  }
}

void write_trace(Group& world, const std::filesystem::path& run_directory, const TraceLabels& labels,
                 const RankTrace& mine, const std::string& more) {
  const bool first = world.rank() == 0;
  std::optional<Growing> file;
  std::exception_ptr failed;  // the ranks tell all the same
  try {
    if (first) file.emplace(trace_path(run_directory, labels.step));
  } catch (const Error&) {
    failed = std::current_exception();
  }
  const auto add = [&](std::string_view text) {
    if (file) file->add(text);
  };
  add(R"({"displayTimeUnit":"ms","traceEvents":[)");
  gather_at_first(world, mine.events, [&](int rank, const std::string& events) {
    add(rank == 0 ? "\n" : ",\n");
    add(events);
  });
  if (!more.empty()) add(",\n"), add(more);
  add(fmt::format("\n],\n\"otherData\":{{\"run\":{},\"step\":{},\"ranks\":[", quoted(labels.run), labels.step));
  gather_at_first(world, mine.facts, [&](int rank, const std::string& facts) {
    add(rank == 0 ? "\n" : ",\n");
    add(facts);
  });
  add("\n]}}\n");
  if (failed) std::rethrow_exception(failed);
  if (file) file->finish();
}

}  // namespace fourmi

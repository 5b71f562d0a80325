#include "framework/checkpoint/save.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/commit.h"
#include "framework/checkpoint/folder.h"
#include "framework/digest/sha256.h"
#include "kernels/runtime/thread.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::int64_t whole_lines(std::int64_t bytes) {
  return (bytes + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
}

std::string new_nonce() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

/// What all ranks must bring alike.
std::string fingerprint(const CheckpointState& state) {
  return sha256(fmt::format("{} {} {}", state.step, state.tokens, state.training));
}

std::string report_text(const std::string& root, std::int64_t bytes, const std::vector<std::string>& warnings) {
  using nlohmann::json;
  return json::array({root, bytes, warnings}).dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Gives the space of a failed save back; what cannot be removed now goes with the next start().
std::vector<std::string> remove_unfinished(Disk& disk, const fs::path& unfinished) {
  try {
    std::error_code ignored;
    if (fs::exists(unfinished, ignored)) remove_folder(disk, unfinished);
    return {};
  } catch (const Error& e) {
    return {e.what()};
  }
}

}  // namespace

struct CheckpointSaver::Save {
  CheckpointState state;
  std::string nonce;
  fs::path unfinished;
  std::vector<Box> boxes;  // views of the snapshot
  SaveOutcome outcome;

  std::atomic<bool> done = false, abandon = false;
  std::exception_ptr failure;  // of the file work
  RankFile file;
  std::thread thread;

  ~Save() {
    abandon = true;
    if (thread.joinable()) thread.join();
  }

  void start_thread(Disk& disk, int rank) {
    try {
      thread = fourmi::start_thread("checkpoint", [this, &disk, rank] { file_work(disk, rank); });
    } catch (const Error&) {
      failure = std::current_exception();
      done = true;
    }
  }

  void file_work(Disk& disk, int rank) {
    const auto begin = std::chrono::steady_clock::now();
    try {
      file = write_rank_file(disk, unfinished / rank_file_name(rank), boxes, abandon);
    } catch (...) {
      failure = std::current_exception();
    }
    outcome.write_seconds = seconds_since(begin);
    done = true;
  }
};

CheckpointSaver::CheckpointSaver(Group& group, fs::path checkpoints, SaveOptions options)
    : group_(group), checkpoints_(std::move(checkpoints)), options_(std::move(options)) {}
CheckpointSaver::~CheckpointSaver() = default;

bool CheckpointSaver::pending() const {
  return save_ != nullptr;
}

void CheckpointSaver::reserve(std::span<const Box> boxes) {
  std::int64_t total = 0;
  DeviceRuntime* device = nullptr;
  for (const Box& b : boxes) {
    total += whole_lines(b.data.bytes());
    if (b.device) device = b.device;
  }
  if (snapshot_ && total <= snapshot_->capacity() && device == snapshot_->runtime()) return;
  snapshot_.reset();
  snapshot_.emplace(Arena::Options{.name = "snapshot", .place = Place::host, .device = device}, total);
  state_ = snapshot_->allocate({total}, DType::u8, "state");
  if (!device && total > 0) std::memset(state_.data, 0, static_cast<std::size_t>(total));  // now its pages are there
}

void CheckpointSaver::start(std::span<const Box> boxes, const CheckpointState& state) {
  FOURMI_CHECK(!pending(), "a save was started before the last one was finished");
  const auto begin = std::chrono::steady_clock::now();
  save_ = std::make_unique<Save>();
  Save& s = *save_;
  s.state = state;
  s.outcome.step = state.step;
  s.outcome.path = checkpoints_ / step_name(state.step);

  std::string word = new_nonce() + fingerprint(state);
  broadcast_text(group_, word, 0);
  s.nonce = word.substr(0, 16);
  s.unfinished = s.outcome.path.string() + ".tmp-" + s.nonce;
  try {
    agreed(group_, [&] {
      FOURMI_CHECK(word.substr(16) == fingerprint(state), "step, tokens or training state differ from rank 0's");
      check_boxes(boxes);
      if (group_.rank() == 0) {
        std::error_code ignored;
        if (!fs::exists(checkpoints_, ignored)) {
          make_directory(*options_.disk, checkpoints_);
          sync_directory(*options_.disk, checkpoints_.parent_path());
        }
        clean_leftovers(*options_.disk, checkpoints_);  // what stays is tried and said again after the commit
        make_directory(*options_.disk, s.unfinished);
      }
      reserve(boxes);
      auto* at = static_cast<std::byte*>(state_.data);
      for (const Box& b : boxes) {
        s.boxes.push_back(b);
        s.boxes.back().data = Tensor(at, b.data.dtype, b.data.shape);
        s.boxes.back().device = nullptr;
        const std::int64_t n = b.data.bytes();
        if (n > 0 && b.device)
          b.device->read(at, b.data.data, n);
        else if (n > 0)
          std::memcpy(at, b.data.data, static_cast<std::size_t>(n));
        at += whole_lines(n);
      }
    });
    s.start_thread(*options_.disk, group_.rank());
  } catch (const Error& e) {
    if (e.status() == ExitStatus::rank_lost) throw;
    s.abandon = true;
    s.outcome.error = e;
  }
  s.outcome.stall_seconds = seconds_since(begin);
}

std::optional<SaveOutcome> CheckpointSaver::poll() {
  if (!pending()) return std::nullopt;
  std::int64_t working = !save_->outcome.error && !save_->done;
  group_.all_max(std::span(&working, 1));
  if (working != 0) return std::nullopt;
  return finish();
}

SaveOutcome CheckpointSaver::finish() {
  FOURMI_CHECK(pending(), "no save was started");
  Save& s = *save_;
  if (s.thread.joinable()) s.thread.join();
  std::string report;  // what only rank 0 knows
  try {
    if (s.outcome.error) throw Error(*s.outcome.error);
    agreed(group_, [&] {
      if (s.failure) std::rethrow_exception(s.failure);
    });
    const std::vector<std::string> texts = gather_texts(group_, to_text(s.file));
    Manifest manifest;
    agreed(group_, [&] {
      if (group_.rank() != 0) return;
      std::vector<RankFile> files;
      for (const std::string& t : texts) files.push_back(parse_rank_file(t));
      manifest = merge(files, s.state);
      if (options_.seal) manifest.state.ledger_head = options_.seal(manifest);
      commit(*options_.disk, manifest, s.unfinished, s.outcome.path, s.nonce);
    });
    if (group_.rank() == 0)
      report = report_text(
          manifest.root, manifest.bytes(),
          tidy_up(*options_.disk, checkpoints_, s.state.step, options_.keep_last, options_.keep_every_steps, s.nonce));
  } catch (const Error& e) {
    if (e.status() == ExitStatus::rank_lost) throw;
    // What looks like a damaged checkpoint when loading is the file system's doing when saving.
    const ExitStatus status = e.status() == ExitStatus::input ? ExitStatus::environment : e.status();
    s.outcome.error = Error(status, e.place(), e.cause(), e.remedy());
    if (group_.rank() == 0) report = report_text("", 0, remove_unfinished(*options_.disk, s.unfinished));
  }
  broadcast_text(group_, report, 0);
  const auto j = nlohmann::json::parse(report);
  SaveOutcome outcome = std::move(s.outcome);
  outcome.root = j[0].get<std::string>();
  outcome.bytes = j[1].get<std::int64_t>();
  outcome.warnings = j[2].get<std::vector<std::string>>();
  save_.reset();
  return outcome;
}

SaveOutcome save_checkpoint(Group& group, const fs::path& checkpoints, std::span<const Box> boxes,
                            const CheckpointState& state, SaveOptions options) {
  CheckpointSaver saver(group, checkpoints, std::move(options));
  saver.start(boxes, state);
  return saver.finish();
}

}  // namespace fourmi

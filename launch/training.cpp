#include "launch/training.h"

#include <malloc.h>

#include <atomic>
#include <filesystem>
#include <optional>
#include <thread>

#include "framework/checkpoint/agree.h"
#include "framework/interop/origin.h"
#include "framework/run/failures.h"
#include "framework/run/host.h"
#include "framework/run/lease.h"
#include "framework/run/machine.h"
#include "framework/run/signals.h"
#include "framework/train/inputs.h"
#include "framework/train/same_launch.h"
#include "framework/train/teacher/open_teacher.h"
#include "framework/train/trainer.h"
#include "kernels/runtime/as_error.h"
#include "launch/build_info.h"
#include "launch/report.h"
#include "launch/run_device.h"
#include "parallel/watchdog.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

LaunchRecord record_of_this_program(const std::string& command) {
  const BuildInfo& build = build_info();
  LaunchRecord r;
  r.commit = build.commit;
  r.version = build.version;
  r.build_type = build.build_type;
  r.instruction_set = name_of(best_isa());
  r.libraries = library_versions();
  r.environment = steering_environment();
  r.command = command;
  return r;
}

/// What tells two builds apart.
std::string build_name(const LaunchRecord& r) {
  return fmt::format("{} {} ({})", r.version, r.commit, r.build_type);
}

/// Phases that the watchdog knows by number; a rank that is lost is reported with its own.
std::string describe(const Loss& loss) {
  return fmt::format("rank {} on {} in phase {}{}", loss.rank, loss.host, name_of(static_cast<Phase>(loss.phase)),
                     loss.step > 0 ? fmt::format(" of step {}", loss.step) : "");
}

/// Who starts, loads, saves or evaluates waits for files, or computes for long without a call of a group.
HangLimit hang_limit(const Recipe& recipe) {
  HangLimit hang{
      .limit = std::chrono::milliseconds(static_cast<std::int64_t>(std::min(recipe.guard.hang_seconds, 1e9) * 1000))};
  for (Phase phase : {Phase::start, Phase::load, Phase::save, Phase::evaluate, Phase::exporting})
    hang.slow_phases |= 1u << static_cast<int>(phase);
  return hang;
}

class Supervised {
 public:
  Supervised(World& world, const Recipe& recipe)
      : world_(world),
        directory_(recipe.run.directory),
        watchdog_(
            world.group(), [this](const Loss& loss) { on_lost(loss); }, hang_limit(recipe)) {}

  void set_phase(Phase phase, std::int64_t step) { watchdog_.set_phase(static_cast<int>(phase), step); }
  void set_status(StatusFile* status) { status_ = status; }
  void goodbye() { watchdog_.goodbye(); }

  /// This rank has an error: the first to have one says it; the others end with the same status.
  [[noreturn]] void fail(const Error& error) {
    failing_ = true;
    if (error.status() == ExitStatus::rank_lost && world_.size() > 1)
      watchdog_.wait_for_loss(std::chrono::seconds(15));  // the callback ends the process
    if (world_.size() == 1 || watchdog_.announce_failure(error.what(), static_cast<int>(error.status()))) {
      if (StatusFile* status = status_) {
        const Ending ending = Ending::of(error, world_.rank(), host_name());
        status->write_final(ending);
        // What fails while it starts has made no step: a person sees it at once.
        const std::string_view phase = status->phase();
        if (phase != name_of(Phase::start) && phase != name_of(Phase::load))
          note_failure(directory_, status->launch(), status->step(), ending);
      }
      print_error(error);
    }
    World::end_process(static_cast<int>(error.status()));
  }

 private:
  /// On the watchdog's thread; the main thread may be stuck in MPI.
  void on_lost(const Loss& loss) {
    const auto status = static_cast<ExitStatus>(loss.exit_status);
    if (loss.reporter == world_.rank()) {
      Ending ending{status, loss.rank, loss.host, loss.cause, describe(loss), "The error's line says what to do"};
      if (!loss.announced) ending.remedy = "Start the same command again: it goes on from the newest checkpoint";
      if (loss.hung) ending.remedy += ". A step that takes so long needs a longer guard.hang";
      record(loss, ending);
      // A rank that announced its error has said it.
      if (!loss.announced) print_error(Error(status, ending.place, ending.cause, ending.remedy));
    }
    World::end_process(loss.exit_status);
  }

  /// A rank that announced its error has recorded it, and its word stays; unless it had not yet heard of the launch's
  /// number.
  void record(const Loss& loss, const Ending& ending) {
    // While it starts rank 0 may be about to know it, unless it fails with the others.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(900);
    while (!status_ && !failing_ && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (StatusFile* file = status_) {
      file->write_final(ending);
    } else if (loss.rank == 0 && !loss.announced) {
      record_in_place_of_rank_0(ending);
    }
  }

  /// Rank 0 was lost before it told anybody of the launch. Its lease tells whether the directory was ours, or another
  /// launch's.
  void record_in_place_of_rank_0(const Ending& ending) try {
    const auto lease = Lease::acquire(directory_, {.dying_patience = std::chrono::milliseconds(100)});
    StatusFile file(directory_, next_launch(directory_));
    file.tick();
    file.write_final(ending);
  } catch (const std::exception&) {
    // In use, or not to be written: the error's line has to do.
  }

  World& world_;
  const std::filesystem::path directory_;
  std::atomic<StatusFile*> status_{nullptr};
  std::atomic<bool> failing_{false};
  Watchdog watchdog_;
};

int threads_per_rank(const Recipe& recipe, const LaunchInfo& launch) {
  if (recipe.run.threads > 0) return recipe.run.threads;
  return std::max(1, usable_cores() / std::max(1, launch.local_size));
}

}  // namespace

ExitStatus train_here(const Recipe& as_read, const LaunchInfo& launch, const TrainingArguments& arguments) {
  // From the first moment to the last: a launcher also sends SIGTERM to ranks that are about to report a lost one, and
  // a request to stop may come when all is done.
  const StopSignals signals;
  // One heap for all threads. A heap of its own takes 64 MiB of a thread's address space, and where a limit refuses
  // them every small allocation becomes a mapping; a training step allocates nothing, so nobody waits for the lock.
  mallopt(M_ARENA_MAX, 1);
  std::optional<RunDevice> device;  // outlives the world, whose groups move its memory
  World world(launch);
  Recipe recipe = as_read;
  Supervised supervised(world, recipe);
  ThreadPool pool(threads_per_rank(recipe, world.launch()));
  TrainOptions options;
  options.accept_changes = arguments.accept_changes;
  options.record = record_of_this_program(arguments.command);
  options.engine_ready = arguments.engine_ready;
  options.status_ready = [&](StatusFile* status) { supervised.set_status(status); };
  options.observer = [&](Phase phase, std::int64_t step) {
    supervised.set_phase(phase, step);
    if (arguments.observer) arguments.observer(phase, step);
  };
  std::optional<interop::VocabularyFiles> vocabulary;  // what ends the process without a word leaves its files behind
  try {
    ExitStatus status = ExitStatus::ok;
    agree_launch(recipe, build_name(options.record), world.group());
    agreed(world.group(), [&] { vocabulary.emplace(recipe.data, recipe.run.directory); });
    agree_tokenizer(recipe.data, recipe.run.directory, world.group());
    agreed(world.group(), [&] { pin_teacher(recipe); });
    device.emplace(recipe, world.launch(), world.group());
    options.record.device = device->name();
    const Stream stream = device->stream(pool);
    {
      Trainer trainer(recipe, world.group(), stream, options);
      try {
        status = trainer.run();
      } catch (const std::exception& exception) {
        const auto* error = dynamic_cast<const Error*>(&exception);
        vocabulary.reset();
        supervised.fail(error ? *error : as_error(exception));
      }
      world.group().barrier();
      supervised.set_status(nullptr);
    }
    supervised.goodbye();
    return status;
  } catch (const std::exception& exception) {
    const auto* error = dynamic_cast<const Error*>(&exception);
    vocabulary.reset();
    supervised.fail(error ? *error : as_error(exception));
  }
}

}  // namespace fourmi

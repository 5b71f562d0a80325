#include "framework/train/teacher/capture.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <set>

#include "framework/capture/coverage.h"
#include "framework/checkpoint/agree.h"
#include "framework/run/files.h"
#include "framework/train/mesh_sizes.h"
#include "framework/train/teacher/capture_rows.h"
#include "framework/train/teacher/guidance.h"
#include "framework/train/teacher/open_teacher.h"
#include "framework/train/teacher/teacher_recipe.h"
#include "framework/train/teacher_terms.h"

namespace fourmi {

namespace fs = std::filesystem;

namespace {

constexpr const char* cache_folder_key = "distill.cache";

fs::path unfinished_header(const fs::path& folder) {
  return folder / "capture.partial.json";
}
fs::path side_file(const fs::path& folder, const CachePart& part) {
  return (folder / part.file).replace_extension(".json");
}

/// The student's place is taken by heads that lie whole on every rank, each with a sequence at a time.
Recipe placed_on(const Recipe& recipe, int num_ranks) {
  Recipe r = recipe;
  r.distill.mode = "online";
  r.distill.teacher.micro_batch_size = recipe.distill.teacher.micro_batch_size.value_or(recipe.data.micro_batch_size);
  r.parallel = ParallelSection{};
  r.data.micro_batch_size = 1;
  const Recipe teacher = teacher_recipe(r);
  const std::int64_t least = least_ranks(mesh_sizes(teacher, 1));
  if (num_ranks % least != 0) check_teacher_ranks(r, num_ranks);  // says so
  // Of each of the teacher's data ranks so many micro-batches that all of its stages have work.
  const std::int64_t once = std::lcm<std::int64_t>(num_ranks, num_ranks / least * teacher.data.micro_batch_size),
                     each = once / (num_ranks / least) / teacher.data.micro_batch_size,
                     times = std::max<std::int64_t>(1, (4 * teacher.parallel.pipeline + each - 1) / each);
  r.data.global_batch_size = BatchSize(once * times);
  return r;
}

/// Windows of one source that make a part.
struct Piece {
  std::int64_t source = 0;
  std::vector<std::int64_t> windows;
};

std::vector<std::int64_t> shared_from_0(Group& group, std::vector<std::int64_t> numbers) {
  std::int64_t count = std::ssize(numbers);
  group.broadcast(std::as_writable_bytes(std::span(&count, 1)), 0);
  numbers.resize(static_cast<std::size_t>(count));
  if (count > 0) group.broadcast(std::as_writable_bytes(std::span(numbers)), 0);
  return numbers;
}

class Capture {
 public:
  Capture(const Recipe& recipe, Group& group, const Stream& stream, const CaptureOptions& options)
      : recipe_(recipe), group_(group), stream_(stream), options_(options), folder_(recipe.distill.cache) {}

  CaptureSummary run();

 private:
  void open_data();
  void open_model();
  std::vector<Piece> missing();
  void check_room(const std::vector<Piece>& pieces) const;
  void make_part(const Piece& piece);
  void send_to_writer(std::int64_t source, std::span<const Sample> samples, CachedWindows& part);
  CaptureSummary finish(bool complete);
  bool writes() const { return group_.rank() == 0; }
  std::int64_t rows_of(const Piece& piece) const;

  const Recipe& recipe_;
  Group& group_;
  const Stream& stream_;
  const CaptureOptions& options_;
  const fs::path folder_;
  std::optional<Loader> loader_;
  Recipe placed_;
  std::unique_ptr<RankGroups> groups_;
  std::optional<Arena> arena_;
  std::optional<TeacherForward> teacher_;
  std::optional<CaptureRows> rows_;
  CacheManifest manifest_;           // rank 0's: with the parts that are whole
  std::vector<std::int64_t> next_;   // number of the next part, by source
  std::vector<CachePart> unlisted_;  // whole, with files beside them
  CaptureProgress progress_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

void Capture::open_data() {
  agreed(group_, [&] {
    if (recipe_.distill.cache.empty())
      throw Error(ExitStatus::usage, cache_folder_key, "found none, expected the folder to capture into",
                  "Give distill.cache");
    if (recipe_.distill.teacher.from.empty())
      throw Error(ExitStatus::usage, "distill.teacher.from", "found none, expected the teacher to capture",
                  "Name a run, a checkpoint, a Hugging Face folder or a GGUF file");
    loader_.emplace(recipe_.data, load_sources(recipe_.data.train, "data.train"), recipe_.run.seed,
                    recipe_.model.vocab_size, &stream_.pool());
    if (writes()) files::make_folder(folder_);
  });
}

void Capture::open_model() {
  const int n = group_.size();
  placed_ = placed_on(recipe_, n);
  const StageMap stages = stage_map(placed_);
  const Mesh mesh(mesh_sizes(placed_, n));
  groups_ = make_teacher_groups(placed_, group_);
  const ParallelSection& p = recipe_.distill.teacher.parallel;
  if (writes())
    options_.say(
        fmt::format("the teacher on {} rank(s): tensor {}, pipeline {}, context {}, expert {} "
                    "(distill.teacher.parallel), {} data rank(s)",
                    n, p.tensor, p.pipeline, p.context, p.expert, groups_->data().size()));
  const CacheFormat format = header_of(recipe_, *loader_).format;
  const auto make = [&](const RankGroups* groups, Arena& arena) {
    teacher_.emplace(placed_, stages, mesh, group_.rank(), groups, arena);
    rows_.emplace(placed_, *teacher_->head(), format, arena);
  };
  agreed(group_, [&] {
    Arena measured({.name = "teacher", .mode = Arena::Mode::measure}, 0);
    make(nullptr, measured);
    rows_.reset(), teacher_.reset();
    arena_.emplace(Arena::Options{.name = "teacher"}, measured.peak());
    make(groups_.get(), *arena_);
  });
  TeacherFact fact;
  if (options_.load) {
    fact = options_.load(*teacher_);
  } else {
    std::vector<std::string> messages;
    const Checkpoint checkpoint = open_teacher(group_, recipe_, folder_ / "teacher", messages);
    teacher_->load(group_, checkpoint, stream_);
    agreed(group_, [&] {
      fact = teacher_fact_of(recipe_, checkpoint);
      judge_teacher(fact, recipe_.ledger);
    });
    messages.insert(messages.end(), fact.warnings.begin(), fact.warnings.end());
    if (writes())
      for (const std::string& m : messages) options_.say(m);
  }
  agreed(group_, [&] { manifest_.header = header_of(recipe_, *loader_); });
  manifest_.header.seed = options_.seed.value_or(recipe_.run.seed);
  manifest_.header.teacher = std::move(fact);
}

/// What the run reads and the cache lacks, in parts.
std::vector<Piece> Capture::missing() {
  const auto all = windows_of_run(recipe_, *loader_);
  std::vector<std::vector<std::int64_t>> windows(all.size());
  agreed(group_, [&] {
    if (!writes()) return;
    const CaptureHeader wanted = manifest_.header;
    std::error_code ignored;
    if (fs::exists(cache_manifest_path(folder_), ignored)) {
      manifest_ = read_cache_manifest(folder_);
    } else if (const auto text = files::read(unfinished_header(folder_))) {
      manifest_.header = capture_header_from_json(*text, unfinished_header(folder_).string());
    } else {
      files::replace(unfinished_header(folder_), to_json(wanted));
    }
    refuse_other(manifest_.header, wanted, wanted.teacher.root, cache_folder_key);
    if (manifest_.header.format != wanted.format || manifest_.header.sources != wanted.sources)
      throw Error(ExitStatus::input, cache_folder_key,
                  fmt::format("found a cache of {} tokens of the vocabulary and {} sources, expected {} and {} (the "
                              "same ones)",
                              manifest_.header.format.vocab_size, manifest_.header.sources.size(),
                              wanted.format.vocab_size, wanted.sources.size()),
                  "Capture what differs into a folder of its own");
    // Parts that are whole but not in the manifest yet.
    std::set<fs::path> side_files;
    for (const auto& file : fs::directory_iterator(folder_))
      if (file.path().filename().string().starts_with("part-") && file.path().extension() == ".json")
        side_files.insert(file.path());
    std::set<std::string> listed;
    for (const CachePart& part : manifest_.parts) listed.insert(part.file);
    for (const fs::path& file : side_files) {
      CachePart part = cache_part_from_json(files::read(file).value_or(""), file.string());
      if (listed.contains(part.file)) continue;
      manifest_.parts.push_back(part);
      unlisted_.push_back(std::move(part));
    }
    const CacheReader cache(folder_, manifest_);
    next_.assign(all.size(), 0);
    for (const CachePart& part : manifest_.parts) ++next_[static_cast<std::size_t>(part.source)];
    for (std::size_t s = 0; s < all.size(); ++s)
      for (const std::int64_t w : all[s])
        if (!cache.has(static_cast<std::int64_t>(s), loader_->first_token({static_cast<std::int32_t>(s), 0, w})))
          windows[s].push_back(w);
  });
  // What has been drawn is of the seed of its first capture, and so is what is added.
  manifest_.header.seed =
      static_cast<std::uint64_t>(shared_from_0(group_, {static_cast<std::int64_t>(manifest_.header.seed)}).front());
  std::vector<Piece> pieces;
  for (std::size_t s = 0; s < windows.size(); ++s) {
    const auto source = static_cast<std::int64_t>(s);
    std::int64_t rows = 0;
    for (const std::int64_t w : shared_from_0(group_, std::move(windows[s]))) {
      if (pieces.empty() || pieces.back().source != source || rows >= options_.rows_of_part)
        pieces.push_back({source, {}}), rows = 0;
      pieces.back().windows.push_back(w);
      rows += loader_->num_inputs({static_cast<std::int32_t>(s), 0, w});
    }
  }
  return pieces;
}

std::int64_t Capture::rows_of(const Piece& piece) const {
  std::int64_t rows = 0;
  for (const std::int64_t w : piece.windows)
    rows += loader_->num_inputs({static_cast<std::int32_t>(piece.source), 0, w});
  return rows;
}

void Capture::check_room(const std::vector<Piece>& pieces) const {
  const CacheFormat& format = manifest_.header.format;
  std::int64_t windows = 0;
  for (const Piece& p : pieces) windows += std::ssize(p.windows);
  const double needed = predicted_cache_bytes(format, progress_.all_rows, windows);
  std::error_code error;
  const fs::space_info space = fs::space(folder_, error);
  if (!error && needed > static_cast<double>(space.available))
    throw Error(ExitStatus::environment, folder_.string(),
                fmt::format("found {} bytes of room, expected {:.0f} for {} positions of {} bytes", space.available,
                            needed, progress_.all_rows, format.row_bytes()),
                "Free the disk, keep fewer tokens (distill.top_k, distill.samples), or end the run earlier");
  options_.say(fmt::format("{} positions to capture, {} bytes each ({}, {} tokens): {:.2f} GB in {}",
                           progress_.all_rows, format.row_bytes(), name_of(format.kind), format.entries, needed * 1e-9,
                           folder_.string()));
}

/// Every rank's rows of its part of the step's samples, to rank 0's part of the cache.
void Capture::send_to_writer(std::int64_t source, std::span<const Sample> samples, CachedWindows& part) {
  const auto n = static_cast<std::size_t>(group_.size());
  const std::int64_t of_rank = std::ssize(samples) / group_.size(), K = manifest_.header.format.entries;
  std::vector<std::size_t> to(n, 0), from(n, 0);
  std::vector<std::uint32_t> mine;  // of each sequence its entries, then its rest
  const std::string& name = recipe_.data.train[static_cast<std::size_t>(source)].name;
  for (std::int64_t i = 0; i < std::ssize(samples); ++i) {
    const Sample& sample = samples[static_cast<std::size_t>(i)];
    const std::int64_t rows = loader_->num_inputs(sample), rank = i / of_rank;
    from[static_cast<std::size_t>(rank)] += static_cast<std::size_t>(rows * (K + 1) * 4);
    if (rank != group_.rank() || rows == 0) continue;
    const std::size_t at = mine.size();
    mine.resize(at + static_cast<std::size_t>(rows * (K + 1)));
    rows_->take(stream_, i - rank * of_rank, rows, manifest_.header.seed, name, loader_->first_token(sample),
                mine.data() + at, reinterpret_cast<float*>(mine.data() + at + rows * K));
  }
  to[0] = from[static_cast<std::size_t>(group_.rank())];
  std::vector<std::uint32_t> all;
  if (writes())
    all.resize(std::accumulate(from.begin(), from.end(), std::size_t{0}) / 4);
  else
    std::fill(from.begin(), from.end(), std::size_t{0});
  group_.all_to_all(std::as_bytes(std::span(mine)), to, std::as_writable_bytes(std::span(all)), from);
  if (!writes()) return;
  std::size_t at = 0;
  for (const Sample& sample : samples) {
    const auto rows = static_cast<std::size_t>(loader_->num_inputs(sample)),
               entries = rows * static_cast<std::size_t>(K);
    if (rows == 0) continue;
    part.first_token.push_back(loader_->first_token(sample));
    part.rows.push_back(static_cast<std::int32_t>(rows));
    part.entries.insert(part.entries.end(), all.begin() + static_cast<std::ptrdiff_t>(at),
                        all.begin() + static_cast<std::ptrdiff_t>(at + entries));
    const std::size_t rest = part.rest.size();
    part.rest.resize(rest + rows);
    std::memcpy(part.rest.data() + rest, all.data() + at + entries, 4 * rows);
    at += entries + rows;
  }
}

void Capture::make_part(const Piece& piece) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds = [](auto span) { return std::chrono::duration<double>(span).count(); };
  const auto of_step = static_cast<std::size_t>(placed_.data.global_batch_size.at(0));
  CachedWindows part;
  StepPlan plan;
  for (std::size_t at = 0; at < piece.windows.size(); at += of_step) {
    plan.samples.assign(of_step, Sample{-1, 0, 0});
    for (std::size_t i = 0; i < of_step && at + i < piece.windows.size(); ++i)
      plan.samples[i] = {static_cast<std::int32_t>(piece.source), 0, piece.windows[at + i]};
    const auto begun = now();
    teacher_->prepare(*loader_, plan, stream_);
    progress_.forward_seconds += seconds(now() - begun);
    send_to_writer(piece.source, plan.samples, part);
  }
  progress_.rows += rows_of(piece);
  agreed(group_, [&] {
    if (!writes()) return;
    CachePart written = write_cache_part(folder_, manifest_.header.format, piece.source,
                                         next_[static_cast<std::size_t>(piece.source)]++, part);
    files::replace(side_file(folder_, written), to_json(written));
    manifest_.parts.push_back(written);
    unlisted_.push_back(std::move(written));
  });
  progress_.seconds = seconds(now() - begun_);
  if (writes()) options_.progress(progress_);
}

CaptureSummary Capture::finish(bool complete) {
  CaptureSummary summary;
  summary.made = progress_, summary.complete = complete;
  agreed(group_, [&] {
    if (!writes()) return;
    if (complete) {
      std::sort(manifest_.parts.begin(), manifest_.parts.end(),
                [](const CachePart& a, const CachePart& b) { return a.file < b.file; });
      write_cache_manifest(folder_, manifest_);
      std::error_code ignored;
      for (const CachePart& part : unlisted_) fs::remove(side_file(folder_, part), ignored);
      fs::remove(unfinished_header(folder_), ignored);
      summary.root = manifest_.root();
    }
    summary.rows = manifest_.rows(), summary.bytes = manifest_.bytes();
  });
  return summary;
}

CaptureSummary Capture::run() {
  open_data();
  open_model();
  const std::vector<Piece> pieces = missing();
  for (const Piece& p : pieces) progress_.all_rows += rows_of(p);
  agreed(group_, [&] {
    if (writes() && !pieces.empty()) check_room(pieces);
  });
  begun_ = std::chrono::steady_clock::now();
  for (const Piece& piece : pieces) {
    std::int64_t stop[1] = {writes() && options_.stop() ? 1 : 0};
    group_.all_max(std::span(stop));
    if (stop[0] != 0) return finish(false);
    make_part(piece);
  }
  return finish(true);
}

}  // namespace

double predicted_cache_bytes(const CacheFormat& format, std::int64_t rows, std::int64_t windows) {
  // A window's line in the tables, and what HDF5 and the manifest say of a part.
  return static_cast<double>(rows * format.row_bytes() + 16 * windows) + 16384.0;
}

CaptureSummary capture(const Recipe& recipe, Group& group, const Stream& stream, const CaptureOptions& options) {
  if (stream.device())
    throw Error(ExitStatus::environment, "run.device",
                "found a GPU, where teachers cannot be captured yet, expected the CPU", "Set run.device: cpu");
  return Capture(recipe, group, stream, options).run();
}

}  // namespace fourmi

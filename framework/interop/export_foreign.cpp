#include "framework/interop/export_foreign.h"

#include <limits>

#include "framework/checkpoint/agree.h"
#include "framework/interop/export_mark.h"
#include "framework/interop/import.h"
#include "framework/interop/import_plan.h"
#include "framework/run/lease.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

constexpr const char* origin_name = "origin";  // in HF_DIR.tmp-import: of which model it is

class ForeignExport {
 public:
  ForeignExport(Group& group, const fs::path& from, const fs::path& to, const ExportOptions& options,
                const FreeBytes& free)
      : group_(group), from_(from), to_(fs::absolute(to).lexically_normal()), options_(options), free_(free) {
    if (!to_.has_filename()) to_ = to_.parent_path();  // a path that ends in a slash
    import_ = to_.string() + ".tmp-import";
  }

  ExportReport run() {
    agreed(group_, [&] { look(); });
    agreed(group_, [&] {
      if (group_.rank() == 0) prepare();
    });
    try {
      return go();
    } catch (const Error& e) {
      // Of a model that cannot be taken over nothing stays; what is whole of another one is gone on with.
      if (e.status() == ExitStatus::input) tidy_up();
      throw;
    }
  }

 private:
  /// All that can be refused without writing.
  void look() {
    refuse_others(to_, {}, false);
    ForeignModel model(from_, *options_.disk);
    const Recipe recipe = model.recipe("model");
    const ImportPlan plan(recipe.model, model.weights(), imports_.file_bytes);
    const ExportType type = options_.type.value_or(type_after(model.dtype(plan.map())));
    origin_ = fmt::format("{}\n{}\n", model.path().string(), plan.fingerprint());
    for (const PlannedFile& f : plan.files())
      for (const StreamedTensor& t : f.tensors) masters_ += t.bytes();
    exported_ = export_bytes(recipe.model, type);
    name_of_type_ = name_of(type);
  }

  bool is_same() const {
    std::error_code ignored;
    return fs::is_regular_file(import_ / origin_name, ignored) &&
           read_text(*options_.disk, import_ / origin_name, 1 << 20) == origin_;
  }

  void prepare() {
    const bool same = is_same();
    std::int64_t there = 0;
    std::error_code ignored;
    if (same)
      for (const auto& entry : fs::recursive_directory_iterator(import_, ignored))
        if (entry.is_regular_file(ignored)) there += static_cast<std::int64_t>(entry.file_size(ignored));
    require_room(std::max<std::int64_t>(0, masters_ - there));
    lease_ = Lease::acquire(import_);
    if (same) return;
    for (const auto& entry : fs::directory_iterator(import_))
      if (entry.path().filename() != "lease") fs::remove_all(entry.path());
    write_text(*options_.disk, import_ / origin_name, origin_);
  }

  void require_room(std::int64_t masters) const {
    fs::path folder = to_.parent_path();
    std::error_code ignored;
    while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
    const std::int64_t available = free_(folder);
    if (available >= masters && available - masters >= exported_) return;
    throw Error(
        ExitStatus::environment, to_.string(),
        fmt::format("found {} free bytes, expected {} for the weights in FP32 (in {} while it works) and {} for "
                    "the export in {}",
                    available, masters, import_.filename().string(), exported_, name_of_type_),
        "Name a folder on a disk with more room");
  }

  ExportReport go() {
    imports_.disk = options_.disk;
    imports_.called = to_;
    imports_.say = [&](const std::string& line) { options_.say("import: " + line); };
    const ImportReport in = import_model(group_, from_, import_, imports_);
    ExportOptions options = options_;
    options.say = [&](const std::string& line) { options_.say("export: " + line); };
    ExportReport report = export_model(group_, import_, to_, options);
    agreed(group_, [&] { tidy_up(); });
    report.checkpoint = fs::absolute(from_).lexically_normal();
    report.stored_bytes = in.stored_bytes;
    report.bytes_read = in.bytes_read;
    report.warnings.insert(report.warnings.begin(), in.warnings.begin(), in.warnings.end());
    return report;
  }

  void tidy_up() {
    if (group_.rank() != 0) return;
    lease_.reset();  // it lies in there
    std::error_code failure;
    fs::remove_all(import_, failure);
    if (failure) options_.say(fmt::format("{} could not be removed: {}", import_.string(), failure.message()));
  }

  Group& group_;
  fs::path from_, to_, import_;
  const ExportOptions& options_;
  const FreeBytes& free_;
  ImportOptions imports_;
  std::unique_ptr<Lease> lease_;
  std::string origin_, name_of_type_;
  std::int64_t masters_ = 0, exported_ = 0;
};

}  // namespace

std::int64_t free_bytes(const fs::path& folder) {
  std::error_code failure;
  const auto space = fs::space(folder, failure);
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  return failure || space.available > static_cast<std::uintmax_t>(most) ? most
                                                                        : static_cast<std::int64_t>(space.available);
}

ExportReport export_foreign(Group& group, const fs::path& from, const fs::path& to, const ExportOptions& options,
                            const FreeBytes& free) {
  return ForeignExport(group, from, to, options, free).run();
}

}  // namespace fourmi::interop

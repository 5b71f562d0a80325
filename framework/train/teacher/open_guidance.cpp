#include "framework/train/teacher/open_guidance.h"

#include "framework/capture/coverage.h"
#include "framework/checkpoint/agree.h"
#include "framework/recipe/policy.h"
#include "framework/train/teacher/cached_teacher.h"
#include "framework/train/teacher/open_teacher.h"
#include "framework/train/teacher/teacher.h"

namespace fourmi {

namespace {

constexpr const char* cache_key = "distill.cache";

Lessons learn_from_cache(CachedTeacher& teacher, const Recipe& recipe, const Loader& loader, Group& group) {
  Lessons lessons;
  agreed(group, [&] {
    auto cache = open_cache(recipe, loader);
    const CacheManifest& manifest = cache->manifest();
    const TeacherFact& fact = manifest.header.teacher;
    check_teacher_terms({.file = {}, .url = {}, .allows = fact.allows, .obligations = {}});
    lessons.teacher = fact;
    lessons.teacher.objective = "forward-kl, offline";
    lessons.capture = CaptureFact{std::filesystem::absolute(recipe.distill.cache).string(),
                                  manifest.root(),
                                  name_of(manifest.header.format.kind),
                                  manifest.header.format.entries,
                                  manifest.rows(),
                                  manifest.bytes()};
    teacher.open(std::move(cache), header_of(recipe, loader));
  });
  lessons.note = fmt::format("{}: {} positions of {} ({}, {} tokens each), root {}", cache_key, lessons.capture->rows,
                             lessons.teacher.name.empty() ? lessons.teacher.path : lessons.teacher.name,
                             lessons.capture->kind, lessons.capture->entries, short_digest(lessons.capture->root));
  return lessons;
}

}  // namespace

std::shared_ptr<const CacheReader> open_cache(const Recipe& recipe, const Loader& loader) {
  auto cache = std::make_shared<const CacheReader>(recipe.distill.cache);
  const CaptureHeader wanted = header_of(recipe, loader);
  refuse_other(cache->manifest().header, wanted, teacher_root(recipe.distill.teacher.from), cache_key);
  check_covered(*cache, recipe, loader, wanted, cache_key);
  return cache;
}

std::unique_ptr<Guidance> make_guidance(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int rank,
                                        const RankGroups* teachers, Arena& arena) {
  if (recipe.distill.online()) return std::make_unique<Teacher>(recipe, stages, mesh, rank, teachers, arena);
  if (recipe.distill.offline()) return std::make_unique<CachedTeacher>(recipe, stages, mesh, rank, arena);
  return nullptr;
}

std::optional<Lessons> open_guidance(Guidance* guidance, const Recipe& recipe, const Loader& loader, Group& group,
                                     const Stream& stream, std::vector<std::string>& messages) {
  if (!guidance) return std::nullopt;
  if (auto* cached = dynamic_cast<CachedTeacher*>(guidance)) return learn_from_cache(*cached, recipe, loader, group);
  const Checkpoint checkpoint =
      open_teacher(group, recipe, std::filesystem::path(recipe.run.directory) / "teacher", messages);
  dynamic_cast<Teacher&>(*guidance).forward().load(group, checkpoint, stream);
  Lessons lessons;
  agreed(group, [&] { lessons.teacher = teacher_fact_of(recipe, checkpoint); });
  return lessons;
}

}  // namespace fourmi

// What a recipe's student learns of a teacher, made and opened.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/capture/cache.h"
#include "framework/ledger/capture_fact.h"
#include "framework/ledger/teacher_fact.h"
#include "framework/train/stages.h"
#include "framework/train/teacher/guidance.h"

namespace fourmi {

/// Null unless distill.mode is online or offline. On one rank of a mesh of so many; memory from `arena`, which may be
/// measuring, then `teachers` is null. Throws Error(environment) where the mode has no kernels for the arena's device.
std::unique_ptr<Guidance> make_guidance(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, int rank,
                                        const RankGroups* teachers, Arena& arena);

/// The cache that distill.cache names, held against the recipe and what its run reads. Throws Error(input) naming what
/// does not fit.
std::shared_ptr<const CacheReader> open_cache(const Recipe& recipe, const Loader& loader);

/// What the ledger is told.
struct Lessons {
  TeacherFact teacher;
  std::optional<CaptureFact> capture;
  std::string note;  ///< for people; may be empty
};

/// Collective. Loads a teacher's weights, or opens the cache and holds it against the recipe. Nothing where there is
/// no guidance. Throws Error(input) naming what does not fit, Error(usage) where the teacher's terms do not allow it.
std::optional<Lessons> open_guidance(Guidance* guidance, const Recipe& recipe, const Loader& loader, Group& group,
                                     const Stream& stream, std::vector<std::string>& messages);

}  // namespace fourmi

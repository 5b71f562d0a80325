#include "parallel/schedule/schedule.h"

#include <algorithm>

#include "kernels/runtime/error.h"
#include "parallel/schedule/generators.h"

namespace fourmi {
namespace {

[[noreturn]] void refuse(std::string_view name, const std::string& found, const std::string& expected,
                         const std::string& remedy) {
  throw Error(ExitStatus::usage, "parallel.pipeline_schedule",
              fmt::format("found {} with {}, expected {}", name, found, expected), remedy);
}

void check_one_chunk(std::string_view name, int chunks, int wanted) {
  if (chunks == 1 || chunks == wanted) return;
  refuse(name, fmt::format("parallel.virtual_stages = {}", chunks), fmt::format("{}", wanted),
         "Only interleaved chooses how many stages a rank holds");
}

void check_pairs(std::string_view name, int num_ranks, int num_micro_batches, bool even) {
  const std::string remedy =
      "The number of micro-batches is data.global_batch_size over data.micro_batch_size and the data ranks";
  if (even && num_ranks % 2 != 0)
    refuse(name, fmt::format("parallel.pipeline = {}", num_ranks), "an even number of ranks",
           fmt::format("Take {} or {} ranks, or dualpipev", num_ranks - 1, num_ranks + 1));
  if (num_micro_batches < 2 * num_ranks)
    refuse(name, fmt::format("{} micro-batches", num_micro_batches), fmt::format("at least {}", 2 * num_ranks), remedy);
  if (even && num_micro_batches % 2 != 0)
    refuse(name, fmt::format("{} micro-batches", num_micro_batches),
           fmt::format("an even number, {} for example", num_micro_batches + 1), remedy);
}

char letter(Verb verb) {
  switch (verb) {
    case Verb::forward:
    case Verb::pair:
      return 'F';
    case Verb::backward:
      return 'B';
    case Verb::backward_input:
      return 'I';
    case Verb::backward_weight:
      return 'W';
  }
  return '?';
}

std::string to_string(char what, Pass p, int num_chunks) {
  return num_chunks == 1 ? fmt::format("{} {}", what, p.micro_batch)
                         : fmt::format("{} {}.{}", what, p.chunk, p.micro_batch);
}

}  // namespace

std::vector<std::string_view> schedule_names() {
  return {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipev"};
}

Schedule make_schedule(std::string_view name, int num_ranks, int chunks, int num_micro_batches, bool paired) {
  FOURMI_CHECK(num_ranks >= 1 && chunks >= 1 && num_micro_batches >= 1, "{} of {} ranks, {} chunks, {} micro-batches",
               name, num_ranks, chunks, num_micro_batches);
  if (name == "interleaved") {
    if (num_micro_batches % num_ranks != 0)
      refuse(name, fmt::format("{} micro-batches on {} ranks", num_micro_batches, num_ranks),
             fmt::format("a multiple of the ranks, {} for example", (num_micro_batches / num_ranks + 1) * num_ranks),
             "Change data.global_batch_size or data.micro_batch_size");
    return schedules::interleaved(num_ranks, chunks, num_micro_batches, paired);
  }
  if (name == "gpipe" || name == "1f1b" || name == "zb-h1") {
    check_one_chunk(name, chunks, 1);
    if (name == "gpipe") return schedules::gpipe(num_ranks, num_micro_batches);
    if (name == "1f1b") return schedules::one_f_one_b(num_ranks, num_micro_batches);
    return schedules::zb_h1(num_ranks, num_micro_batches);
  }
  if (name == "zb-v" || name == "dualpipe" || name == "dualpipev") {
    check_one_chunk(name, chunks, 2);
    if (name == "zb-v") return schedules::zb_v(num_ranks, num_micro_batches);
    check_pairs(name, num_ranks, num_micro_batches, name == "dualpipe");
    return name == "dualpipe" ? schedules::dual_pipe(num_ranks, num_micro_batches)
                              : schedules::dual_pipe_v(num_ranks, num_micro_batches);
  }
  std::string known;
  for (std::string_view n : schedule_names()) known.append(known.empty() ? "" : ", ").append(n);
  throw Error(ExitStatus::usage, "parallel.pipeline_schedule",
              fmt::format("found {}, expected one of {}", name, known));
}

void check_complete(const Schedule& s) {
  // What was done of each chunk's micro-batch: nothing, forward, its input's gradient too, all.
  enum class Done { nothing, forward, input, all };
  for (int r = 0; r < s.num_ranks; ++r) {
    std::vector<Done> done(static_cast<std::size_t>(s.num_chunks * s.num_micro_batches), Done::nothing);
    const auto step = [&](Pass p, Done from, Done to, const Action& action) {
      const bool inside =
          p.chunk >= 0 && p.chunk < s.num_chunks && p.micro_batch >= 0 && p.micro_batch < s.num_micro_batches;
      FOURMI_CHECK(inside, "{}: rank {}: {} is outside", s.name, r, to_string(action, s.num_chunks));
      Done& at = done[static_cast<std::size_t>(p.chunk * s.num_micro_batches + p.micro_batch)];
      FOURMI_CHECK(at == from, "{}: rank {}: {} out of order or twice", s.name, r, to_string(action, s.num_chunks));
      at = to;
    };
    for (const Action& a : s.actions[static_cast<std::size_t>(r)]) switch (a.verb) {
        case Verb::forward:
          step(a.pass, Done::nothing, Done::forward, a);
          break;
        case Verb::backward:
          step(a.pass, Done::forward, Done::all, a);
          break;
        case Verb::backward_input:
          step(a.pass, Done::forward, Done::input, a);
          break;
        case Verb::backward_weight:
          step(a.pass, Done::input, Done::all, a);
          break;
        case Verb::pair:
          // Its backward is of an earlier forward: the halves are under way at once.
          step(a.behind, Done::forward, Done::all, a);
          step(a.pass, Done::nothing, Done::forward, a);
          break;
      }
    for (int m = 0; m < s.num_micro_batches; ++m)
      for (const StagePlace& place : s.routes[static_cast<std::size_t>(s.route_of(m))])
        if (place.rank == r)
          FOURMI_CHECK(done[static_cast<std::size_t>(place.chunk * s.num_micro_batches + m)] == Done::all,
                       "{}: rank {} leaves micro-batch {} of chunk {} undone", s.name, r, m, place.chunk);
  }
}

std::string to_string(const Action& a, int num_chunks) {
  if (a.verb != Verb::pair) return to_string(letter(a.verb), a.pass, num_chunks);
  return fmt::format("[{} {}]", to_string('F', a.pass, num_chunks), to_string('B', a.behind, num_chunks));
}

}  // namespace fourmi

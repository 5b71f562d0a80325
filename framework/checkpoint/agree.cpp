#include "framework/checkpoint/agree.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/runtime/as_error.h"

namespace fourmi {
namespace {

struct Failure {
  ExitStatus status;
  bool damage;
  std::string place, cause, remedy;
};

std::optional<Failure> run(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const DamageError& e) {
    return Failure{e.status(), true, e.place(), e.cause(), e.remedy()};
  } catch (const Error& e) {
    if (e.status() == ExitStatus::rank_lost) throw;
    return Failure{e.status(), false, e.place(), e.cause(), e.remedy()};
  } catch (const std::exception& exception) {
    const Error e = as_error(exception);
    return Failure{e.status(), false, e.place(), e.cause(), e.remedy()};
  }
}

[[noreturn]] void raise(const Failure& f) {
  if (f.damage) throw DamageError(f.place, f.cause, f.remedy);
  throw Error(f.status, f.place, f.cause, f.remedy);
}

}  // namespace

void agreed(Group& group, const std::function<void()>& work) {
  const auto failure = run(work);
  if (group.size() == 1) {
    if (failure) raise(*failure);
    return;
  }
  std::int64_t priority = failure ? group.size() - group.rank() : 0;  // the lowest failing rank has the largest
  group.all_max(std::span(&priority, 1));
  if (priority == 0) return;
  const int culprit = group.size() - static_cast<int>(priority);
  std::string text;
  if (group.rank() == culprit)
    text = nlohmann::json::array({static_cast<int>(failure->status), failure->damage,
                                  fmt::format("rank {}: {}", culprit, failure->place), failure->cause, failure->remedy})
               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  broadcast_text(group, text, culprit);
  const auto j = nlohmann::json::parse(text);
  raise({static_cast<ExitStatus>(j[0].get<int>()), j[1].get<bool>(), j[2].get<std::string>(), j[3].get<std::string>(),
         j[4].get<std::string>()});
}

void broadcast_text(Group& group, std::string& text, int root) {
  if (group.size() == 1) return;
  auto length = static_cast<std::int64_t>(text.size());
  group.broadcast(std::as_writable_bytes(std::span(&length, 1)), root);
  text.resize(static_cast<std::size_t>(length));
  if (length > 0) group.broadcast(std::as_writable_bytes(std::span(text)), root);
}

std::vector<std::string> gather_texts(Group& group, const std::string& text) {
  const auto size = static_cast<std::size_t>(group.size());
  const std::size_t mine = text.size();
  std::vector<std::size_t> lengths(size);
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(lengths)));
  std::vector<std::size_t> send(size, 0), receive(size, 0);
  send[0] = mine;
  std::size_t total = 0;
  if (group.rank() == 0) {
    receive = lengths;
    for (std::size_t n : lengths) total += n;
  }
  std::string all(total, '\0');
  group.all_to_all(std::as_bytes(std::span(text)), send, std::as_writable_bytes(std::span(all)), receive);
  std::vector<std::string> texts;
  if (group.rank() == 0)
    for (std::size_t begin = 0, r = 0; r < size; begin += lengths[r], ++r)
      texts.push_back(all.substr(begin, lengths[r]));
  return texts;
}

}  // namespace fourmi

#include "framework/ledger/lineage.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "framework/ledger/trace.h"
#include "kernels/runtime/error.h"

namespace fourmi {

RunLineage::RunLineage(LedgerWriter& writer, std::string head) : writer_(writer) {
  if (!head.empty()) move_to(head);
}

void RunLineage::move_to(const std::string& head) {
  const Trace t = trace(writer_.file(), head, writer_.path().string());
  head_ = head;
  head_step_ = now_.step = t.step;
  head_tokens_ = t.run_tokens;
  now_.tokens.assign(datasets_.size(), 0);
}

void RunLineage::say(std::string_view type, const std::string& payload) {
  const LedgerEntry entry = make_entry(head_.empty() ? nullptr : writer_.file().find(head_), type, payload, utc_now());
  writer_.append({entry});
  move_to(entry.sha256);
}

void RunLineage::declare(const std::vector<DatasetFact>& sources) {
  std::unordered_set<std::string> known;
  for (const LedgerEntry* e : writer_.file().lineage(head_, writer_.path().string()))
    if (e->type == DatasetFact::type) known.insert(dataset_fact(*e, writer_.path().string()).id());
  sources_ = sources;
  datasets_.clear();
  for (const DatasetFact& s : sources) {
    datasets_.push_back(s.id());
    if (known.insert(s.id()).second) say(DatasetFact::type, to_payload(s));
  }
  now_.tokens.assign(datasets_.size(), 0);
}

void RunLineage::consumed(std::int64_t step, std::span<const std::int64_t> tokens_by_source) {
  FOURMI_CHECK(tokens_by_source.size() == datasets_.size() && step > now_.step, "tokens of {} sources at step {}",
               tokens_by_source.size(), step);
  now_.step = step;
  for (std::size_t i = 0; i < datasets_.size(); ++i) now_.tokens[i] += tokens_by_source[i];
}

void RunLineage::snapshot() {
  saved_ = now_;
}

std::string RunLineage::seal(const std::string& root, std::int64_t tokens, std::span<const PromotionFact> promotions) {
  std::vector<LedgerEntry> fresh;
  const LedgerEntry* parent = head_.empty() ? nullptr : writer_.file().find(head_);
  const auto add = [&](std::string_view type, const std::string& payload) {
    fresh.push_back(make_entry(fresh.empty() ? parent : &fresh.back(), type, payload, utc_now()));
  };
  const std::int64_t since = std::accumulate(saved_.tokens.begin(), saved_.tokens.end(), std::int64_t{0});
  FOURMI_CHECK(head_tokens_ + since == tokens, "{} tokens up to step {} and {} by source since, but {} in all",
               head_tokens_, head_step_, since, tokens);
  if (saved_.step > head_step_) {
    TokensFact fact{head_step_, saved_.step, {}};
    for (std::size_t i = 0; i < datasets_.size(); ++i) fact.sources.push_back({datasets_[i], saved_.tokens[i]});
    add(TokensFact::type, to_payload(fact));
  }
  if (!promotions.empty()) {
    const std::vector<PromotionFact> known = trace(writer_.file(), head_, writer_.path().string()).promotions;
    for (const PromotionFact& p : promotions)
      if (std::find(known.begin(), known.end(), p) == known.end()) add(PromotionFact::type, to_payload(p));
  }
  add(CheckpointFact::type, to_payload(CheckpointFact{saved_.step, tokens, root}));
  writer_.append(fresh);
  sealed_ = fresh.back().sha256;
  return sealed_;
}

void RunLineage::settle(bool committed) {
  if (committed && !sealed_.empty()) {
    head_ = sealed_;
    head_step_ = saved_.step;
    for (std::size_t i = 0; i < now_.tokens.size(); ++i) {
      now_.tokens[i] -= saved_.tokens[i];
      head_tokens_ += saved_.tokens[i];
    }
  }
  sealed_.clear();
}

void RunLineage::roll_back(const std::string& head, const RollbackFact& fact) {
  sealed_.clear();
  move_to(head);
  say(RollbackFact::type, to_payload(fact));
  declare(std::vector<DatasetFact>(sources_));  // those that only the abandoned branch had
}

}  // namespace fourmi

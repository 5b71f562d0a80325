#include "framework/ledger/lineage.h"

#include <unordered_set>

#include "kernels/runtime/error.h"

namespace fourmi {

RunLineage::RunLineage(LedgerWriter& writer, std::string head, std::int64_t step)
    : writer_(writer), head_(std::move(head)), head_step_(step) {
  now_.step = step;
  FOURMI_CHECK(head_.empty() || writer_.file().find(head_), "the head {} is not in the ledger", head_);
}

LedgerEntry RunLineage::after(const std::string& head, std::string_view type, const std::string& payload) const {
  return make_entry(head.empty() ? nullptr : writer_.file().find(head), type, payload, utc_now());
}

void RunLineage::say(std::string_view type, const std::string& payload) {
  const LedgerEntry entry = after(head_, type, payload);
  writer_.append({entry});
  head_ = entry.sha256;
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

std::string RunLineage::seal(const std::string& root, std::int64_t tokens) {
  std::vector<LedgerEntry> fresh;
  const LedgerEntry* parent = head_.empty() ? nullptr : writer_.file().find(head_);
  const auto add = [&](std::string_view type, const std::string& payload) {
    fresh.push_back(make_entry(fresh.empty() ? parent : &fresh.back(), type, payload, utc_now()));
  };
  if (saved_.step > head_step_) {
    TokensFact fact{head_step_, saved_.step, {}};
    for (std::size_t i = 0; i < datasets_.size(); ++i) fact.sources.push_back({datasets_[i], saved_.tokens[i]});
    add(TokensFact::type, to_payload(fact));
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
    for (std::size_t i = 0; i < now_.tokens.size(); ++i) now_.tokens[i] -= saved_.tokens[i];
  }
  sealed_.clear();
}

void RunLineage::roll_back(const std::string& head, const RollbackFact& fact) {
  FOURMI_CHECK(writer_.file().find(head), "the head {} is not in the ledger", head);
  head_ = head;
  sealed_.clear();
  head_step_ = now_.step = fact.to_step;
  say(RollbackFact::type, to_payload(fact));
  declare(std::vector<DatasetFact>(sources_));  // those that only the abandoned branch had
}

}  // namespace fourmi

// The group of one: collectives are copies at most; messages go from this rank to itself.
#include <list>

#include "kernels/runtime/error.h"
#include "parallel/moving_group.h"
#include "parallel/poison.h"

namespace fourmi {
namespace {

struct Mailbox {
  std::list<Move> open;  // started and not matched yet, in order

  /// True if `m` met its counterpart, and copy(to, from, size) was called.
  template <class Copy>
  bool match(const Move& m, const Copy& copy) {
    for (auto it = open.begin(); it != open.end(); ++it) {
      if (it->kind == m.kind || it->tag != m.tag) continue;
      const Move &send = m.kind == Move::Kind::send ? m : *it, &receive = m.kind == Move::Kind::send ? *it : m;
      FOURMI_CHECK(send.size == receive.size, "{} bytes sent, {} received", send.size, receive.size);
      copy(receive.data, send.data, send.size);
      open.erase(it);
      return true;
    }
    open.push_back(m);
    return false;
  }
  bool is_open(const Move& m) const {
    for (const Move& o : open)
      if (o.kind == m.kind && o.tag == m.tag && o.data == m.data) return true;
    return false;
  }
};

class SelfGroup final : public MovingGroup {
 public:
  SelfGroup(std::string name, std::shared_ptr<Poison> parent)
      : MovingGroup(std::move(name), 0, 1), poison_(std::make_shared<Poison>(std::move(parent))) {}

  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    FOURMI_CHECK(ranks.size() == 1 && ranks[0] == 0, "{}: a group of {} ranks inside a group of one", name,
                 ranks.size());
    auto group = std::make_unique<SelfGroup>(std::move(name), poison_);
    group->inherit(*this);
    return group;
  }
  void cancel(const std::string& reason) override { poison_->set(reason); }
  bool cancelled() const override { return poison_->is_set(); }

 protected:
  Request start_moves(std::span<const Move> moves) override {
    if (moves.empty()) return Request([this] { poison_->check(name_); });  // collectives: nothing allocated
    std::vector<Move> unmatched;
    for (const Move& m : moves)
      if (!mailbox_->match(m, [this](std::byte* to, const std::byte* from, std::size_t n) { copy_bytes(to, from, n); }))
        unmatched.push_back(m);
    return Request([mailbox = mailbox_, poison = poison_, group = name_, unmatched = std::move(unmatched)] {
      poison->check(group);
      for (const Move& m : unmatched)
        FOURMI_CHECK(!mailbox->is_open(m), "{}: a wait for a message to itself that has no counterpart", group);
    });
  }
  Request start_device_moves(std::span<const Move> moves) override { return start_moves(moves); }

 private:
  std::shared_ptr<Poison> poison_;
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
};

}  // namespace

std::unique_ptr<Group> make_self_group(std::string name) {
  return std::make_unique<SelfGroup>(std::move(name), nullptr);
}

}  // namespace fourmi

// A group whose device memory moves by NCCL, as processes' does; its host memory moves between threads of the test.
#pragma once

#include "parallel/nccl/moves.h"

namespace fourmi::test {

class NcclGroup final : public MovingGroup {
 public:
  /// `host`: the same members.
  NcclGroup(std::unique_ptr<Group> host, std::shared_ptr<const nccl::Functions> functions)
      : MovingGroup(host->name(), host->rank(), host->size()),
        host_(std::move(host)),
        functions_(std::move(functions)) {
    share_calls(*host_);
  }
  std::unique_ptr<Group> subgroup(std::string name, std::span<const int> ranks) override {
    auto group = std::make_unique<NcclGroup>(host_->subgroup(std::move(name), ranks), functions_);
    group->inherit(*this);
    if (rank_of_device_) group->use(rank_of_device_);
    return group;
  }
  void use_device(DeviceStream& stream) override {
    Group::use_device(stream);
    use(std::make_shared<nccl::Rank>(functions_, stream));
  }
  void prepare_messages() override { moves_->prepare_messages(*host_); }
  void cancel(const std::string& reason) override {
    host_->cancel(reason);
    rank_of_device_->abort();
  }
  bool cancelled() const override { return host_->cancelled(); }

 protected:
  Request start_moves(std::span<const Move> moves) override {
    // By the host's own calls, so that its order is kept: each move is a message of its own.
    auto requests = std::make_shared<std::vector<Request>>();
    for (const Move& m : moves)
      requests->push_back(m.kind == Move::Kind::send ? host_->start_send({m.data, m.size}, m.peer, m.tag)
                                                     : host_->start_receive({m.data, m.size}, m.peer, m.tag));
    return Request([requests] {
      for (Request& r : *requests) r.wait();
    });
  }
  Request start_device_moves(std::span<const Move> moves) override { return moves_->start(moves); }

 private:
  void use(std::shared_ptr<nccl::Rank> rank) {
    rank_of_device_ = std::move(rank);
    moves_ = std::make_unique<nccl::Moves>(rank_of_device_, *host_);
  }
  std::unique_ptr<Group> host_;
  std::shared_ptr<const nccl::Functions> functions_;
  std::shared_ptr<nccl::Rank> rank_of_device_;
  std::unique_ptr<nccl::Moves> moves_;
};

}  // namespace fourmi::test

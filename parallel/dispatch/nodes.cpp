#include "parallel/dispatch/nodes.h"

#include <algorithm>
#include <bit>

namespace fourmi {
namespace {

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

NodeDispatcher::NodeDispatcher(DispatchMethod method, Group& group, const DispatchOptions& options, int num_chunks)
    : Dispatcher(method, group, options, num_kinds),
      node_size_(options.node_size),
      num_nodes_(group.size() / options.node_size),
      node_(group.rank() / options.node_size),
      place_(group.rank() % options.node_size),
      num_chunks_(num_chunks) {
  std::vector<int> ranks;
  for (int n = 0; n < num_nodes_; ++n) ranks.push_back(n * node_size_ + place_);
  across_ = group.subgroup(group.name() + ".across", ranks);
  ranks.clear();
  for (int i = 0; i < node_size_; ++i) ranks.push_back(group.rank() - place_ + i);
  inside_ = group.subgroup(group.name() + ".inside", ranks);

  across_sent_.resize(index(num_nodes_ * num_blocks()));
  across_received_.resize(across_sent_.size());
  inside_sent_.resize(index(node_size_ * num_nodes_ * num_blocks()));
  inside_received_.resize(inside_sent_.size());
  next_.resize(index(num_nodes_ * num_chunks_));
  masks_.resize(index(sizes_.max_tokens * sizes_.token_ranks));
  got_masks_.resize(index(sizes_.max_forwards));
}

void NodeDispatcher::ask_nodes(DispatchPlan& plan) {
  plan.tokens.size = num_nodes_, plan.tokens.rank = node_;
  plan.forwards.size = node_size_, plan.forwards.rank = place_;
  const std::int64_t most = list_destinations(plan.experts_MK, num_local() * node_size_, plan.tokens);
  load_.most_destinations = std::max(load_.most_destinations, most);
  exchange_masks(plan);
  count_masks();
}

/// Tells each node, for each of my tokens that go there, which of its ranks need it.
void NodeDispatcher::exchange_masks(DispatchPlan& plan) {
  const std::int64_t M = plan.experts_MK.dim(0), K = plan.experts_MK.dim(1), C = sizes_.token_ranks, B = num_blocks();
  const auto* ranks = plan.tokens.rank_RC.as<std::int32_t>();
  const auto* experts = plan.experts_MK.as<std::int32_t>();
  std::fill(across_sent_.begin(), across_sent_.end(), 0);
  for (std::int64_t i = 0; i < M * C; ++i)
    if (ranks[i] >= 0) {
      ++across_sent_[index(ranks[i] * B + block_of(i / C))];
      ++loads_.load(sending, block_of(i / C));
    }
  exchange_lists(*across_, across_sent_, across_received_);
  traffic_.routing_bytes += (num_nodes_ - 1) * B * size_of(DType::i64);

  const std::span send = across_->counts(0), receive = across_->counts(1);
  std::size_t all_sent = 0, all_received = 0;
  for (std::size_t n = 0; n < send.size(); ++n) {
    next_[n] = static_cast<std::int64_t>(all_sent);
    send[n] = receive[n] = 0;
    for (std::size_t k = 0; k < index(B); ++k) {
      send[n] += index(across_sent_[n * index(B) + k]);
      receive[n] += index(across_received_[n * index(B) + k]);
    }
    all_sent += send[n], all_received += receive[n];
    if (n != index(node_)) traffic_.routing_bytes += static_cast<std::int64_t>(send[n]) * size_of(DType::i64);
    send[n] *= sizeof(std::int64_t), receive[n] *= sizeof(std::int64_t);
  }
  auto* masks = masks_.data();
  for (std::int64_t t = 0; t < M; ++t)
    for (std::int64_t k = 0; k < K;) {
      const std::int64_t to = experts[t * K + k] / (num_local() * node_size_);
      std::uint64_t mask = 0;
      for (; k < K && experts[t * K + k] / (num_local() * node_size_) == to; ++k)
        mask |= std::uint64_t{1} << (experts[t * K + k] / num_local() % node_size_);
      masks[next_[index(to)]++] = mask;
    }
  across_->all_to_all({std::as_bytes(std::span(masks_)).data(), all_sent * sizeof(std::int64_t)}, send,
                      {std::as_writable_bytes(std::span(got_masks_)).data(), all_received * sizeof(std::int64_t)},
                      receive);
}

/// By source node and block, what goes on to each rank of my node.
void NodeDispatcher::count_masks() {
  const std::int64_t B = num_blocks();
  const std::uint64_t* masks = got_masks_.data();
  std::fill(inside_sent_.begin(), inside_sent_.end(), 0);
  for (std::int64_t list = 0; list < num_nodes_ * B; ++list) {
    const std::int64_t block = list % B, rows = across_received_[index(list)];
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::uint64_t mask = *masks++; mask != 0; mask &= mask - 1) {
        ++inside_sent_[index(std::countr_zero(mask) * num_nodes_ * B + list)];
        ++loads_.load(spreading, block);
      }
  }
}

void NodeDispatcher::hear_inside() {
  const std::int64_t B = num_blocks();
  exchange_lists(*inside_, inside_sent_, inside_received_);
  traffic_.routing_bytes += (node_size_ - 1) * num_nodes_ * B * size_of(DType::i64);
  for (std::size_t i = 0; i < inside_received_.size(); ++i)
    loads_.load(receiving, static_cast<std::int64_t>(i) % B) += inside_received_[i];
}

void NodeDispatcher::lay_out(DispatchPlan& plan, bool repeat) {
  plan.tokens.reset(plan.num_rounds());
  plan.tokens.row_begin = plan.token_begin;
  plan.tokens.place_copies();
  if (num_chunks_ > 1) place_chunks(plan.tokens);
  plan.forwards.reset(plan.num_rounds());
  for (int q = 0; q < plan.num_rounds(); ++q) {
    std::int64_t rows = 0;
    for (int n = 0; n < num_nodes_; ++n) {
      const std::size_t got = in_round(across_received_, index(n), q);
      plan.tokens.received[index(q * num_nodes_ + n)] = got;
      rows += static_cast<std::int64_t>(got);
    }
    plan.forwards.row_begin[index(q + 1)] = plan.forwards.row_begin[index(q)] + rows;
  }
  list_forwards(plan, repeat);
}

/// From places by node to places by chunk, then by node.
void NodeDispatcher::place_chunks(Route& tokens) {
  const std::int64_t C = tokens.rank_RC.dim(1);
  const auto* ranks = tokens.rank_RC.as<std::int32_t>();
  auto* rows = tokens.row_RC.as<std::int32_t>();
  for (int q = 0; q + 1 < static_cast<int>(tokens.row_begin.size()); ++q) {
    const Chunks sent = chunks(tokens.sent_to(q));
    for (int c = 0; c < num_chunks_; ++c)
      for (int n = 0; n < num_nodes_; ++n) next_[index(c * num_nodes_ + n)] = sent.first(c, index(n));
    const Chunks whole{tokens.sent_to(q), 1};
    for (std::int64_t i = tokens.begin(q) * C; i < tokens.begin(q + 1) * C; ++i) {
      if (ranks[i] < 0) continue;
      const auto n = index(ranks[i]);
      std::int64_t before = rows[i] - whole.first(0, n);  // of the node's
      int c = 0;
      for (; before >= sent.count(c, n); ++c) before -= sent.count(c, n);
      rows[i] = static_cast<std::int32_t>(next_[index(c * num_nodes_) + n] + before);
    }
  }
}

/// The rows that pass through here, round by round as they will arrive.
void NodeDispatcher::list_forwards(DispatchPlan& plan, bool repeat) {
  const std::uint64_t* masks = got_masks_.data();
  const std::int64_t C = sizes_.forward_ranks;
  std::int64_t before = 0;
  for (int n = 0; n < num_nodes_; ++n) {  // where each node's masks go on
    next_[index(n)] = before;
    for (int q = 0; q < plan.num_rounds(); ++q)
      before += static_cast<std::int64_t>(in_round(across_received_, index(n), q));
  }
  auto* ranks = plan.forwards.rank_RC.as<std::int32_t>();
  for (int q = 0; q < plan.num_rounds(); ++q) {
    const Chunks got = chunks(plan.tokens.received_from(q));
    for (int c = 0; c < num_chunks_; ++c)
      for (std::size_t n = 0; n < index(num_nodes_); ++n)
        for (std::int64_t i = got.count(c, n); i > 0; --i, ranks += C) {
          std::int64_t wanted = 0;
          for (std::uint64_t mask = masks[next_[n]++]; mask != 0; mask &= mask - 1)
            ranks[wanted++] = std::countr_zero(mask);
          std::fill(ranks + wanted, ranks + C, repeat ? ranks[wanted - 1] : -1);
        }
  }
}

Request NodeDispatcher::cross(Way way, const DispatchPlan& plan, int round, int chunk, std::int64_t row_bytes,
                              const Tensor& from, const Tensor& to) {
  const Chunks mine = chunks(plan.tokens.sent_to(round)), theirs = chunks(plan.tokens.received_from(round));
  const auto of_chunk = [&](const Chunks& all, const Tensor& memory, std::span<std::size_t> bytes) {
    for (std::size_t n = 0; n < bytes.size(); ++n) bytes[n] = index(all.count(chunk, n) * row_bytes);
    return std::span(static_cast<std::byte*>(memory.data) + all.first(chunk) * row_bytes,
                     index(all.total(chunk) * row_bytes));
  };
  const std::span send = across_->counts(0), receive = across_->counts(1);
  const std::span<const std::byte> leaves = of_chunk(way == Way::out ? mine : theirs, from, send);
  return across_->start_all_to_all(leaves, send, of_chunk(way == Way::out ? theirs : mine, to, receive), receive);
}

}  // namespace fourmi

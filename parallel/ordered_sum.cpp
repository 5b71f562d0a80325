#include "parallel/ordered_sum.h"

#include <algorithm>
#include <array>

#include "kernels/ops/copy.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

// In flight per direction. Of 1 to 64 MiB, 2 and 4 were fastest (4 ranks on 2 busy cores).
constexpr std::int64_t wanted_bytes = 4 << 20;

std::size_t index(int r) {
  return static_cast<std::size_t>(r);
}

// Calls visit(flat, packed, count) for each piece's part inside packed [begin, end).
template <class Visit>
void for_range(std::span<const Piece> pieces, std::int64_t begin, std::int64_t end, Visit visit) {
  auto it =
      std::partition_point(pieces.begin(), pieces.end(), [&](const Piece& p) { return p.packed + p.count <= begin; });
  for (; it != pieces.end() && it->packed < end; ++it) {
    const std::int64_t from = std::max(begin, it->packed), to = std::min(end, it->packed + it->count);
    if (from < to) visit(it->flat + (from - it->packed), from, to - from);
  }
}

/// Elements [begin, begin + count) of a flat tensor, or of bytes that hold such.
Tensor part(const Tensor& t, std::int64_t begin, std::int64_t count) {
  return Tensor(static_cast<std::byte*>(t.data) + begin * size_of(t.dtype), t.dtype, {count}, t.device);
}
void move(const Stream& stream, const Tensor& from, const Tensor& to) {
  if (from.data != to.data && from.num_elements() > 0) copy(stream, from, to);
}

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

// The rounds of one transfer: round i covers packed elements [i * chunk, (i + 1) * chunk) of every rank. Where there is
// room for two rounds, one is packed and added up while the other travels.
struct Rounds {
  Rounds(Group& group, const Ownership& owners_, const Tensor& flat_, const Tensor& mine, const Tensor& scratch)
      : owners(owners_), element(size_of(flat_.dtype)), others(group.size() - 1) {
    FOURMI_CHECK(owners.num_ranks() == group.size(), "pieces of {} ranks for a group of {}", owners.num_ranks(),
                 group.size());
    FOURMI_CHECK(mine.num_elements() >= owners.num_elements(group.rank()),
                 "a packed buffer of {} elements, expected {}", mine.num_elements(), owners.num_elements(group.rank()));
    if (others == 0) return;
    const SumRounds rounds = sum_rounds(owners.most_elements(), scratch.bytes(), group.size(), element);
    chunk = rounds.elements, under_way = rounds.under_way;
    FOURMI_CHECK(chunk > 0 || owners.most_elements() == 0, "{} bytes of scratch for {} ranks", scratch.bytes(),
                 group.size());
    buffer = Tensor(scratch.data, flat_.dtype, {scratch.bytes() / element}, scratch.device);
    FOURMI_CHECK(index(group.size()) <= parts.size(), "a sum over {} ranks", group.size());
    send_counts = group.counts(0);
    recv_counts = group.counts(1);
  }
  std::int64_t in_round(int rank, std::int64_t begin) const {
    return std::clamp<std::int64_t>(owners.num_elements(rank) - begin, 0, chunk);
  }
  Tensor send_buffer(std::int64_t begin) const {
    return part(buffer, (begin / chunk) % under_way * 2 * others * chunk, 2 * others * chunk);
  }
  Tensor receive_buffer(std::int64_t begin) const { return part(send_buffer(begin), others * chunk, others * chunk); }

  /// start(begin) gives the request of a round, finish(begin) is called when it has ended. What is done meanwhile is no
  /// time of the transfer.
  template <class Start, class Finish>
  void run(const Stream& stream, Work work, const Start& start, const Finish& finish,
           const std::function<void()>& meanwhile) const {
    std::array<Request, 2> requests;
    std::int64_t begin = 0;
    const auto start_next = [&] {
      if (begin >= owners.most_elements()) return;
      requests[static_cast<std::size_t>(begin / chunk % 2)] = start(begin);
      begin += chunk;
    };
    {
      const OwningSpan span(stream.timeline(), work, "start_rounds");
      for (std::int64_t i = 0; i < under_way; ++i) start_next();
    }
    if (meanwhile) meanwhile();
    const OwningSpan span(stream.timeline(), work, "finish_rounds");
    for (std::int64_t oldest = 0; oldest < begin; oldest += chunk) {
      requests[static_cast<std::size_t>(oldest / chunk % 2)].wait();
      finish(oldest);
      start_next();
    }
  }

  const Ownership& owners;
  std::int64_t element, others, chunk = 0, under_way = 1;
  Tensor buffer;
  std::array<Tensor, 256> parts;  // of a sum
  std::span<std::size_t> send_counts, recv_counts;
};

void reduce_alone(const Stream& stream, const Rounds& rounds, const Tensor& flat, const Tensor& mine, Into into) {
  if (into == Into::write && mine.data == flat.data && mine.dtype == flat.dtype && rounds.owners.is_identity()) return;
  const OwningSpan span(stream.timeline(), Work::reduce, "own_pieces");
  for (const Piece& p : rounds.owners.pieces(0)) {
    const Tensor all = part(flat, p.flat, p.count);
    sum_in_order(stream, std::span(&all, 1), part(mine, p.packed, p.count), into);
  }
}

void reduce(const Stream& stream, Group& group, Rounds& rounds, const Tensor& flat, const Tensor& mine, Into into,
            const std::function<void()>& meanwhile) {
  const int me = group.rank();
  const auto start = [&](std::int64_t begin) {
    const std::int64_t my_count = rounds.in_round(me, begin);
    const Tensor packed_here = rounds.send_buffer(begin);
    std::int64_t sent = 0;
    for (int r = 0; r < group.size(); ++r) {
      rounds.send_counts[index(r)] = rounds.recv_counts[index(r)] = 0;
      if (r == me) continue;
      for_range(rounds.owners.pieces(r), begin, begin + rounds.chunk,
                [&](std::int64_t from, std::int64_t, std::int64_t n) {
                  move(stream, part(flat, from, n), part(packed_here, sent, n));
                  sent += n;
                });
      rounds.send_counts[index(r)] = static_cast<std::size_t>(rounds.in_round(r, begin) * rounds.element);
      rounds.recv_counts[index(r)] = static_cast<std::size_t>(my_count * rounds.element);
    }
    return group.start_all_to_all(bytes(part(packed_here, 0, sent)), rounds.send_counts,
                                  bytes(part(rounds.receive_buffer(begin), 0, my_count * rounds.others)),
                                  rounds.recv_counts);
  };
  const auto finish = [&](std::int64_t begin) {
    const std::int64_t my_count = rounds.in_round(me, begin);
    const Tensor received = rounds.receive_buffer(begin);
    for_range(rounds.owners.pieces(me), begin, begin + rounds.chunk,
              [&](std::int64_t from, std::int64_t packed, std::int64_t n) {
                for (int r = 0; r < group.size(); ++r)
                  rounds.parts[index(r)] =
                      r == me ? part(flat, from, n) : part(received, (r - (r > me)) * my_count + (packed - begin), n);
                sum_in_order(stream, std::span(rounds.parts).first(index(group.size())), part(mine, packed, n), into);
              });
  };
  rounds.run(stream, Work::reduce, start, finish, meanwhile);
}

}  // namespace

Ownership::Ownership(std::vector<std::vector<Piece>> pieces_by_rank) {
  for (auto& list : pieces_by_rank) {
    std::vector<Piece> joined;
    std::int64_t packed = 0;
    for (Piece p : list) {
      FOURMI_CHECK(p.flat >= 0 && p.count >= 0, "a piece of {} elements at {}", p.count, p.flat);
      if (p.count == 0) continue;
      if (!joined.empty() && joined.back().flat + joined.back().count == p.flat) {
        joined.back().count += p.count;
      } else {
        joined.push_back({p.flat, packed, p.count});
      }
      packed += p.count;
    }
    pieces_.push_back(std::move(joined));
    elements_.push_back(packed);
    most_ = std::max(most_, packed);
  }
}

bool Ownership::is_identity() const {
  return pieces_.size() == 1 && (pieces_[0].empty() || (pieces_[0].size() == 1 && pieces_[0][0].flat == 0));
}

std::int64_t scratch_bytes_for(const Ownership& owners, DType dtype) {
  const std::int64_t others = owners.num_ranks() - 1, element = size_of(dtype);
  if (others == 0) return 0;
  const std::int64_t chunk =
      std::min(owners.most_elements(), std::max<std::int64_t>(wanted_bytes / (others * element), 1024));
  return 2 * others * chunk * element;
}

SumRounds sum_rounds(std::int64_t most_elements, std::int64_t scratch_bytes, std::int64_t num_ranks,
                     std::int64_t element_bytes) {
  const std::int64_t fit = scratch_bytes / (2 * (num_ranks - 1) * element_bytes);
  if (fit >= most_elements) return {most_elements, 1};
  return fit < 2 ? SumRounds{fit, 1} : SumRounds{fit / 2, 2};
}

void reduce_scatter(const Stream& stream, Group& group, const Ownership& owners, const Tensor& flat, const Tensor& mine,
                    const Tensor& scratch, Into into, const std::function<void()>& meanwhile) {
  FOURMI_CHECK(into == Into::write || flat.dtype == mine.dtype, "a sum of {} added to {}", name_of(flat.dtype),
               name_of(mine.dtype));
  const bool exact = flat.dtype == DType::fx128 && (mine.dtype == DType::f32 || mine.dtype == DType::f64);
  FOURMI_CHECK((flat.dtype == mine.dtype || exact) &&
                   (exact || flat.dtype == DType::f32 || flat.dtype == DType::f64 || flat.dtype == DType::fx128),
               "a sum of {} into {}", name_of(flat.dtype), name_of(mine.dtype));
  Rounds rounds(group, owners, flat, mine, scratch);
  if (group.size() > 1) return reduce(stream, group, rounds, flat, mine, into, meanwhile);
  reduce_alone(stream, rounds, flat, mine, into);
  if (meanwhile) meanwhile();
}

void all_gather(const Stream& stream, Group& group, const Ownership& owners, const Tensor& mine, const Tensor& flat,
                const Tensor& scratch, const std::function<void()>& meanwhile) {
  FOURMI_CHECK(mine.dtype == flat.dtype, "{} gathered into {}", name_of(mine.dtype), name_of(flat.dtype));
  Rounds rounds(group, owners, flat, mine, scratch);
  const int me = group.rank();
  {
    const OwningSpan span(stream.timeline(), Work::gather, "own_pieces");
    for (const Piece& p : owners.pieces(me)) move(stream, part(mine, p.packed, p.count), part(flat, p.flat, p.count));
  }
  if (group.size() == 1) {
    if (meanwhile) meanwhile();
    return;
  }
  const auto start = [&](std::int64_t begin) {
    std::int64_t total = 0;
    for (int r = 0; r < group.size(); ++r) {
      rounds.recv_counts[index(r)] = static_cast<std::size_t>(rounds.in_round(r, begin) * rounds.element);
      total += rounds.in_round(r, begin);
    }
    // My own part is already in place: it travels from my packed buffer, and its slot in the scratch is not used.
    return group.start_all_gather_v(bytes(part(mine, begin, rounds.in_round(me, begin))),
                                    bytes(part(rounds.send_buffer(begin), 0, total)), rounds.recv_counts);
  };
  const auto finish = [&](std::int64_t begin) {
    std::int64_t place = 0;
    for (int r = 0; r < group.size(); ++r) {
      if (r != me)
        for_range(owners.pieces(r), begin, begin + rounds.chunk,
                  [&](std::int64_t to, std::int64_t packed, std::int64_t n) {
                    move(stream, part(rounds.send_buffer(begin), place + packed - begin, n), part(flat, to, n));
                  });
      place += rounds.in_round(r, begin);
    }
  };
  rounds.run(stream, Work::gather, start, finish, meanwhile);
}

void all_sum_ordered(Group& group, std::span<double> values) {
  if (group.size() == 1 || values.empty()) return;
  std::vector<double> all(values.size() * index(group.size()));
  group.all_gather(std::as_bytes(values), std::as_writable_bytes(std::span(all)));
  std::copy_n(all.begin(), values.size(), values.begin());
  for (std::size_t r = 1; r < index(group.size()); ++r)
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += all[r * values.size() + i];
}

}  // namespace fourmi

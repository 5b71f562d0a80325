#include "parallel/ordered_sum.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/numerics/fixed128.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

// In flight per direction. Of 1 to 64 MiB, 2 and 4 were fastest (4 ranks on 2 busy cores).
constexpr std::int64_t wanted_bytes = 4 << 20;
constexpr std::int64_t block = 512;  // elements summed at a time, so that the running sum stays in L1

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
    buffer = static_cast<std::byte*>(scratch.data);
    send_counts = group.counts(0);
    recv_counts = group.counts(1);
  }
  std::int64_t in_round(int rank, std::int64_t begin) const {
    return std::clamp<std::int64_t>(owners.num_elements(rank) - begin, 0, chunk);
  }
  std::byte* send_buffer(std::int64_t begin) const {
    return buffer + (begin / chunk) % under_way * 2 * others * chunk * element;
  }
  std::byte* receive_buffer(std::int64_t begin) const { return send_buffer(begin) + others * chunk * element; }

  /// start(begin) gives the request of a round, finish(begin) is called when it has ended.
  template <class Start, class Finish>
  void run(const Start& start, const Finish& finish) const {
    std::array<Request, 2> requests;
    const auto end = [&](std::int64_t begin) {
      requests[static_cast<std::size_t>(begin / chunk % 2)].wait();
      finish(begin);
    };
    std::int64_t begin = 0, oldest = 0;
    for (; begin < owners.most_elements(); begin += chunk) {
      requests[static_cast<std::size_t>(begin / chunk % 2)] = start(begin);
      if ((begin - oldest) / chunk + 1 < under_way) continue;
      end(oldest);
      oldest += chunk;
    }
    for (; oldest < begin; oldest += chunk) end(oldest);
  }

  const Ownership& owners;
  std::int64_t element, others, chunk = 0, under_way = 1;
  std::byte* buffer = nullptr;
  std::span<std::size_t> send_counts, recv_counts;
};

const std::byte* at(const Tensor& t, std::int64_t i) {
  return static_cast<const std::byte*>(t.data) + i * size_of(t.dtype);
}
std::byte* at_mutable(const Tensor& t, std::int64_t i) {
  return static_cast<std::byte*>(t.data) + i * size_of(t.dtype);
}

void copy_bytes(std::byte* to, const std::byte* from, std::int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

template <class T>
T add(T a, T b) {
  if constexpr (sizeof(T) == 16) {
    return static_cast<T>(static_cast<uint128>(a) + static_cast<uint128>(b));
  } else {
    return a + b;
  }
}

template <class In, class Out>
Out convert_sum(In x) {
  if constexpr (std::is_same_v<In, Out>) {
    return x;
  } else {
    return from_fixed128<Out>(x);
  }
}

// out[i] = row(0)[i] + row(1)[i] + ... in this order; row(r) points at rank r's elements. With Into::add the sum is
// added to out[i].
template <class In, class Out, class Row>
void sum_rows(int num_rows, const Row& row, std::int64_t n, Out* out, Into into) {
  In sum[block];
  for (std::int64_t i0 = 0; i0 < n; i0 += block) {
    const std::int64_t m = std::min(block, n - i0);
    std::copy_n(row(0) + i0, m, sum);
    for (int r = 1; r < num_rows; ++r) {
      const In* next = row(r) + i0;
      for (std::int64_t i = 0; i < m; ++i) sum[i] = add(sum[i], next[i]);
    }
    if constexpr (std::is_same_v<In, Out>)
      if (into == Into::add)
        for (std::int64_t i = 0; i < m; ++i) sum[i] = add(out[i0 + i], sum[i]);
    for (std::int64_t i = 0; i < m; ++i) out[i0 + i] = convert_sum<In, Out>(sum[i]);
  }
}

template <class In, class Out>
void reduce_typed(Group& group, Rounds& rounds, const Tensor& flat, const Tensor& mine, Into into) {
  const int me = group.rank();
  const auto* flat_data = static_cast<const In*>(flat.data);
  auto* out = static_cast<Out*>(mine.data);
  if (group.size() == 1) {
    if (into == Into::write && mine.data == flat.data && mine.dtype == flat.dtype && rounds.owners.is_identity())
      return;
    for (const Piece& p : rounds.owners.pieces(0))
      sum_rows<In, Out>(
          1, [&](int) { return flat_data + p.flat; }, p.count, out + p.packed, into);
    return;
  }
  const auto start = [&](std::int64_t begin) {
    const std::int64_t my_count = rounds.in_round(me, begin);
    std::byte* packed_here = rounds.send_buffer(begin);
    std::int64_t sent = 0;
    for (int r = 0; r < group.size(); ++r) {
      rounds.send_counts[index(r)] = rounds.recv_counts[index(r)] = 0;
      if (r == me) continue;
      for_range(rounds.owners.pieces(r), begin, begin + rounds.chunk,
                [&](std::int64_t from, std::int64_t, std::int64_t n) {
                  copy_bytes(packed_here + sent * rounds.element, at(flat, from), n * rounds.element);
                  sent += n;
                });
      rounds.send_counts[index(r)] = static_cast<std::size_t>(rounds.in_round(r, begin) * rounds.element);
      rounds.recv_counts[index(r)] = static_cast<std::size_t>(my_count * rounds.element);
    }
    return group.start_all_to_all(
        {packed_here, static_cast<std::size_t>(sent * rounds.element)}, rounds.send_counts,
        {rounds.receive_buffer(begin), static_cast<std::size_t>(my_count * rounds.others * rounds.element)},
        rounds.recv_counts);
  };
  rounds.run(start, [&](std::int64_t begin) {
    const std::int64_t my_count = rounds.in_round(me, begin);
    const auto* received = reinterpret_cast<const In*>(rounds.receive_buffer(begin));
    for_range(rounds.owners.pieces(me), begin, begin + rounds.chunk,
              [&](std::int64_t from, std::int64_t packed, std::int64_t n) {
                const auto row = [&](int r) {
                  return r == me ? flat_data + from : received + (r - (r > me)) * my_count + (packed - begin);
                };
                sum_rows<In, Out>(group.size(), row, n, out + packed, into);
              });
  });
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

void reduce_scatter(Group& group, const Ownership& owners, const Tensor& flat, const Tensor& mine,
                    const Tensor& scratch, Into into) {
  FOURMI_CHECK(into == Into::write || flat.dtype == mine.dtype, "a sum of {} added to {}", name_of(flat.dtype),
               name_of(mine.dtype));
  Rounds rounds(group, owners, flat, mine, scratch);
  const auto is = [&](DType in, DType out) { return flat.dtype == in && mine.dtype == out; };
  if (is(DType::f32, DType::f32)) return reduce_typed<float, float>(group, rounds, flat, mine, into);
  if (is(DType::f64, DType::f64)) return reduce_typed<double, double>(group, rounds, flat, mine, into);
  if (is(DType::fx128, DType::fx128)) return reduce_typed<int128, int128>(group, rounds, flat, mine, into);
  if (is(DType::fx128, DType::f32)) return reduce_typed<int128, float>(group, rounds, flat, mine, into);
  if (is(DType::fx128, DType::f64)) return reduce_typed<int128, double>(group, rounds, flat, mine, into);
  FOURMI_CHECK(false, "a sum of {} into {}", name_of(flat.dtype), name_of(mine.dtype));
}

void all_gather(Group& group, const Ownership& owners, const Tensor& mine, const Tensor& flat, const Tensor& scratch) {
  FOURMI_CHECK(mine.dtype == flat.dtype, "{} gathered into {}", name_of(mine.dtype), name_of(flat.dtype));
  Rounds rounds(group, owners, flat, mine, scratch);
  const int me = group.rank();
  for (const Piece& p : owners.pieces(me))
    copy_bytes(at_mutable(flat, p.flat), at(mine, p.packed), p.count * rounds.element);
  if (group.size() == 1) return;
  const auto start = [&](std::int64_t begin) {
    std::int64_t total = 0;
    for (int r = 0; r < group.size(); ++r) {
      rounds.recv_counts[index(r)] = static_cast<std::size_t>(rounds.in_round(r, begin) * rounds.element);
      total += rounds.in_round(r, begin);
    }
    // My own part is already in place: it travels from my packed buffer, and its slot in the scratch is not used.
    return group.start_all_gather_v({at(mine, begin), rounds.recv_counts[index(me)]},
                                    {rounds.send_buffer(begin), static_cast<std::size_t>(total * rounds.element)},
                                    rounds.recv_counts);
  };
  rounds.run(start, [&](std::int64_t begin) {
    std::int64_t place = 0;
    for (int r = 0; r < group.size(); ++r) {
      if (r != me)
        for_range(
            owners.pieces(r), begin, begin + rounds.chunk, [&](std::int64_t to, std::int64_t packed, std::int64_t n) {
              copy_bytes(at_mutable(flat, to), rounds.send_buffer(begin) + (place + packed - begin) * rounds.element,
                         n * rounds.element);
            });
      place += rounds.in_round(r, begin);
    }
  });
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

// The memory of a rank that its peers write to: counts, rings' tails and slots, and heads of the rings that lead away.
// All ranks lay it out alike, so that one base address a peer is enough. For host and device alike.
//
// Shapes   P ranks   C channels: a rank's tokens are cut into so many runs, each with rings of its own to every rank
#pragma once

#include "kernels/exchange/ring.h"

namespace fourmi::exchange {

/// The two ways of rows: to the ranks that hold their experts, and what those made of them back.
enum class Way : std::uint8_t { dispatch, combine };

struct WindowSizes {
  int num_ranks = 1, num_channels = 1;
  std::int64_t most_counts = 1;  ///< of a pair in one announcement
  RingShape dispatch, combine;   ///< of each ring
};

/// Places in a window, in bytes from its beginning (a multiple of 128).
class Window {
 public:
  static constexpr std::int64_t alignment = 128;

  FOURMI_INLINE constexpr Window() {}
  FOURMI_INLINE constexpr explicit Window(const WindowSizes& sizes) : sizes_(sizes) {}

  FOURMI_INLINE constexpr const WindowSizes& sizes() const { return sizes_; }
  FOURMI_INLINE constexpr const RingShape& shape(Way way) const {
    return way == Way::dispatch ? sizes_.dispatch : sizes_.combine;
  }
  /// What `from` announced, in announcements of even or odd number.
  FOURMI_INLINE constexpr std::int64_t counts(std::uint64_t number, int from) const {
    return (static_cast<std::int64_t>(number % 2) * sizes_.num_ranks + from) * counts_bytes();
  }
  /// Written by `from`: rows that it put into the ring from it to this rank.
  FOURMI_INLINE constexpr std::int64_t tail(Way way, int from, int channel) const {
    return flags() + (2 * ring(way, from, channel)) * flag_bytes;
  }
  /// Written by `to`: rows that it took from the ring from this rank to it.
  FOURMI_INLINE constexpr std::int64_t head(Way way, int to, int channel) const {
    return flags() + (2 * ring(way, to, channel) + 1) * flag_bytes;
  }
  FOURMI_INLINE constexpr std::int64_t slots(Way way, int from, int channel) const {
    const std::int64_t before = way == Way::dispatch ? 0 : num_rings() * ring_bytes(Way::dispatch);
    return zeroed_bytes() + before + (ring(Way::dispatch, from, channel)) * ring_bytes(way);
  }
  FOURMI_INLINE constexpr std::int64_t bytes() const {
    return zeroed_bytes() + num_rings() * (ring_bytes(Way::dispatch) + ring_bytes(Way::combine));
  }
  /// What is zero before the first call; the rest may be anything.
  FOURMI_INLINE constexpr std::int64_t zeroed_bytes() const { return flags() + 4 * num_rings() * flag_bytes; }

 private:
  static constexpr std::int64_t flag_bytes = 128;  // a line of its own, so that who polls one is left alone by others
  FOURMI_INLINE constexpr std::int64_t num_rings() const {
    return std::int64_t{sizes_.num_ranks} * sizes_.num_channels;
  }
  FOURMI_INLINE constexpr std::int64_t ring(Way way, int peer, int channel) const {
    return (way == Way::dispatch ? 0 : num_rings()) + std::int64_t{peer} * sizes_.num_channels + channel;
  }
  FOURMI_INLINE constexpr std::int64_t ring_bytes(Way way) const {
    const std::int64_t bytes = shape(way).num_slots * shape(way).slot_bytes;
    return (bytes + alignment - 1) / alignment * alignment;
  }
  FOURMI_INLINE constexpr std::int64_t counts_bytes() const {
    return (sizes_.most_counts * 8 + alignment - 1) / alignment * alignment;
  }
  FOURMI_INLINE constexpr std::int64_t flags() const { return 2 * sizes_.num_ranks * counts_bytes(); }

  WindowSizes sizes_;
};

/// The windows of all ranks, as this one reaches them.
struct Peers {
  std::byte* const* base = nullptr;  ///< [P]
  Window window;
  int rank = 0;

  template <class T>
  FOURMI_INLINE T* at(int owner, std::int64_t place) const {
    return reinterpret_cast<T*>(base[owner] + place);
  }
  /// From this rank to `to`, as the writer sees it.
  FOURMI_INLINE Ring to(Way way, int to, int channel) const {
    return {at<std::byte>(to, window.slots(way, rank, channel)), at<std::uint64_t>(to, window.tail(way, rank, channel)),
            at<std::uint64_t>(rank, window.head(way, to, channel))};
  }
  /// From `from` to this rank, as the reader sees it.
  FOURMI_INLINE Ring from(Way way, int from, int channel) const {
    return {at<std::byte>(rank, window.slots(way, from, channel)),
            at<std::uint64_t>(rank, window.tail(way, from, channel)),
            at<std::uint64_t>(from, window.head(way, rank, channel))};
  }
};

}  // namespace fourmi::exchange

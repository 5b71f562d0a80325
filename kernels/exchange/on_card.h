// Rows to other ranks and their results back, moved by kernels of a card without the host: what one rank's stream does
// with its window (window.h) and those of its peers. No call here waits for the device, and no number comes to the
// host: how many rows arrive stays on the device. Of a GPU it is kernels/cuda/exchange.
//
// Shapes   M tokens   P ranks   C channels   U rows that arrive   D columns
#pragma once

#include <chrono>
#include <memory>
#include <span>

#include "kernels/exchange/lanes.h"
#include "kernels/runtime/device.h"
#include "kernels/runtime/tensor.h"

namespace fourmi::exchange {

/// Who goes where in one micro-batch, on the device; made by count(), used by each dispatch and combine of it. Rows of
/// a rank and channel are neighbours, ranks ascend, and in a rank its channels.
struct CardRoute {
  Tensor sent;      ///< i32 [P * C] rows to each rank and channel
  Tensor received;  ///< i32 [P * C] rows from each
  Tensor first;     ///< i32 [P * C + 1]: of what arrives, the first row of each; behind them U
};

struct CardExchangeOptions {
  std::chrono::nanoseconds patience{
      0};  ///< a peer that sends nothing for longer, or takes nothing for twice as long, is lost; 0: for ever
};

class CardExchange {
 public:
  static constexpr int most_ranks = 16, most_channels = 512;

  virtual ~CardExchange() = default;

  /// Counts tokens `run` of experts_MK (of `tokens`; the rest of it is not used), once for each rank that they go to,
  /// tells all ranks, and hears from them. Of a plan with several rounds all share one `announcement` (the next number,
  /// from 1). All ranks make the same calls, in the same order.
  virtual void count(const Tokens& tokens, TokenRun run, std::uint64_t announcement, int round,
                     const CardRoute& route) = 0;
  /// Sends the rows of `run` and writes those that arrive. Pointers are the device's.
  virtual void dispatch(const Tokens& tokens, TokenRun run, const CardRoute& route, const ArrivingRows& into) = 0;
  /// Sends back partial_UD (f32 or f64) and writes y_MD of `run`: round(tree over ranks + first + second), as
  /// sum_copies() does (kernels/ops/dispatch_rows.h), by the experts of `tokens`.
  virtual void combine(const Tokens& tokens, TokenRun run, const CardRoute& route, const Tensor& partial_UD,
                       const Tensor& y_MD, const Tensor& first_MD, const Tensor& second_MD) = 0;
  /// Throws Error(rank_lost) that names a peer and the flag that it should have written, if a kernel gave up, and
  /// Error(bug) if more rows came than ArrivingRows::capacity; may be asked at any time. After that nothing that the
  /// kernels wrote is good, here and on ranks that got some of it: all ranks ask before they keep anything of a step.
  virtual void check() const = 0;
};

/// What a device's runtime also is whose streams can do that.
class CardExchangeMaker {
 public:
  virtual ~CardExchangeMaker() = default;
  virtual int num_multiprocessors() const = 0;
  /// As make_card_exchange; the stream is of this device.
  virtual std::unique_ptr<CardExchange> make_exchange(DeviceStream& stream, std::span<std::byte* const> bases,
                                                      const Window& window, int rank,
                                                      const CardExchangeOptions& options) = 0;
};

/// Of the stream's device. Throws Error(environment) where it is none of the above.
int num_multiprocessors(const DeviceStream& stream);

/// bases: [P] this rank's and its peers' windows, as this card reaches them; a window is zeroed before any rank begins.
/// Calls go to the stream, in order. Where ranks share a card nobody may wait for all of it (DeviceRuntime's allocate,
/// release, read, write) while kernels of some ranks wait for others': streams alone are waited for. Collective:
/// windows and exchanges live until all ranks' streams have ended. Throws Error(usage) for a window that the kernels do
/// not take, Error(environment) for a device without such kernels.
std::unique_ptr<CardExchange> make_card_exchange(DeviceStream& stream, std::span<std::byte* const> bases,
                                                 const Window& window, int rank, const CardExchangeOptions& options);

}  // namespace fourmi::exchange

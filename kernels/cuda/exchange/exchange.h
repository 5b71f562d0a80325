// The exchange of a GPU (kernels/exchange/on_card.h).
#pragma once

#include "kernels/exchange/on_card.h"

namespace fourmi::cuda {

/// As exchange::make_card_exchange, of a CudaStream.
std::unique_ptr<exchange::CardExchange> make_exchange(DeviceStream& stream, std::span<std::byte* const> bases,
                                                      const exchange::Window& window, int rank,
                                                      const exchange::CardExchangeOptions& options);

}  // namespace fourmi::cuda

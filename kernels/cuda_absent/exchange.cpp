#include "kernels/exchange/on_card.h"
#include "kernels/runtime/error.h"

namespace fourmi::exchange {

int num_multiprocessors(const DeviceStream&) {
  return 0;
}

std::unique_ptr<CardExchange> make_card_exchange(DeviceStream&, std::span<std::byte* const>, const Window&, int,
                                                 const CardExchangeOptions&) {
  throw Error(ExitStatus::environment, "parallel.dispatcher", "this build has no CUDA", "Build with FOURMI_CUDA");
}

}  // namespace fourmi::exchange

#include "kernels/exchange/on_card.h"

#include "kernels/runtime/error.h"

namespace fourmi::exchange {

namespace {
CardExchangeMaker& maker_of(const DeviceStream& stream) {
  auto* const maker = dynamic_cast<CardExchangeMaker*>(&stream.runtime());
  if (!maker)
    throw Error(ExitStatus::environment, "parallel.dispatcher",
                fmt::format("found device on {}, which has no kernels that write to its peers' memory, expected a GPU "
                            "that has",
                            stream.runtime().name()),
                "Choose all-to-all or hierarchical, which give the same bits");
  return *maker;
}
}  // namespace

int num_multiprocessors(const DeviceStream& stream) {
  return maker_of(stream).num_multiprocessors();
}

std::unique_ptr<CardExchange> make_card_exchange(DeviceStream& stream, std::span<std::byte* const> bases,
                                                 const Window& window, int rank, const CardExchangeOptions& options) {
  return maker_of(stream).make_exchange(stream, bases, window, rank, options);
}

}  // namespace fourmi::exchange

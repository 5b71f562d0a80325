#include "kernels/cuda/profiler/nvtx_ranges.h"

#include <nvtx3/nvToolsExt.h>

#include <string>

namespace fourmi::cuda {

namespace {

class NvtxRanges final : public SpanObserver {
 public:
  explicit NvtxRanges(nvtxDomainHandle_t domain) : domain_(domain) {
    for (std::uint32_t i = 0; i < num_works; ++i)
      nvtxDomainNameCategoryA(domain_, category(static_cast<Work>(i)),
                              std::string(name_of(static_cast<Work>(i))).c_str());
  }
  void opened(Work work, const char* name, std::int32_t layer) override {
    nvtxEventAttributes_t range{};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.category = category(work);
    range.messageType = NVTX_MESSAGE_TYPE_ASCII;
    range.message.ascii = name;
    if (layer >= 0) {
      range.payloadType = NVTX_PAYLOAD_TYPE_INT32;
      range.payload.iValue = layer;
    }
    nvtxDomainRangePushEx(domain_, &range);
  }
  void closed() override { nvtxDomainRangePop(domain_); }

 private:
  static std::uint32_t category(Work work) { return static_cast<std::uint32_t>(work) + 1; }  // 0 is none
  nvtxDomainHandle_t domain_;
};

}  // namespace

SpanObserver* nvtx_ranges() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("fourmi");  // null: no profiler took it
  static NvtxRanges ranges(domain);
  return domain ? &ranges : nullptr;
}

}  // namespace fourmi::cuda

// A tensor as the host sees it: itself where its memory is the host's, else a copy. For what is done once (a start, a
// load, a search for what went wrong) and for small tables; a step's work stays on the device.
#pragma once

#include <vector>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

class OnHost {
 public:
  enum class Use : std::uint8_t {
    read,  ///< the contents are brought
    fill,  ///< all of them are written here, then back() is called
    both
  };
  /// `device`: where the tensor is if it is not the host's. After all work that streams were given before.
  OnHost(DeviceRuntime* device, const Tensor& tensor, Use use = Use::read) : device_(device), tensor_(tensor) {
    bring(tensor, use);
  }
  /// After the stream's work alone: other ranks that share the device may have kernels there that wait for this one.
  OnHost(const Stream& stream, const Tensor& tensor, Use use = Use::read) : stream_(stream.device()), tensor_(tensor) {
    bring(tensor, use);
  }
  OnHost(const OnHost&) = delete;
  OnHost& operator=(const OnHost&) = delete;

  const Tensor& tensor() const { return tensor_; }
  /// What was written goes to the device.
  void back() const {
    if (!there_) return;
    if (device_) return device_->write(there_, copy_.data(), tensor_.bytes());
    stream_->write(there_, copy_.data(), tensor_.bytes());
    stream_->synchronize();  // the copy may go
  }

 private:
  void bring(const Tensor& tensor, Use use) {
    if (tensor.device == Device::cpu) return;
    FOURMI_CHECK(device_ || stream_, "a tensor of a device that is not there");
    copy_.resize(static_cast<std::size_t>(tensor.bytes()));
    if (use != Use::fill && device_) device_->read(copy_.data(), tensor.data, tensor.bytes());
    if (use != Use::fill && stream_) stream_->read(copy_.data(), tensor.data, tensor.bytes());
    tensor_ = Tensor(copy_.data(), tensor.dtype, tensor.shape);
    there_ = tensor.data;
  }

  DeviceRuntime* device_ = nullptr;
  DeviceStream* stream_ = nullptr;
  Tensor tensor_;
  std::vector<std::byte> copy_;
  void* there_ = nullptr;
};

}  // namespace fourmi

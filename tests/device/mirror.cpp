#include "tests/device/mirror.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/runtime/cuda_devices.h"
#include "tests/device/arguments.h"

namespace fourmi::test {
namespace {

/// Host memory [begin, end) and where it is on the card, at an address that is aligned as the host's is. Behind it lies
/// poison, which nothing may change.
struct Piece {
  std::byte *begin, *end;
  void *memory = nullptr, *device = nullptr;
};
constexpr std::int64_t guard = 256;

class Mirror final : public DeviceStream {
 public:
  Mirror() : runtime_(open_cuda_device(0)), stream_(runtime_->make_stream()) {}
  ~Mirror() override {
    for (const auto& [memory, bytes] : free_) runtime_->release(memory);
  }
  void synchronize() override { stream_->synchronize(); }
  std::unique_ptr<DeviceEvent> make_event() override { return stream_->make_event(); }
  std::unique_ptr<DeviceClock> make_clock() override { return stream_->make_clock(); }
  DeviceRuntime& runtime() const override { return *runtime_; }
  const Operations& operations() const override;
  void copy(void* to, const void* from, std::int64_t bytes) override { stream_->copy(to, from, bytes); }
  void read(void* host, const void* device, std::int64_t bytes) override { stream_->read(host, device, bytes); }
  void write(void* device, const void* host, std::int64_t bytes) override { stream_->write(device, host, bytes); }
  void* native() const override { return stream_->native(); }

  DeviceStream& card() { return *stream_; }

  /// Of all tensors of a call. What overlaps on the host does so on the card.
  class Call {
   public:
    Call(Mirror& mirror, const Stream& stream) : mirror_(mirror), card_(mirror.card(), stream.pool()) {}
    const Stream& stream() const { return card_; }
    void add(const Tensor& t) {
      auto* const p = static_cast<std::byte*>(t.data);
      if (t && p != nullptr) add(p, p + t.bytes());
    }
    void add(std::byte* begin, std::byte* end) {
      for (std::size_t i = 0; i < pieces_.size();) {
        Piece& other = pieces_[i];
        if (begin > other.end || end < other.begin) {
          ++i;
          continue;
        }
        begin = std::min(begin, other.begin), end = std::max(end, other.end);
        pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(i));
        i = 0;
      }
      pieces_.push_back({begin, end});
    }
    void send() {
      for (Piece& p : pieces_) {
        const std::int64_t n = p.end - p.begin;
        p.memory = mirror_.take(n + 3 * guard);
        p.device = static_cast<std::byte*>(p.memory) + reinterpret_cast<std::uintptr_t>(p.begin) % guard;
        mirror_.runtime_->fill(p.memory, 0xff, n + 3 * guard);
        move(p.begin, Device::cpu, p.device, Device::cuda, n);
      }
      card_.synchronize();
    }
    void* at(const void* host) const {
      const auto* const h = static_cast<const std::byte*>(host);
      for (const Piece& p : pieces_)
        if (p.begin <= h && h <= p.end) return static_cast<std::byte*>(p.device) + (h - p.begin);
      return nullptr;
    }
    void place(Tensor& t) const {
      if (!t || t.data == nullptr) {
        t.device = Device::cuda;
        return;
      }
      t.data = at(t.data);
      t.device = Device::cuda;
    }
    void bring_back() {
      for (Piece& p : pieces_) {
        const std::int64_t n = p.end - p.begin;
        move(p.device, Device::cuda, p.begin, Device::cpu, n);
        std::vector<std::byte> behind(guard);
        move(static_cast<std::byte*>(p.device) + n, Device::cuda, behind.data(), Device::cpu, guard);
        card_.synchronize();
        for (std::byte b : behind) FOURMI_CHECK(b == std::byte{0xff}, "written behind a tensor's end on the card");
      }
      mirror_.came_back();
    }
    ~Call() {
      for (Piece& p : pieces_)
        if (p.memory) mirror_.give_back(p.memory);
    }

   private:
    void move(void* from, Device from_device, void* to, Device to_device, std::int64_t n) {
      if (n == 0) return;
      fourmi::copy(card_, Tensor(from, DType::u8, {n}, from_device), Tensor(to, DType::u8, {n}, to_device));
    }
    Mirror& mirror_;
    Stream card_;
    std::vector<Piece> pieces_;
  };

 private:
  /// A line now and then, for who waits (fourmi gpu-check): a test of many small calls may take the host minutes to
  /// judge, and what hangs is a call that does not come back.
  void came_back() {
    constexpr std::chrono::seconds between{5};
    ++calls_;
    const auto now = std::chrono::steady_clock::now();
    if (now - told_ < between) return;
    told_ = now;
    std::printf("%lld calls have come back from the card\n", static_cast<long long>(calls_));
    std::fflush(stdout);
  }
  void* take(std::int64_t bytes) {
    for (std::size_t i = 0; i < free_.size(); ++i)
      if (free_[i].second >= bytes) {
        void* const p = free_[i].first;
        taken_.push_back(free_[i]);
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
        return p;
      }
    taken_.emplace_back(runtime_->allocate(bytes, "a test"), bytes);
    return taken_.back().first;
  }
  void give_back(void* p) {
    const auto at = std::find_if(taken_.begin(), taken_.end(), [p](const auto& t) { return t.first == p; });
    free_.push_back(*at);
    taken_.erase(at);
  }

  std::unique_ptr<DeviceRuntime> runtime_;
  std::unique_ptr<DeviceStream> stream_;
  std::vector<std::pair<void*, std::int64_t>> free_, taken_;
  std::chrono::steady_clock::time_point told_ = std::chrono::steady_clock::now();
  std::int64_t calls_ = 0;
};

/// A table of the host that operations take as a pointer: Cuts::row_token. Its length is not known here; the tests that
/// run on a card give none.
template <class T>
void check_host_tables(const T&) {}
void check_host_tables(const Cuts& cuts) {
  FOURMI_CHECK(cuts.row_token == nullptr, "cuts of mode layout on a card");
}

template <class Signature, auto slot>
struct Mirrored;
template <class R, class... A, auto slot>
struct Mirrored<R(const Stream&, A...), slot> {
  static R call(const Stream& stream, A... arguments) {
    (check_host_tables(arguments), ...);
    auto& mirror = static_cast<Mirror&>(*stream.device());
    return apply(mirror, stream, Held<std::remove_cvref_t<A>>(arguments)...);
  }

 private:
  template <class... H>
  static R apply(Mirror& mirror, const Stream& stream, H... held) {
    Mirror::Call call(mirror, stream);
    (held.visit([&](Tensor& t) { call.add(t); }), ...);
    call.send();
    (held.visit([&](Tensor& t) { call.place(t); }), ...);
    const Operations& card = mirror.card().operations();
    if constexpr (std::is_void_v<R>) {
      (card.*slot)(call.stream(), held.get()...);
      call.bring_back();
    } else {
      const R result = (card.*slot)(call.stream(), held.get()...);
      call.bring_back();
      return result;
    }
  }
};

const Operations& Mirror::operations() const {
  static const Operations table = [] {
    Operations t;
#define FOURMI_ONE(name) t.name.function = Mirrored<decltype(fourmi::name), &Operations::name>::call;
#define FOURMI_FORM(slot, name, ...) t.slot.function = Mirrored<__VA_ARGS__, &Operations::slot>::call;
    FOURMI_OPERATIONS(FOURMI_ONE, FOURMI_FORM)
#undef FOURMI_ONE
#undef FOURMI_FORM
    return t;
  }();
  return table;
}

}  // namespace

DeviceStream* mirrored_device(std::string* why) {
  static const CudaDevices found = find_cuda_devices();
  if (why) *why = found.trouble;
  if (found.count == 0) return nullptr;
  static Mirror mirror;
  return &mirror;
}

}  // namespace fourmi::test

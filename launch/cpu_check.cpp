// The program is compiled for x86-64-v3 (AVX2 and its company). On an older processor it would end somewhere with
// "illegal instruction"; this file, which is compiled for any x86-64, says so first. It stands in .preinit_array, which
// the loader runs before the constructors of shared libraries: those may already call template code of ours.
#include <cpuid.h>
#include <unistd.h>

namespace {

/// Text without any library: nothing else has been initialised.
class Text {
 public:
  void add(const char* part) {
    while (*part != '\0' && size_ < sizeof text_) text_[size_++] = *part++;
  }
  void add_feature(bool present, const char* name) {
    if (present) return;
    if (size_before_features_ != 0 && size_ != size_before_features_) add(", ");
    if (size_before_features_ == 0) size_before_features_ = size_;
    add(name);
  }
  bool any_missing() const { return size_before_features_ != 0; }
  void print() const {
    if (::write(STDERR_FILENO, text_, size_) < 0) ::_exit(3);
  }

 private:
  char text_[512];
  unsigned long size_ = 0, size_before_features_ = 0;
};

/// Does the operating system keep the AVX registers of a process? (XCR0 bits 1 and 2)
bool keeps_avx_registers(bool os_uses_xsave) {
  if (!os_uses_xsave) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 6U) == 6U;
}

void check_processor() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  unsigned features = 0, more_features = 0, amd_features = 0;
  if (__get_cpuid(1, &a, &b, &c, &d)) features = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) more_features = b;
  if (__get_cpuid(0x80000001U, &a, &b, &c, &d)) amd_features = c;

  const bool avx = (features & bit_AVX) != 0 && keeps_avx_registers((features & bit_OSXSAVE) != 0);
  Text text;
  text.add("fourmi: error: processor: it lacks ");
  text.add_feature(avx, "AVX");
  text.add_feature(avx && (more_features & bit_AVX2) != 0, "AVX2");
  text.add_feature(avx && (features & bit_FMA) != 0, "FMA");
  text.add_feature(avx && (features & bit_F16C) != 0, "F16C");
  text.add_feature((more_features & bit_BMI) != 0, "BMI1");
  text.add_feature((more_features & bit_BMI2) != 0, "BMI2");
  text.add_feature((amd_features & bit_ABM) != 0, "LZCNT");
  text.add_feature((features & bit_MOVBE) != 0, "MOVBE");
  if (!text.any_missing()) return;
  text.add(
      ", expected an x86-64 processor with AVX2 (x86-64-v3: Intel since 2013, AMD since 2015). Use another "
      "machine\n");
  text.print();
  ::_exit(3);
}

__attribute__((section(".preinit_array"), used)) void (*const check_first)() = check_processor;

}  // namespace

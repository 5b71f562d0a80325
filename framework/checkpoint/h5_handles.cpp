#include "framework/checkpoint/h5_handles.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "framework/checkpoint/h5_exit.h"

namespace fourmi {

void keep_hdf5_out_of_exit() {
  H5dont_atexit();
}

}  // namespace fourmi

namespace fourmi::h5 {

namespace {

/// Takes as much as the library may need, in small pieces (of this thread's heap) and in a large one (of its own
/// mapping), and gives it back. Another thread may take it then: this makes the library's crash unlikely, not
/// impossible (launch/exit_guard.h says the rest).
void prove_memory(std::size_t num_datasets) {
  // Its cache of metadata is 2 MiB in the beginning and 32 at most.
  constexpr std::size_t piece = 64 << 10, least = 6 << 20, most = 48 << 20, of_a_dataset = 8 << 10, mapped = 16 << 20;
  struct Back {
    void operator()(void* p) const { ::operator delete(p); }
  };
  // The functions, not new-expressions: the compiler may leave out those.
  const std::unique_ptr<void, Back> large(::operator new(mapped));
  std::vector<std::unique_ptr<void, Back>> pieces(std::min(most, least + of_a_dataset * num_datasets) / piece);
  for (auto& p : pieces) p.reset(::operator new(piece));
}

}  // namespace

Session::Session(std::size_t num_datasets) {
  static std::mutex one_user;
  lock_ = std::unique_lock(one_user);
  prove_memory(num_datasets);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

Handle file_type(DType dtype) {
  const auto copy = [](hid_t type) { return Handle(H5Tcopy(type), H5Tclose); };
  switch (dtype) {
    case DType::f64:
      return copy(H5T_IEEE_F64LE);
    case DType::f32:
      return copy(H5T_IEEE_F32LE);
    case DType::i64:
      return copy(H5T_STD_I64LE);
    case DType::i32:
      return copy(H5T_STD_I32LE);
    case DType::u8:
      return copy(H5T_STD_U8LE);
    case DType::bf16: {
      Handle type = copy(H5T_IEEE_F32LE);
      FOURMI_CHECK(H5Tset_fields(type, 15, 7, 8, 0, 7) >= 0 && H5Tset_precision(type, 16) >= 0 &&
                   H5Tset_size(type, 2) >= 0 && H5Tset_ebias(type, 127) >= 0);
      return type;
    }
    case DType::fx128:
    case DType::e4m3_rows:
    case DType::e4m3_panels:
    case DType::mxe4m3_rows:
      break;
  }
  FOURMI_CHECK(false, "a dataset of {}", name_of(dtype));
  return Handle(-1, H5Tclose);
}

Handle access_list() {
  Handle list(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  FOURMI_CHECK(list && H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V110) >= 0 &&
               H5Pset_file_locking(list, false, true) >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0);
  return list;
}

}  // namespace fourmi::h5

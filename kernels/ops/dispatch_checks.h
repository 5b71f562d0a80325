// What the operations of dispatch_rows.h ask of their arguments, on the CPU and on a device. For those who implement
// them.
#pragma once

#include "kernels/ops/dispatch_rows.h"
#include "kernels/runtime/error.h"

namespace fourmi {

inline void check_spread(const Tensor& rows_T, std::int64_t row_bytes, const Tensor& row_TC) {
  FOURMI_CHECK(rows_T.bytes() >= row_TC.dim(0) * row_bytes, "{} rows of {} bytes in {}", row_TC.dim(0), row_bytes,
               rows_T.bytes());
}

inline void check_records(const Tensor& records, const Tensor& experts_TK, const Tensor& weights_TK) {
  FOURMI_CHECK(experts_TK.shape == weights_TK.shape && experts_TK.shape.rank == 2 &&
                   records.bytes() >= experts_TK.dim(0) * record_bytes(experts_TK.dim(1), weights_TK.dtype),
               "experts {}, weights {}, {} bytes of records", to_string(experts_TK.shape), to_string(weights_TK.shape),
               records.bytes());
}

inline void check_sum_of_copies(const CopyPlaces& places, const Tensor& copies_SD, const Tensor& y_TD,
                                const Tensor& first_TD, const Tensor& second_TD) {
  FOURMI_CHECK(copies_SD.dim(1) == y_TD.dim(1) && copies_SD.dtype == accumulate_dtype(y_TD.dtype),
               "copies {} {}, rows {} {}", name_of(copies_SD.dtype), to_string(copies_SD.shape), name_of(y_TD.dtype),
               to_string(y_TD.shape));
  FOURMI_CHECK(places.rank_TC ? places.rank_TC.dim(0) == y_TD.dim(0) && places.row_TC.shape == places.rank_TC.shape
                              : copies_SD.dim(0) >= y_TD.dim(0),
               "{} copies {} of {} rows", copies_SD.dim(0), to_string(places.rank_TC.shape), y_TD.dim(0));
  for (const Tensor* addend : {&first_TD, &second_TD})
    FOURMI_CHECK(!*addend || (addend->num_elements() >= y_TD.num_elements() &&
                              (addend->dtype == y_TD.dtype || addend->dtype == accumulate_dtype(y_TD.dtype))),
                 "{} {} added to {} {}", name_of(addend->dtype), to_string(addend->shape), name_of(y_TD.dtype),
                 to_string(y_TD.shape));
}

}  // namespace fourmi

// Weights of eight bits as DeepSeek-V3's files hold them: e4m3 elements row by row, and beside `NAME.weight` a
// `NAME.weight_scale_inv` with the decode scale of each 128 x 128 (value = element * scale; config.json of the released
// model: quant_method fp8, weight_block_size [128, 128]). e4m3_panels are the same bytes in another order, so nothing
// is rounded either way, whatever scales a file has.
//
// Shapes   N rows, K columns; weight_NK u8, weight_scale_inv [ceil(N / 128), ceil(K / 128)] f32, panels [N, K].
#pragma once

#include "kernels/runtime/tensor.h"

namespace fourmi {

void panels_to_block_scales(const Tensor& panels_NK, const Tensor& weight_NK, const Tensor& weight_scale_inv);
void block_scales_to_panels(const Tensor& weight_NK, const Tensor& weight_scale_inv, const Tensor& panels_NK);

}  // namespace fourmi

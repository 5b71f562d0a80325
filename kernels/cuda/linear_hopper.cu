// Linear maps that Hopper's products do (hopper/fp8_gemm.h, hopper/bf16_gemm.h).
#include "kernels/cuda/hopper/bf16_gemm.h"
#include "kernels/cuda/hopper/fp8_gemm.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_problem.h"

namespace fourmi::cuda::linear {

void run_hopper_product(const CudaStream& stream, const Problem& p) {
  hopper::Fp8Product product;
  product.x = bytes(p.first), product.w = bytes(p.second), product.y = bytes(p.out);
  product.residual = bytes(p.residual);
  product.dtype = p.out.dtype;
  product.M = p.grouped ? p.offsets.back() : p.num_rows, product.N = p.num_out, product.K = p.num_in;
  if (p.grouped) product.offsets = stream.upload(p.offsets);
  product.groups = p.num_groups;
  fp8_product(stream, product);
}

void run_hopper_gradient(const CudaStream& stream, const Problem& p) {
  hopper::Fp8Gradient gradient;
  gradient.dy = bytes(p.first), gradient.x = bytes(p.second);
  gradient.dy_scales = pointer<float>(p.first_scales_GK), gradient.x_scales = pointer<float>(p.second_scales_GK);
  gradient.dw = pointer<float>(p.out);
  gradient.M = p.num_used_rows(), gradient.N = p.num_out, gradient.K = p.num_in, gradient.S = p.num_places();
  if (p.grouped) gradient.offsets = stream.upload(p.offsets);
  gradient.groups = p.num_groups;
  fp8_gradient(stream, gradient);
}

void run_hopper_bf16_product(const CudaStream& stream, const Problem& p) {
  hopper::Bf16Product product;
  product.turned = p.map == Map::backward_input;
  product.x = bytes(p.first), product.w = bytes(p.second), product.y = bytes(p.out);
  product.residual = bytes(p.residual);
  product.dtype = p.out.dtype;
  product.M = p.grouped ? p.offsets.back() : p.num_rows;
  product.N = product.turned ? p.num_in : p.num_out, product.K = product.turned ? p.num_out : p.num_in;
  if (p.grouped) product.offsets = stream.upload(p.offsets);
  product.groups = p.num_groups;
  bf16_product(stream, product);
}

void run_hopper_bf16_gradient(const CudaStream& stream, const Problem& p) {
  hopper::Bf16Gradient gradient;
  gradient.dy = bytes(p.first), gradient.x = bytes(p.second), gradient.dw = pointer<float>(p.out);
  gradient.M = p.grouped ? p.offsets.back() : p.num_rows, gradient.N = p.num_out, gradient.K = p.num_in;
  if (p.grouped) gradient.offsets = stream.upload(p.offsets);
  gradient.groups = p.num_groups;
  bf16_gradient(stream, gradient);
}

}  // namespace fourmi::cuda::linear

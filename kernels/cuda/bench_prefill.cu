// SPDX-License-Identifier: MIT
// Prefill attention at a Llama-3-8B's shape, pages of 16 tokens in random order, beside what the
// matrix units do on the same products with nothing else to do, and beside what others published.
#include <cuda_bf16.h>

#include <cmath>
#include <numeric>
#include <random>

#include "bench.cuh"
#include "prefill.h"
#include "reference.cuh"
#include "wgmma.cuh"

namespace {

constexpr uint32_t kHeads = 32, kKvHeads = 8, kDim = 128, kPage = 16;
constexpr int kRestUs = 30000;
constexpr uint32_t kSets = 4;  // layers of the cache, and as many q and out: more than the cache

struct Shape {
  const char* name;
  uint32_t nr_seqs, query, context;
  float paged, contiguous, cudnn;  // published, TFLOP/s
};

constexpr Shape kShapes[] = {
    {"1 x 8k", 1, 8192, 8192, 578, 688, 550},
    {"4 x 2k", 4, 2048, 2048, 484, 620, 507},
    {"16 x 512", 16, 512, 512, 273, 371, 349},
    {"512 on 16k", 1, 512, 16384, 621, 705, 301},
};

template <typename T>
T* Device(size_t nr) {
  T* data;
  BENCH_MUST(cudaMalloc(&data, nr * sizeof(T)));
  return data;
}

template <typename T>
T* Device(const std::vector<T>& values) {
  T* data = Device<T>(values.size());
  BENCH_MUST(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return data;
}

// About normal, like what a model has.
__global__ void NormalKernel(__nv_bfloat16* data, size_t nr, uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < nr; i += step) {
    uint64_t z = (seed + i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    const float u = (static_cast<float>(z >> 40) + 0.5f) * 0x1p-24f;
    const float v = static_cast<float>(z & 0xffffff) * 0x1p-24f;
    data[i] = __float2bfloat16(sqrtf(-2 * logf(u)) * cospif(2 * v));
  }
}

__nv_bfloat16* DeviceNormal(size_t nr, uint64_t seed) {
  __nv_bfloat16* data = Device<__nv_bfloat16>(nr);
  NormalKernel<<<1024, 256>>>(data, nr, seed);
  BENCH_MUST(cudaGetLastError());
  return data;
}

// The products of attention alone: of each pair, one with both sides in shared memory and one with
// the left side in registers, 64 x 128 x 128, by two warpgroups on random data.
__global__ void __launch_bounds__(256, 1)
    ProductsKernel(const __nv_bfloat16* data, uint32_t nr_pairs, float* out) {
  extern __shared__ __align__(1024) uint8_t raw[];
  constexpr uint32_t kTile = 128 * 128 * 2;
  for (uint32_t i = threadIdx.x; i < 3 * kTile / 16; i += blockDim.x) {
    reinterpret_cast<uint4*>(raw)[i] = reinterpret_cast<const uint4*>(data)[i];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint32_t begin = static_cast<uint32_t>(__cvta_generic_to_shared(raw));
  const uint32_t warpgroup = __shfl_sync(0xffffffff, threadIdx.x / 128, 0);
  const pagedkv::WgmmaTile a(begin + warpgroup * 64 * 128, 0, 1024);
  const pagedkv::WgmmaTile k(begin + kTile, 0, 2048), v(begin + 2 * kTile, 1024, 2048);
  uint32_t weights[32];
  float scores[64] = {}, sums[64] = {};
  for (int i = 0; i < 32; i++)
    weights[i] = reinterpret_cast<const uint32_t*>(data)[threadIdx.x + 256 * i];
  using Product = pagedkv::Wgmma<__nv_bfloat16, 128>;
  for (uint32_t pair = 0; pair < nr_pairs; pair++) {
    pagedkv::WgmmaPin(scores);
    pagedkv::WgmmaPin(sums);
    pagedkv::WgmmaFence();
#pragma unroll
    for (int i = 0; i < 8; i++) {
      Product::Add(scores, a.At(i / 4 * kTile / 2 + i % 4 * 32), k.At(i / 4 * 1024 + i % 4 * 32));
    }
    pagedkv::WgmmaCommit();
#pragma unroll
    for (int i = 0; i < 8; i++) Product::Registers(sums, &weights[4 * i], v.At(i * 4096));
    pagedkv::WgmmaCommit();
    pagedkv::WgmmaPin(sums);
    pagedkv::WgmmaWait<0>();
    pagedkv::WgmmaPin(scores);
    pagedkv::WgmmaPin(sums);
  }
  float sum = 0;
  for (int i = 0; i < 64; i++) sum += scores[i] + sums[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

// TFLOP/s when one call follows the other and the power limit holds the clock down, and after
// rests.
struct Rates {
  float steady, rested;
};

// Of products alone, for about as long as a prefill.
Rates ProductsRoof() {
  constexpr int kShared = 3 * 128 * 128 * 2;
  constexpr uint32_t kPairs = 800;
  int nr_sms;
  BENCH_MUST(cudaDeviceGetAttribute(&nr_sms, cudaDevAttrMultiProcessorCount, 0));
  BENCH_MUST(
      cudaFuncSetAttribute(ProductsKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
  __nv_bfloat16* data = DeviceNormal(3 * 128 * 128, 3);
  float* out = Device<float>(nr_sms * 256);
  const auto launch = [&](cudaStream_t stream, int) {
    ProductsKernel<<<nr_sms, 256, kShared, stream>>>(data, kPairs, out);
    BENCH_MUST(cudaGetLastError());
  };
  const float work = 2.0f * 2 * 128 * 128 * 128 * kPairs * nr_sms * 1e-6f;
  const Rates rates = {work / bench::Microseconds(1, launch),
                       work / bench::Microseconds(1, launch, 8, 15, kRestUs)};
  BENCH_MUST(cudaFree(data));
  BENCH_MUST(cudaFree(out));
  return rates;
}

// ||out - reference|| / ||reference|| of 64 of the tokens.
double Error(const struct pkv_cuda_attention& a) {
  const uint32_t step = a.nr_tokens / 64, nr = a.nr_tokens / step;
  const size_t row = size_t{kHeads} * kDim;
  float* ref = Device<float>(nr * row);
  std::vector<float> want(nr * row);
  std::vector<__nv_bfloat16> got(a.nr_tokens * row);
  BENCH_MUST(pagedkv::Reference(a, ref, nullptr, 0, step));
  BENCH_MUST(cudaMemcpy(want.data(), ref, want.size() * sizeof(float), cudaMemcpyDeviceToHost));
  BENCH_MUST(cudaMemcpy(got.data(), a.out, got.size() * 2, cudaMemcpyDeviceToHost));
  BENCH_MUST(cudaFree(ref));
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    const double w = want[i], d = __bfloat162float(got[i / row * step * row + i % row]) - w;
    difference += d * d;
    norm += w * w;
  }
  return std::sqrt(difference / norm);
}

void Run(const Shape& s, const Rates& roof) {
  const uint32_t nr_tokens = s.nr_seqs * s.query, pages = s.context / kPage;
  const size_t elements = size_t{nr_tokens} * kHeads * kDim;
  pkv_kv_layout l;
  if (pkv_kv_layout_init(&l, PKV_BF16, kSets, kKvHeads, kDim, kPage) != 0) exit(1);
  std::vector<uint32_t> slots(s.nr_seqs * pages), starts(s.nr_seqs + 1);
  std::iota(slots.begin(), slots.end(), 0);
  std::shuffle(slots.begin(), slots.end(), std::mt19937(5));
  for (uint32_t i = 0; i <= s.nr_seqs; i++) starts[i] = i * s.query;
  const std::vector<uint32_t> contexts(s.nr_seqs, s.context);
  __nv_bfloat16* arena = DeviceNormal(slots.size() * l.page_stride_bytes / 2, 1);
  __nv_bfloat16* q = DeviceNormal(kSets * elements, 2);
  __nv_bfloat16* out = Device<__nv_bfloat16>(kSets * elements);
  BENCH_MUST(cudaMemset(out, 0xff, kSets * elements * 2));

  struct pkv_cuda_attention a = {};
  a.size = sizeof(a);
  a.layout = &l;
  a.base = arena;
  a.nr_slots = slots.size();
  a.nr_q_heads = kHeads;
  a.nr_seqs = s.nr_seqs;
  a.nr_tokens = nr_tokens;
  a.max_query_tokens = s.query;
  a.max_context_tokens = s.context;
  a.q_dtype = PKV_BF16;
  a.scale = 1 / std::sqrt(static_cast<float>(kDim));
  uint32_t *query_start = Device(starts), *context = Device(contexts), *table = Device(slots);
  a.query_start = query_start;
  a.context_tokens = context;
  a.table = table;
  a.table_row_slots = pages;
  a.q_row_elements = kHeads * kDim;
  a.workspace_bytes = pagedkv::PrefillWorkspace(a);
  a.workspace = Device<uint8_t>(a.workspace_bytes);
  BENCH_MUST(cudaMemset(a.workspace, 0, a.workspace_bytes));
  const auto set = [&](int i, cudaStream_t stream) {
    struct pkv_cuda_attention b = a;
    b.layer = i;
    b.q = q + i * elements;
    b.out = out + i * elements;
    b.stream = stream;
    return b;
  };
  const auto launch = [&](cudaStream_t stream, int i) {
    BENCH_MUST(pagedkv::Prefill(set(i, stream)));
  };
  const float us = bench::Microseconds(kSets, launch);
  const float rested_us = bench::Microseconds(kSets, launch, 8, 15, kRestUs);
  double error = 0;
  for (uint32_t i = 0; i < kSets; i++) error = std::fmax(error, Error(set(i, nullptr)));
  const double pairs = (static_cast<double>(s.context) - s.query / 2.0) * s.query * s.nr_seqs;
  const double work = 4.0 * kDim * kHeads * pairs * 1e-6;
  printf("prefill %s: %.0f TFLOP/s (products alone: %.0f TFLOP/s, %.2f)\n", s.name, work / us,
         roof.steady, work / us / roof.steady);
  printf("prefill %s, after a rest: %.0f TFLOP/s (products alone: %.0f TFLOP/s, %.2f)\n", s.name,
         work / rested_us, roof.rested, work / rested_us / roof.rested);
  fprintf(stderr,
          "# %.1f us, error %.1e; published: FlashAttention-3 paged %.0f, contiguous %.0f, "
          "cuDNN contiguous %.0f\n",
          us, error, s.paged, s.contiguous, s.cudnn);
  fflush(stdout);
  for (void* p : {static_cast<void*>(arena), static_cast<void*>(q), static_cast<void*>(out),
                  static_cast<void*>(query_start), static_cast<void*>(context),
                  static_cast<void*>(table), a.workspace}) {
    BENCH_MUST(cudaFree(p));
  }
  if (!(error < 1e-2)) {
    fprintf(stderr, "prefill %s: wrong: error %.2e\n", s.name, error);
    exit(1);
  }
}

}  // namespace

int main() {
  const Rates roof = ProductsRoof();
  for (const Shape& s : kShapes) Run(s, roof);
  return 0;
}

// SPDX-License-Identifier: MIT
// Sampling a batch, beside the time in which its logits can be read.
#include <pagedkv/pkv_cuda.h>

#include <vector>

#include "bench.cuh"
#include "roof.cuh"

// Logits that are about normal, of deviation 3: a few stand out.
static __global__ void FillLogitsKernel(float* logits, size_t nr) {
  size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < nr; i += step) {
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    float u = (static_cast<float>(z >> 40) + 0.5f) * 0x1p-24f;
    logits[i] = 3 * sqrtf(-2 * logf(u)) * cospif(static_cast<float>(z & 0xffffff) * 0x1p-23f);
  }
}

static void Bench(const char* what, uint32_t nr_rows, uint32_t vocab, struct pkv_cuda_draw draw) {
  size_t bytes = size_t{4} * nr_rows * vocab;
  int nr_sets = bench::NrSets(bytes, 32);
  float* logits;
  struct pkv_cuda_draw* draws;
  uint32_t *tokens, *sink;
  float* logprobs;
  BENCH_MUST(cudaMalloc(&logits, bytes * nr_sets));
  BENCH_MUST(cudaMalloc(&draws, nr_rows * sizeof(draw)));
  BENCH_MUST(cudaMalloc(&tokens, 4 * nr_rows));
  BENCH_MUST(cudaMalloc(&logprobs, 4 * nr_rows));
  BENCH_MUST(cudaMalloc(&sink, 4));
  FillLogitsKernel<<<1024, 256>>>(logits, bytes / 4 * nr_sets);
  BENCH_MUST(cudaGetLastError());
  std::vector<struct pkv_cuda_draw> host(nr_rows, draw);
  for (uint32_t r = 0; r < nr_rows; r++) host[r].seed = r;
  BENCH_MUST(cudaMemcpy(draws, host.data(), nr_rows * sizeof(draw), cudaMemcpyHostToDevice));
  struct pkv_cuda_sample s = {};
  s.size = sizeof(s);
  s.nr_rows = nr_rows;
  s.vocab = vocab;
  s.row_elements = vocab;
  s.draws = draws;
  s.tokens = tokens;
  s.logprobs = logprobs;
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    s.logits = logits + set * (bytes / 4);
    s.stream = stream;
    if (pkv_cuda_sample(&s)) exit(1);
  });
  float roof = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    BENCH_MUST(pagedkv::ReadRoof(logits + set * (bytes / 4), bytes, sink, stream));
  });
  printf("sample_%s_%u_x_%u: %.1f us (read roof: %.1f us, %.2f)\n", what, nr_rows, vocab, us, roof,
         us / roof);
  fflush(stdout);
  std::vector<uint32_t> out(nr_rows);
  BENCH_MUST(cudaMemcpy(out.data(), tokens, 4 * nr_rows, cudaMemcpyDeviceToHost));
  for (uint32_t t : out)
    if (t >= vocab) exit(2);
  for (void* p : {static_cast<void*>(logits), static_cast<void*>(draws), static_cast<void*>(tokens),
                  static_cast<void*>(logprobs), static_cast<void*>(sink)})
    BENCH_MUST(cudaFree(p));
}

int main() {
  for (uint32_t rows : {1, 16, 64, 256}) {
    Bench("greedy", rows, 128256, {0, 1, 0, 9, 1});
    Bench("temperature", rows, 128256, {0.8f, 1, 0, 9, 1});
    Bench("top_k_50", rows, 128256, {0.8f, 1, 50, 9, 1});
    Bench("top_p_90", rows, 128256, {0.8f, 0.9f, 0, 9, 1});
    Bench("top_k_50_top_p_90", rows, 128256, {0.8f, 0.9f, 50, 9, 1});
  }
  return 0;
}

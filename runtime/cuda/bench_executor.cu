// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Steps of the executor on the GPU with a model of Llama-3-8B's shape, beside the time that reading
// weights and KV once takes at the rate of a kernel that only reads.
#include <cuda_runtime.h>
#include <pagedkv/cache.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <vector>

extern "C" {
#include "../executor_home.h"
#include "executor_gpu.h"
}
#include "bench.cuh"
#include "roof.cuh"

namespace {

constexpr uint32_t kPageTokens = 16;
constexpr uint32_t kContext = 512;
constexpr uint32_t kMostSeqs = 512;
constexpr uint32_t kPages = kContext / kPageTokens;  // of a sequence

void Check(int ret, const char* what) {
  if (!ret) return;
  fprintf(stderr, "bench_executor: %s: %d (%s)\n", what, ret,
          cudaGetErrorString(cudaGetLastError()));
  exit(1);
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Bytes a second of a kernel that only reads.
double ReadRate(const void* data, size_t bytes) {
  uint32_t* sink;
  BENCH_MUST(cudaMalloc(&sink, sizeof(*sink)));
  float us = bench::Microseconds(
      1, [&](cudaStream_t s, int) { BENCH_MUST(pagedkv::ReadRoof(data, bytes, sink, s)); });
  BENCH_MUST(cudaFree(sink));
  return static_cast<double>(bytes) / (1e-6 * static_cast<double>(us));
}

class Bench {
 public:
  Bench() {
    model_ = pkvrt_model_llama_8b();
    page_bytes_ = pkvrt_model_page_bytes(&model_, kPageTokens, PKV_BF16);
    const size_t bytes = page_bytes_ * kMostSeqs * kPages;
    BENCH_MUST(cudaMalloc(&arena_, bytes));
    bench::Fill(arena_, bytes, 1);
    BENCH_MUST(cudaDeviceSynchronize());
    rate_ = ReadRate(arena_, bytes);
    pkvrt_executor_params p = {};
    p.model = model_;
    p.seed = 1;
    p.kv_dtype = PKV_BF16;
    p.page_tokens = kPageTokens;
    p.nr_slots = kMostSeqs * kPages;
    p.arena = arena_;
    const double start = Now();
    Check(pkvrt_executor_gpu_create(&ex_, &p), "create");
    fprintf(stderr, "created in %.2f s, tiles of %u rows and more\n", Now() - start,
            ex_->ops->tile_tokens(ex_));
    // slots in no order
    for (uint32_t i = 0; i < p.nr_slots; i++) slots_.push_back(i * 2654435761u % p.nr_slots);
    tokens_.resize(1 << 16);
    for (size_t i = 0; i < tokens_.size(); i++)
      tokens_[i] = static_cast<uint32_t>(i * 2654435761u) % model_.vocab;
  }
  ~Bench() {
    ex_->ops->destroy(ex_);
    cudaFree(arena_);
  }

  // The median of some steps of nr sequences with nr_tokens each, the last one at the context's
  // end.
  void Step(const char* what, uint32_t nr, uint32_t nr_tokens, int rounds) {
    std::vector<pkvrt_chunk> chunks(nr);
    std::vector<pkvrt_draw> draws(nr);
    std::vector<double> times;
    const uint32_t context = std::max(nr_tokens, kContext);
    for (uint32_t i = 0; i < nr; i++) {
      pkvrt_chunk& c = chunks[i];
      draws[i].kind = PKVRT_GREEDY;
      c = {};
      c.tokens = &tokens_[i * 37];
      c.nr_tokens = nr_tokens;
      c.start = context - nr_tokens;
      c.slots = &slots_[i * kPages];
      c.nr_slots = context / kPageTokens;
      c.table_row = i;
      c.nr_draws = 1;
      c.draws = &draws[i];
    }
    for (int i = 0; i < rounds + 2; i++) {
      const double start = Now();
      Check(ex_->ops->step(ex_, chunks.data(), nr), "step");
      if (i >= 2) times.push_back(Now() - start);
      for (pkvrt_chunk& c : chunks) c.nr_same = c.nr_slots;
    }
    std::sort(times.begin(), times.end());
    const double ms = 1e3 * times[times.size() / 2];
    const double bytes =
        2.0 * static_cast<double>(pkvrt_model_nr_params(&model_)) +
        static_cast<double>(nr) * context / kPageTokens * static_cast<double>(page_bytes_);
    const double floor = 1e3 * bytes / rate_;
    printf("%s: %.2f ms (weights and KV read once: %.2f ms, %.2f; %.0f tokens/s)\n", what, ms,
           floor, floor / ms, 1e3 * nr * nr_tokens / ms);
    fflush(stdout);
  }

 private:
  pkvrt_model model_;
  size_t page_bytes_;
  void* arena_;
  double rate_;
  pkvrt_executor* ex_;
  std::vector<uint32_t> slots_, tokens_;
};

}  // namespace

int main() {
  int nr = 0;
  if (cudaGetDeviceCount(&nr) != cudaSuccess || !nr) {
    printf("bench_executor: no GPU\n");
    return 0;
  }
  Bench b;
  b.Step("8B decode, 1 sequence of 512", 1, 1, 30);
  b.Step("8B decode, 64 sequences of 512", 64, 1, 30);
  b.Step("8B decode, 256 sequences of 512", 256, 1, 20);
  b.Step("8B decode, 512 sequences of 512", 512, 1, 20);
  b.Step("8B prefill, 5 sequences of 512", 5, 512, 5);
  b.Step("8B prefill, 1 sequence of 2048", 1, 2048, 5);
  return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * How the CUDA benches measure: launches captured into a graph, replayed many times, the median. A
 * launch takes the number of the input set that it works on; rotating over sets that are more than
 * the L2 cache together keeps everything out of it.
 */
#ifndef KERNELS_CUDA_BENCH_CUH
#define KERNELS_CUDA_BENCH_CUH

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define BENCH_MUST(call)                                                                         \
  do {                                                                                           \
    cudaError_t error_ = (call);                                                                 \
    if (error_ != cudaSuccess) {                                                                 \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
      exit(1);                                                                                   \
    }                                                                                            \
  } while (0)

namespace bench {

// Bytes of inputs that no cache holds.
constexpr size_t kPastCache = size_t{256} << 20;

// Random bits that, as bf16 or f32, are of moderate size: zeros and NaN flatter a memory.
static __global__ void FillKernel(uint32_t* data, size_t nr, uint32_t seed) {
  size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < nr; i += step) {
    uint64_t z = (i + seed + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z ^= z >> 27;
    // exponents of 2^-3 to 1
    data[i] = (static_cast<uint32_t>(z) & 0x81ff81ff) | 0x3e003e00;
  }
}

inline void Fill(void* data, size_t bytes, uint32_t seed) {
  FillKernel<<<1024, 256>>>(static_cast<uint32_t*>(data), bytes / 4, seed);
  BENCH_MUST(cudaGetLastError());
}

// Input sets for a launch that touches `bytes`, at most `most`.
inline int NrSets(size_t bytes, int most = 64) {
  size_t nr = kPastCache / (bytes ? bytes : 1) + 1;
  return static_cast<int>(std::min<size_t>(std::max<size_t>(nr, 2), most));
}

inline int NrSms() {
  int device = 0, nr = 0;
  BENCH_MUST(cudaGetDevice(&device));
  BENCH_MUST(cudaDeviceGetAttribute(&nr, cudaDevAttrMultiProcessorCount, device));
  return nr;
}

// Median microseconds of one launch(stream, set) of `nr` in a row, over `rounds` replays, with a
// rest before each: work that the card's power limit slows down is faster then.
template <class Launch>
float Microseconds(int nr_sets, Launch launch, int nr = 20, int rounds = 15, int rest_us = 0) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t begin, end;
  BENCH_MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  BENCH_MUST(cudaEventCreate(&begin));
  BENCH_MUST(cudaEventCreate(&end));
  nr = (nr + nr_sets - 1) / nr_sets * nr_sets;
  // once outside: a launch may have things to do that can't be captured
  launch(stream, 0);
  BENCH_MUST(cudaStreamSynchronize(stream));
  BENCH_MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < nr; i++) launch(stream, i % nr_sets);
  BENCH_MUST(cudaStreamEndCapture(stream, &graph));
  BENCH_MUST(cudaGraphInstantiate(&exec, graph, 0));
  std::vector<float> times;
  for (int i = 0; i < rounds + 2; i++) {
    float ms;
    if (rest_us > 0) usleep(rest_us);
    BENCH_MUST(cudaEventRecord(begin, stream));
    BENCH_MUST(cudaGraphLaunch(exec, stream));
    BENCH_MUST(cudaEventRecord(end, stream));
    BENCH_MUST(cudaEventSynchronize(end));
    BENCH_MUST(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 2) times.push_back(ms * 1000 / nr);
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  BENCH_MUST(cudaGraphExecDestroy(exec));
  BENCH_MUST(cudaGraphDestroy(graph));
  BENCH_MUST(cudaEventDestroy(begin));
  BENCH_MUST(cudaEventDestroy(end));
  BENCH_MUST(cudaStreamDestroy(stream));
  return times[times.size() / 2];
}

}  // namespace bench

#endif

// SPDX-License-Identifier: MIT
// The roofs of the device's memory: reading, and copying beside cudaMemcpy.
#include "bench.cuh"
#include "roof.cuh"

static void BenchRead(size_t mib) {
  size_t bytes = mib << 20;
  int nr_sets = bench::NrSets(bytes);
  char* data;
  uint32_t* sink;
  BENCH_MUST(cudaMalloc(&data, bytes * nr_sets));
  BENCH_MUST(cudaMalloc(&sink, sizeof(*sink)));
  bench::Fill(data, bytes * nr_sets, 1);
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    BENCH_MUST(pagedkv::ReadRoof(data + set * bytes, bytes, sink, stream));
  });
  printf("read_%zu_mib: %.1f us (roof: %.2f TB/s)\n", mib, us, bytes / us * 1e-6);
  BENCH_MUST(cudaFree(data));
  BENCH_MUST(cudaFree(sink));
}

static void BenchCopy(size_t mib) {
  size_t bytes = mib << 20;
  int nr_sets = bench::NrSets(2 * bytes);
  char *src, *dst;
  BENCH_MUST(cudaMalloc(&src, bytes * nr_sets));
  BENCH_MUST(cudaMalloc(&dst, bytes * nr_sets));
  bench::Fill(src, bytes * nr_sets, 1);
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    BENCH_MUST(pagedkv::CopyRoof(dst + set * bytes, src + set * bytes, bytes, stream));
  });
  float engine_us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    BENCH_MUST(cudaMemcpyAsync(dst + set * bytes, src + set * bytes, bytes,
                               cudaMemcpyDeviceToDevice, stream));
  });
  printf("copy_%zu_mib: %.2f TB/s (cudaMemcpy: %.2f TB/s, %.2fx)\n", mib, 2 * bytes / us * 1e-6,
         2 * bytes / engine_us * 1e-6, engine_us / us);
  BENCH_MUST(cudaFree(src));
  BENCH_MUST(cudaFree(dst));
}

int main() {
  for (size_t mib : {2, 8, 16, 32, 64, 128, 256, 1024}) BenchRead(mib);
  for (size_t mib : {16, 64, 256, 1024}) BenchCopy(mib);
  return 0;
}

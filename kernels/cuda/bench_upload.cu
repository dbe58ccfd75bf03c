// SPDX-License-Identifier: MIT
// A step of 1,024 sequences: its arrays and the deltas of its block tables. Host time is that of
// filling the pinned buffer and of the calls that enqueue the work.
#include <pagedkv/pkv_cuda.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench.cuh"

static double Now() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

static float Median(std::vector<float> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// nr_deltas of 1,024 sequences take a page in the step.
static void Bench(uint32_t nr_deltas) {
  constexpr uint32_t kSeqs = 1024, kRowSlots = 8192, kSteps = 300, kBuffers = 3;
  constexpr uint64_t kArrays = 4 * (3 * kSeqs + 1),
                     kMost = kArrays + kSeqs * sizeof(struct pkv_cuda_delta);
  uint32_t *table, *host;
  char* device;
  cudaStream_t stream;
  BENCH_MUST(cudaMalloc(&table, size_t{4} * kSeqs * kRowSlots));
  BENCH_MUST(cudaMalloc(&device, kBuffers * 65536));
  BENCH_MUST(cudaMallocHost(&host, kBuffers * 65536));
  BENCH_MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  // what a scheduler has at hand
  std::vector<uint32_t> tokens(kSeqs, 1), context(kSeqs), rows(kSeqs);
  std::vector<struct pkv_cuda_delta> changed(kSeqs);
  for (uint32_t s = 0; s < kSeqs; s++) context[s] = 16 * (s % 400) + 5, rows[s] = s;
  std::vector<float> host_us, device_us;
  cudaEvent_t begin, end;
  BENCH_MUST(cudaEventCreate(&begin));
  BENCH_MUST(cudaEventCreate(&end));
  for (uint32_t step = 0; step < kSteps; step++) {
    for (uint32_t i = 0; i < nr_deltas; i++) changed[i] = {(i * 7 + step) % kSeqs, step, i ^ step};
    BENCH_MUST(cudaEventRecord(begin, stream));
    double start = Now();
    uint32_t* at = host + step % kBuffers * 16384;
    uint32_t sum = 0;
    for (uint32_t s = 0; s < kSeqs; s++) {
      at[s] = sum;
      sum += tokens[s];
      at[kSeqs + 1 + s] = ++context[s];
    }
    at[kSeqs] = sum;
    memcpy(at + 2 * kSeqs + 1, rows.data(), 4 * kSeqs);
    memcpy(at + 3 * kSeqs + 1, changed.data(), nr_deltas * sizeof(changed[0]));
    struct pkv_cuda_upload u = {};
    u.size = sizeof(u);
    u.nr_deltas = nr_deltas;
    u.host = at;
    u.device = device + step % kBuffers * 65536;
    u.deltas_offset = kArrays;
    u.bytes = kArrays + nr_deltas * sizeof(changed[0]);
    u.table = table;
    u.table_row_slots = kRowSlots;
    u.nr_rows = kSeqs;
    u.stream = stream;
    int err = pkv_cuda_upload(&u);
    double done = Now();
    BENCH_MUST(cudaEventRecord(end, stream));
    if (err || u.bytes > kMost) exit(1);
    BENCH_MUST(cudaStreamSynchronize(stream));
    float ms;
    BENCH_MUST(cudaEventElapsedTime(&ms, begin, end));
    host_us.push_back(static_cast<float>(done - start));
    device_us.push_back(ms * 1000);
    uint32_t slot;
    if (nr_deltas && step % 50 == 0) {
      BENCH_MUST(cudaMemcpy(&slot, table + size_t{changed[0].row} * kRowSlots + step, 4,
                            cudaMemcpyDeviceToHost));
      if (slot != changed[0].slot) exit(2);
    }
  }
  printf("upload_1024_seqs_%u_deltas: %.1f us (on the device: %.1f us, %.2f)\n", nr_deltas,
         Median(host_us), Median(device_us), Median(host_us) / Median(device_us));
  BENCH_MUST(cudaFree(table));
  BENCH_MUST(cudaFree(device));
  BENCH_MUST(cudaFreeHost(host));
}

int main() {
  Bench(64);
  Bench(1024);
  return 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Swapping through the device tier as the engine does it (batches of 32 MiB, a few under way), the
// copy engines' roof in the same run, and what it costs compute beside it.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "bench.cuh"
#include "copier.h"
#include "memory.h"
#include "roof.cuh"

// of CUDA, cuBLAS or the runtime: 0 is good
#define CHECK(x)                                                 \
  do {                                                           \
    if (x) {                                                     \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, \
              cudaGetErrorString(cudaGetLastError()));           \
      exit(1);                                                   \
    }                                                            \
  } while (0)

namespace {

constexpr uint64_t kTierBytes = 2ull << 30;
constexpr uint64_t kBatchBytes = 32ull << 20;
constexpr unsigned kInFlight = 3;
constexpr int kRounds = 7;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// A tier of the device and its pages in host memory.
class Tier {
 public:
  Tier(uint64_t page, void* host, bool scattered) : page_(page), host_(static_cast<char*>(host)) {
    nr_ = static_cast<uint32_t>(kTierBytes / page);
    CHECK(pkvrt_gpu_memory_create(&memory_, 0, kTierBytes));
    bench::Fill(pkvrt_gpu_memory_base(memory_), kTierBytes, static_cast<uint32_t>(page));
    CHECK(cudaDeviceSynchronize());
    pkvrt_gpu_copier_params p = {};
    p.size = sizeof(p);
    p.base = pkvrt_gpu_memory_base(memory_);
    p.page_bytes = page;
    p.nr_slots = nr_;
    CHECK(pkvrt_gpu_copier_create(&copier_, &p));
    pkvrt_gpu_copier_device(copier_, &dev_);
    slots_ = Shuffled(1);
    pages_ = Shuffled(2);
    if (!scattered) std::sort(pages_.begin(), pages_.end());
  }
  ~Tier() {
    pkvrt_gpu_copier_destroy(copier_);
    pkvrt_gpu_memory_destroy(memory_);
  }

  // All pages one way; the other half of the tier's slots and pages the other way with kBoth.
  enum Way { kOut, kIn, kBoth };
  double Run(Way way, const std::atomic<bool>* stop = nullptr) {
    std::vector<uint64_t> tickets;
    const uint32_t batch = static_cast<uint32_t>(std::max<uint64_t>(1, kBatchBytes / page_));
    uint64_t bytes = 0;
    const double start = Now();
    do {
      if (way == kBoth) {
        for (uint32_t i = 0; i < nr_ / 2; i += batch) {
          Begin(PKVRT_COPY_OUT, i, std::min(i + batch, nr_ / 2), &tickets, 2 * kInFlight);
          Begin(PKVRT_COPY_IN, nr_ / 2 + i, std::min(nr_ / 2 + i + batch, nr_), &tickets,
                2 * kInFlight);
        }
      } else {
        for (uint32_t i = 0; i < nr_; i += batch)
          Begin(way == kOut ? PKVRT_COPY_OUT : PKVRT_COPY_IN, i, std::min(i + batch, nr_), &tickets,
                kInFlight);
      }
      bytes += nr_ * page_;
    } while (stop && !*stop);
    while (!tickets.empty()) WaitFirst(&tickets);
    return bytes / (Now() - start) / 1e9;
  }

  // Out, wiped, in again: what comes back is what left.
  bool IsRight() {
    std::vector<uint64_t> before(kTierBytes / 8 / 64), after(before.size());
    auto sample = [&](std::vector<uint64_t>* v) {
      CHECK(cudaMemcpy2D(v->data(), 8, pkvrt_gpu_memory_base(memory_), 512, 8, v->size(),
                         cudaMemcpyDefault));
    };
    sample(&before);
    memset(host_, 0xa5, kTierBytes);
    Run(kOut);
    CHECK(cudaMemset(pkvrt_gpu_memory_base(memory_), 0x5a, kTierBytes));
    CHECK(cudaDeviceSynchronize());
    Run(kIn);
    sample(&after);
    return before == after;
  }

 private:
  std::vector<uint32_t> Shuffled(uint64_t seed) {
    std::vector<uint32_t> v(nr_);
    for (uint32_t i = 0; i < nr_; i++) v[i] = i;
    for (uint32_t i = nr_; i > 1; i--) std::swap(v[i - 1], v[Mix(seed * 1000003 + i) % i]);
    return v;
  }
  void WaitFirst(std::vector<uint64_t>* tickets) {
    for (;;) {
      for (size_t i = 0; i < tickets->size(); i++) {
        int ret = dev_.poll(dev_.ctx, (*tickets)[i]);
        CHECK(ret < 0);
        if (!ret) continue;
        tickets->erase(tickets->begin() + static_cast<long>(i));
        return;
      }
    }
  }
  void Begin(pkvrt_copy_kind kind, uint32_t first, uint32_t end, std::vector<uint64_t>* tickets,
             unsigned most) {
    copies_.clear();
    for (uint32_t i = first; i < end; i++) {
      pkvrt_copy c = {};
      c.kind = kind;
      c.src_slot = c.dst_slot = slots_[i];
      c.host = host_ + pages_[i] * page_;
      copies_.push_back(c);
    }
    while (tickets->size() >= most) WaitFirst(tickets);
    tickets->push_back(0);
    CHECK(dev_.begin(dev_.ctx, copies_.data(), static_cast<unsigned>(copies_.size()),
                     &tickets->back()));
  }

  uint64_t page_;
  char* host_;
  uint32_t nr_;
  pkvrt_gpu_memory* memory_;
  pkvrt_gpu_copier* copier_;
  pkvrt_device dev_;
  std::vector<uint32_t> slots_, pages_;
  std::vector<pkvrt_copy> copies_;
};

// One copy of each engine's own: what the link gives.
double Roof(void* host, bool out, bool in) {
  void* device;
  cudaStream_t streams[2];
  constexpr uint64_t kHalf = kTierBytes / 2;
  CHECK(cudaMalloc(&device, kTierBytes));
  for (cudaStream_t& s : streams) CHECK(cudaStreamCreate(&s));
  std::vector<double> v;
  for (int i = 0; i < kRounds; i++) {
    const double start = Now();
    if (out) CHECK(cudaMemcpyAsync(host, device, kHalf, cudaMemcpyDefault, streams[0]));
    if (in)
      CHECK(cudaMemcpyAsync(static_cast<char*>(device) + kHalf, static_cast<char*>(host) + kHalf,
                            kHalf, cudaMemcpyDefault, streams[1]));
    CHECK(cudaDeviceSynchronize());
    v.push_back((out + in) * static_cast<double>(kHalf) / (Now() - start) / 1e9);
  }
  for (cudaStream_t& s : streams) CHECK(cudaStreamDestroy(s));
  CHECK(cudaFree(device));
  return Median(v);
}

void Figures(uint64_t page, void* host, bool scattered, double roof_out, double roof_in,
             double roof_both) {
  static const char* const names[] = {"out", "in", "both ways"};
  const double roofs[] = {roof_out, roof_in, roof_both};
  Tier t(page, host, scattered);
  if (!t.IsRight()) {
    printf("swap of %llu KiB pages: WRONG DATA\n", static_cast<unsigned long long>(page >> 10));
    exit(1);
  }
  for (int way = 0; way < 3; way++) {
    std::vector<double> v;
    for (int i = 0; i < kRounds; i++) v.push_back(t.Run(static_cast<Tier::Way>(way)));
    printf("swap %s, pages of %llu KiB%s: %.1f GB/s (roof %.1f, %.0f %%)\n", names[way],
           static_cast<unsigned long long>(page >> 10), scattered ? ", host slots scattered" : "",
           Median(v), roofs[way], 100 * Median(v) / roofs[way]);
    fflush(stdout);
  }
}

// The median time of a piece of work, ms, over some 150 ms.
double TimeOf(const std::function<void(cudaStream_t)>& work, cudaStream_t stream) {
  std::vector<double> v;
  std::vector<cudaEvent_t> events(101);
  for (cudaEvent_t& e : events) CHECK(cudaEventCreate(&e));
  for (int i = 0; i < 3; i++) work(stream);
  CHECK(cudaEventRecord(events[0], stream));
  for (size_t i = 1; i < events.size(); i++) {
    work(stream);
    CHECK(cudaEventRecord(events[i], stream));
  }
  CHECK(cudaStreamSynchronize(stream));
  for (size_t i = 1; i < events.size(); i++) {
    float ms;
    CHECK(cudaEventElapsedTime(&ms, events[i - 1], events[i]));
    v.push_back(static_cast<double>(ms));
  }
  for (cudaEvent_t& e : events) CHECK(cudaEventDestroy(e));
  return Median(v);
}

// Alone and beside a swap, in turns: the card's clock moves.
void Beside(const char* what, uint64_t page, void* host,
            const std::function<void(cudaStream_t)>& work) {
  static const char* const names[] = {"out", "in", "both ways"};
  Tier t(page, host, false);
  cudaStream_t stream;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  for (int way = 0; way < 3; way++) {
    std::vector<double> ratios, rates;
    double alone = 0, beside = 0;
    for (int i = 0; i < 5; i++) {
      std::atomic<bool> stop{false};
      double rate = 0;
      alone = TimeOf(work, stream);
      std::thread swapper([&] { rate = t.Run(static_cast<Tier::Way>(way), &stop); });
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      beside = TimeOf(work, stream);
      stop = true;
      swapper.join();
      ratios.push_back(beside / alone);
      rates.push_back(rate);
    }
    printf("%s beside swap %s, pages of %llu KiB: %.3f times alone (%.3f ms, swap %.1f GB/s)\n",
           what, names[way], static_cast<unsigned long long>(page >> 10), Median(ratios), alone,
           Median(rates));
    fflush(stdout);
  }
  CHECK(cudaStreamDestroy(stream));
}

// Decode attention of one layer: 64 sequences of 4096 tokens, Llama-3-8B's heads, pages in no
// order.
class Decode {
 public:
  Decode() {
    CHECK(pkv_kv_layout_init(&layout_, PKV_BF16, 1, 8, 128, 16));
    const uint64_t bytes = layout_.page_stride_bytes * kPages;
    std::vector<uint32_t> table(kPages), start(kSeqs + 1), context(kSeqs, kContext);
    for (uint32_t i = 0; i < kPages; i++) table[i] = i * 2654435761u % kPages;
    for (uint32_t i = 0; i <= kSeqs; i++) start[i] = i;
    CHECK(cudaMalloc(&arena_, bytes));
    bench::Fill(arena_, bytes, 7);
    CHECK(cudaMalloc(&q_, kRowBytes * kSeqs));
    bench::Fill(q_, kRowBytes * kSeqs, 8);
    CHECK(cudaMalloc(&out_, kRowBytes * kSeqs));
    a_.size = sizeof(a_);
    a_.layout = &layout_;
    a_.base = arena_;
    a_.nr_slots = kPages;
    a_.nr_q_heads = 32;
    a_.nr_seqs = a_.nr_tokens = kSeqs;
    a_.max_query_tokens = 1;
    a_.max_context_tokens = kContext;
    a_.q_dtype = PKV_BF16;
    a_.scale = 0.088f;
    a_.query_start = Upload(start);
    a_.context_tokens = Upload(context);
    a_.table = Upload(table);
    a_.table_row_slots = kContext / 16;
    a_.q = q_;
    a_.q_row_elements = 32 * 128;
    a_.out = out_;
    a_.workspace_bytes = pkv_cuda_attention_workspace(&a_);
    CHECK(cudaMalloc(&a_.workspace, a_.workspace_bytes));
    CHECK(cudaMemset(a_.workspace, 0, a_.workspace_bytes));
    CHECK(cudaDeviceSynchronize());
  }
  ~Decode() {
    cudaFree(a_.workspace);
    cudaFree(const_cast<uint32_t*>(a_.query_start));
    cudaFree(const_cast<uint32_t*>(a_.context_tokens));
    cudaFree(const_cast<uint32_t*>(a_.table));
    cudaFree(q_);
    cudaFree(out_);
    cudaFree(arena_);
  }
  void Run(cudaStream_t stream) {
    a_.stream = stream;
    CHECK(pkv_cuda_attention(&a_));
  }

 private:
  static constexpr uint32_t kSeqs = 64, kContext = 4096, kPages = kSeqs * kContext / 16;
  static constexpr uint64_t kRowBytes = 32 * 128 * 2;
  static const uint32_t* Upload(const std::vector<uint32_t>& v) {
    void* at;
    CHECK(cudaMalloc(&at, v.size() * sizeof(v[0])));
    CHECK(cudaMemcpy(at, v.data(), v.size() * sizeof(v[0]), cudaMemcpyHostToDevice));
    return static_cast<const uint32_t*>(at);
  }
  pkv_kv_layout layout_;
  struct pkv_cuda_attention a_ = {};
  void *arena_, *q_, *out_;
};

void CostToCompute(uint64_t page, void* host) {
  constexpr uint64_t kRead = 4ull << 30;
  constexpr int kDim = 8192;
  constexpr uint64_t kProductBytes = uint64_t{kDim} * kDim * 2;
  void *from, *m[3];
  uint32_t* sink;
  cublasHandle_t blas;
  CHECK(cudaMalloc(&from, kRead));
  CHECK(cudaMalloc(&sink, sizeof(*sink)));
  bench::Fill(from, kRead, 3);
  for (void*& p : m) {
    CHECK(cudaMalloc(&p, kProductBytes));
    bench::Fill(p, kProductBytes, 5);
  }
  CHECK(cudaDeviceSynchronize());
  CHECK(cublasCreate(&blas));
  Beside("memory-bound reads", page, host,
         [&](cudaStream_t s) { CHECK(pagedkv::ReadRoof(from, kRead, sink, s)); });
  {
    Decode decode;
    Beside("decode 64 x 4k", page, host, [&](cudaStream_t s) {
      for (int i = 0; i < 4; i++) decode.Run(s);  // about a millisecond
    });
  }
  Beside("bf16 product 8192^3", page, host, [&](cudaStream_t s) {
    const float one = 1, zero = 0;
    CHECK(cublasSetStream(blas, s));
    CHECK(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, kDim, kDim, kDim, &one, m[0], CUDA_R_16BF,
                       kDim, m[1], CUDA_R_16BF, kDim, &zero, m[2], CUDA_R_16BF, kDim,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  });
  cublasDestroy(blas);
  for (void*& p : m) cudaFree(p);
  cudaFree(from);
  cudaFree(sink);
}

}  // namespace

int main() {
  int nr = 0;
  if (cudaGetDeviceCount(&nr) != cudaSuccess || !nr) {
    printf("bench_swap: no GPU\n");
    return 0;
  }
  void* host = mmap(nullptr, kTierBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  CHECK(host == MAP_FAILED);
  madvise(host, kTierBytes, MADV_HUGEPAGE);
  CHECK(cudaHostRegister(host, kTierBytes, cudaHostRegisterPortable));
  const double out = Roof(host, true, false), in = Roof(host, false, true),
               both = Roof(host, true, true);
  Figures(2 << 20, host, true, out, in, both);
  Figures(512 << 10, host, false, out, in, both);
  Figures(64 << 10, host, false, out, in, both);
  Figures(64 << 10, host, true, out, in, both);
  Figures(16 << 10, host, false, out, in, both);
  CostToCompute(2 << 20, host);
  CostToCompute(64 << 10, host);
  cudaHostUnregister(host);
  munmap(host, kTierBytes);
  return 0;
}

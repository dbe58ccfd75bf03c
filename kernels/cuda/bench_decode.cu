// SPDX-License-Identifier: MIT
// Decode attention beside the read roof of the same bytes and the best published peer.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "bench.cuh"
#include "cascade.h"
#include "decode.h"
#include "reference.cuh"
#include "roof.cuh"

namespace {

struct Heads {
  const char* name;
  uint32_t query, kv;
};

constexpr Heads kLlama = {"llama8b", 32, 8};
constexpr Heads kOpt = {"opt13b", 40, 40};
constexpr Heads kLlama70 = {"llama70b_tp8", 8, 1};

struct Case {
  std::string name;
  Heads heads;
  std::vector<uint32_t> contexts;
  float peer_us = 0;  // the best published, 0: none
  uint32_t dtype = PKV_BF16, head_dim = 128, page_tokens = 16, query_tokens = 1, window = 0;
  size_t arena_bytes = 0;    // 0: what the contexts need
  uint32_t layers = 0;       // 0: what is needed to keep data out of the cache
  bool token_major = false;  // [slot][token][head] tensors, one for K and V of each layer
  uint32_t shared = 0;       // first tokens, of the same pages for all sequences
  bool cascade = false;      // and the call is told so
  bool invariant = false;
};

std::vector<uint32_t> Uniform(uint32_t nr, uint32_t context) {
  return std::vector<uint32_t>(nr, context);
}

// 128 sequences, log-uniform 16 to 16k: a seed that gives as many tokens as the peers had.
std::vector<uint32_t> Ragged() {
  std::mt19937 random(187);
  std::vector<uint32_t> contexts(128);
  for (uint32_t& c : contexts) {
    double u = static_cast<double>(random()) / 4294967296.0;
    c = static_cast<uint32_t>(16 * std::pow(1024.0, u));
  }
  return contexts;
}

// Lengths between 1 and most, each as likely as the others.
std::vector<uint32_t> Mixed(uint32_t nr, uint32_t most) {
  std::mt19937 random(23);
  std::vector<uint32_t> contexts(nr);
  for (uint32_t& c : contexts) c = 1 + random() % most;
  return contexts;
}

// No byte a NaN of e4m3, none large.
__global__ void TameKernel(uint32_t* data, size_t nr) {
  size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < nr; i += step) {
    data[i] = (data[i] ^ (data[i] >> 5 & 0x3c3c3c3c)) & 0xbfbfbfbf;
  }
}

template <class T>
T* Upload(const std::vector<T>& values) {
  T* data;
  BENCH_MUST(cudaMalloc(&data, values.size() * sizeof(T)));
  BENCH_MUST(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return data;
}

// A decode call on random data; layers of the arena are the input sets.
class Setup {
 public:
  explicit Setup(const Case& c) : case_(c) {
    const uint32_t nr_seqs = static_cast<uint32_t>(c.contexts.size());
    uint64_t tokens = 0, pages = 0;
    uint32_t most = 0;
    std::vector<uint32_t> starts = {0};
    for (uint32_t context : c.contexts) {
      tokens += context;
      pages += (context + c.page_tokens - 1) / c.page_tokens;
      most = std::max(most, context);
      starts.push_back(starts.back() + c.query_tokens);
    }
    // the shared tokens are read from memory once, cascade or not, but not at the same speed
    tokens -= uint64_t{c.cascade ? c.shared : 0} * (nr_seqs - 1);
    bytes_ = tokens * c.heads.kv * c.head_dim * pkv_dtype_bytes(c.dtype) * 2;
    nr_sets_ = c.layers != 0                ? c.layers
               : bytes_ > (size_t{1} << 30) ? 1
                                            : bench::NrSets(bytes_, 32);
    if (pkv_kv_layout_init(&layout_, c.dtype, nr_sets_, c.heads.kv, c.head_dim, c.page_tokens)) {
      exit(1);
    }
    uint64_t slots = std::max<uint64_t>(pages, c.arena_bytes / layout_.page_stride_bytes);
    if (c.token_major) {
      uint64_t row = c.head_dim * pkv_dtype_bytes(c.dtype);
      layout_.token_stride_bytes = row * c.heads.kv;
      layout_.head_stride_bytes = row;
      layout_.page_stride_bytes = layout_.token_stride_bytes * c.page_tokens;
      layout_.kv_stride_bytes = layout_.page_stride_bytes * slots;
      layout_.layer_stride_bytes = layout_.kv_stride_bytes * 2;
    }
    size_t arena =
        slots * c.page_tokens * c.heads.kv * c.head_dim * pkv_dtype_bytes(c.dtype) * 2 * nr_sets_;
    BENCH_MUST(cudaMalloc(&arena_, arena));
    bench::Fill(arena_, arena, 7);
    if (c.dtype == PKV_E4M3) {
      TameKernel<<<1024, 256>>>(reinterpret_cast<uint32_t*>(arena_), arena / 4);
      BENCH_MUST(cudaGetLastError());
    }
    std::vector<uint32_t> order(slots);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(2));
    const uint32_t row = (most + c.page_tokens - 1) / c.page_tokens;
    std::vector<uint32_t> table(size_t{nr_seqs} * row, 0);
    uint64_t used = 0;
    for (uint32_t s = 0; s < nr_seqs; s++) {
      for (uint32_t i = 0; i * c.page_tokens < c.contexts[s]; i++) {
        bool is_shared = s > 0 && i < c.shared / c.page_tokens;
        table[size_t{s} * row + i] = is_shared ? table[i] : order[used++];
      }
    }
    memset(&a_, 0, sizeof(a_));
    a_.size = sizeof(a_);
    a_.flags = c.invariant ? PKV_CUDA_INVARIANT : 0;
    a_.layout = &layout_;
    a_.base = arena_;
    a_.nr_slots = static_cast<uint32_t>(slots);
    a_.nr_q_heads = c.heads.query;
    a_.nr_seqs = nr_seqs;
    a_.nr_tokens = nr_seqs * c.query_tokens;
    a_.max_query_tokens = c.query_tokens;
    a_.max_context_tokens = most;
    a_.q_dtype = PKV_BF16;
    a_.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    a_.window = c.window;
    a_.shared_tokens = c.cascade ? c.shared : 0;
    a_.query_start = Upload(starts);
    a_.context_tokens = Upload(c.contexts);
    a_.table = Upload(table);
    a_.table_row_slots = row;
    const size_t elements = size_t{a_.nr_tokens} * c.heads.query * c.head_dim;
    void* q;
    BENCH_MUST(cudaMalloc(&q, elements * 2));
    bench::Fill(q, elements * 2, 9);
    a_.q = q;
    a_.q_row_elements = uint64_t{c.heads.query} * c.head_dim;
    BENCH_MUST(cudaMalloc(&a_.out, elements * 2));
    a_.workspace_bytes = pagedkv::DecodeWorkspace(a_);
    BENCH_MUST(cudaMalloc(&a_.workspace, a_.workspace_bytes));
    BENCH_MUST(cudaMemset(a_.workspace, 0, a_.workspace_bytes));
    BENCH_MUST(cudaMalloc(&sink_, 4));
    BENCH_MUST(cudaDeviceSynchronize());  // the streams that measure wait for no other
  }
  ~Setup() {
    for (const void* p :
         {static_cast<const void*>(arena_), static_cast<const void*>(a_.table),
          static_cast<const void*>(a_.query_start), static_cast<const void*>(a_.context_tokens),
          a_.q, static_cast<const void*>(a_.out), static_cast<const void*>(a_.workspace),
          static_cast<const void*>(sink_)}) {
      cudaFree(const_cast<void*>(p));
    }
  }
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;

  float Microseconds() {
    return bench::Microseconds(
        nr_sets_,
        [&](cudaStream_t stream, int set) {
          a_.layer = set;
          a_.stream = stream;
          BENCH_MUST(pagedkv::Decode(a_));
        },
        Launches());
  }
  // Of the shared tokens' kernel alone.
  float SharedMicroseconds() {
    float* parts;
    const int sms = bench::NrSms();
    BENCH_MUST(cudaMalloc(&parts, pagedkv::CascadeRoom(a_, sms) * a_.nr_q_heads *
                                      (case_.head_dim + 2) * sizeof(float)));
    const float us = bench::Microseconds(
        nr_sets_,
        [&](cudaStream_t stream, int set) {
          a_.layer = set;
          a_.stream = stream;
          BENCH_MUST(pagedkv::Cascade(a_, sms, parts));
        },
        Launches());
    BENCH_MUST(cudaFree(parts));
    return us;
  }
  bool IsWide() const { return pagedkv::CascadeTakes(a_); }
  double SharedOperations() const {
    return 4.0 * pagedkv::CascadeTokens(a_) * a_.nr_tokens * a_.nr_q_heads * case_.head_dim;
  }
  float RoofMicroseconds() {
    return bench::Microseconds(
        nr_sets_,
        [&](cudaStream_t stream, int set) {
          BENCH_MUST(pagedkv::ReadRoof(arena_ + set * bytes_ / 16 * 16, bytes_, sink_, stream));
        },
        Launches());
  }
  // Against the reference, a few rows.
  double Error() {
    a_.layer = nr_sets_ - 1;
    a_.stream = nullptr;
    const uint32_t nr = std::min(a_.nr_tokens, 8u), step = a_.nr_tokens / nr;
    const size_t width = size_t{case_.heads.query} * case_.head_dim;
    float* ref;
    BENCH_MUST(cudaMemset(a_.out, 0xff, a_.nr_tokens * width * 2));
    BENCH_MUST(pagedkv::Decode(a_));
    BENCH_MUST(cudaMalloc(&ref, (a_.nr_tokens / step + 1) * width * 4));
    BENCH_MUST(pagedkv::Reference(a_, ref, nullptr, 0, step));
    std::vector<float> want(nr * width);
    std::vector<__nv_bfloat16> have(a_.nr_tokens * width);
    BENCH_MUST(cudaMemcpy(want.data(), ref, want.size() * 4, cudaMemcpyDeviceToHost));
    BENCH_MUST(cudaMemcpy(have.data(), a_.out, have.size() * 2, cudaMemcpyDeviceToHost));
    BENCH_MUST(cudaFree(ref));
    double difference = 0, norm = 0;
    for (size_t i = 0; i < want.size(); i++) {
      double h = __bfloat162float(have[i / width * step * width + i % width]), w = want[i];
      difference += (h - w) * (h - w);
      norm += w * w;
    }
    return std::sqrt(difference / norm);
  }
  size_t bytes() const { return bytes_; }

 private:
  int Launches() const { return bytes_ > (size_t{1} << 30) ? 4 : 20; }

  const Case case_;
  pkv_kv_layout layout_;
  struct pkv_cuda_attention a_;
  char* arena_;
  uint32_t* sink_;
  size_t bytes_;
  int nr_sets_;
};

float Run(const Case& c) {
  Setup setup(c);
  float us = setup.Microseconds();
  float roof = setup.RoofMicroseconds();
  double error = setup.Error();
  printf("decode_%s_%s: %.1f us (%.2f TB/s; read roof: %.1f us, %.2fx", c.heads.name,
         c.name.c_str(), us, setup.bytes() / us * 1e-6, roof, us / roof);
  if (c.peer_us > 0) printf("; best peer: %.1f us, %.2fx", c.peer_us, c.peer_us / us);
  if (setup.IsWide()) {
    const float shared = setup.SharedMicroseconds();
    printf("; shared tokens alone: %.1f us, %.0f TFLOP/s", shared,
           setup.SharedOperations() / shared * 1e-6);
  }
  printf("; error: %.1e)\n", error);
  fflush(stdout);
  if (!(error < 1e-2)) {
    fprintf(stderr, "%s: a wrong result\n", c.name.c_str());
    exit(1);
  }
  return us;
}

}  // namespace

Case With(Case c, void (*change)(Case*)) {
  change(&c);
  return c;
}

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {"1x4k", kLlama, Uniform(1, 4096), 11.7},
      {"1x32k", kLlama, Uniform(1, 32768), 38.6},
      {"1x128k", kLlama, Uniform(1, 131072), 126},
      {"8x4k", kLlama, Uniform(8, 4096), 38.3},
      {"64x1k", kLlama, Uniform(64, 1024), 66.9},
      {"64x4k", kLlama, Uniform(64, 4096), 239},
      {"256x1k", kLlama, Uniform(256, 1024), 244},
      {"256x4k", kLlama, Uniform(256, 4096), 932},
      {"ragged", kLlama, Ragged(), 267},
      {"8xto8k", kLlama, Mixed(8, 8192)},
      {"64xto2k", kLlama, Mixed(64, 2048)},
      {"1x4k", kOpt, Uniform(1, 4096), 28.1},
      {"8x4k", kOpt, Uniform(8, 4096), 157},
      {"64x1k", kOpt, Uniform(64, 1024)},
      {"64x4k", kOpt, Uniform(64, 4096), 1178},
      {"256x4k", kOpt, Uniform(256, 4096), 4665},
      {"ragged", kOpt, Ragged(), 1240},
      {"1x4k", kLlama70, Uniform(1, 4096), 9.1},
      {"1x32k", kLlama70, Uniform(1, 32768), 18.2},
      {"8x4k", kLlama70, Uniform(8, 4096), 13.0},
      {"64x1k", kLlama70, Uniform(64, 1024), 15.8},
      {"64x4k", kLlama70, Uniform(64, 4096), 42.8},
      {"ragged", kLlama70, Ragged(), 45.4},
      {"64xto8k", kLlama70, Mixed(64, 8192)},
  };
  const Case large = {"64x4k", kLlama, Uniform(64, 4096)};
  const Case larger = {"256x1k", kLlama, Uniform(256, 1024)};
  const Case ragged = {"ragged", kLlama, Ragged()};
  const Case opt = {"64x4k", kOpt, Uniform(64, 4096)};
  for (Case c : {large, larger, opt}) {
    c.dtype = PKV_E4M3;
    c.name += "_fp8";
    cases.push_back(c);
  }
  for (uint32_t page : {8u, 24u, 64u, 256u}) {
    Case c = large;
    c.page_tokens = page;
    c.name += "_page" + std::to_string(page);
    cases.push_back(c);
  }
  for (uint32_t dim : {64u, 80u, 96u, 256u}) {
    Case c = large;
    c.head_dim = dim;
    c.name += "_dim" + std::to_string(dim);
    cases.push_back(c);
  }
  for (uint32_t queries : {4u, 8u}) {
    Case c = large;
    c.query_tokens = queries;
    c.name += "_" + std::to_string(queries) + "tokens";
    cases.push_back(c);
  }
  cases.push_back(With(large, [](Case* c) {
    c->token_major = true;
    c->name += "_token_major";
  }));
  for (Case c : {large, larger, ragged}) {
    c.invariant = true;
    c.name += "_invariant";
    cases.push_back(c);
  }
  cases.push_back(With(large, [](Case* c) {
    c->window = 1024;
    c->name += "_window1k";
  }));
  struct Cascade {
    const char* name;
    Heads heads;
    uint32_t nr_seqs, queries;
  };
  for (const Cascade& k :
       {Cascade{"64x8k_and_128", kLlama, 64, 1}, Cascade{"16x8k_and_128", kLlama, 16, 1},
        Cascade{"256x8k_and_128", kLlama, 256, 1}, Cascade{"64x8k_and_128_4tokens", kLlama, 64, 4},
        Cascade{"64x8k_and_128", kLlama70, 64, 1}}) {
    Case c = {k.name, k.heads, Uniform(k.nr_seqs, 8192 + 128)};
    c.query_tokens = k.queries;
    c.shared = 8192;
    cases.push_back(c);
    c.cascade = true;
    c.name += "_cascade";
    cases.push_back(c);
    // what follows the shared tokens, alone
    c = {k.name + std::string("_tails"), k.heads, Uniform(k.nr_seqs, 128)};
    c.query_tokens = k.queries;
    cases.push_back(c);
  }
  for (Case c : {large, larger}) {
    c.arena_bytes = size_t{120} << 30;
    c.layers = 32;
    c.name += "_120g";
    cases.push_back(c);
  }
  return cases;
}

// The cases whose names begin with the argument, or all.
int main(int argc, char** argv) {
  const char* only = argc > 1 ? argv[1] : "";
  for (const Case& c : Cases()) {
    const std::string name = std::string(c.heads.name) + "_" + c.name;
    if (*only == '\0' || name.rfind(only, 0) == 0) Run(c);
  }
  return 0;
}

// SPDX-License-Identifier: MIT
// Cache writes, page copies, gathers and scatters, each beside the copy roof for the same bytes; at
// the end what they left is looked at.
#include <pagedkv/pkv_cuda.h>

#include <cstring>
#include <numeric>
#include <random>

#include "bench.cuh"
#include "roof.cuh"

static char* Device(size_t bytes) {
  char* data;
  BENCH_MUST(cudaMalloc(&data, bytes));
  bench::Fill(data, bytes, 7);
  return data;
}

static uint32_t* DeviceList(const std::vector<uint32_t>& list) {
  uint32_t* data;
  BENCH_MUST(cudaMalloc(&data, list.size() * sizeof(uint32_t)));
  BENCH_MUST(cudaMemcpy(data, list.data(), list.size() * sizeof(uint32_t), cudaMemcpyHostToDevice));
  return data;
}

static std::vector<uint32_t> Shuffled(uint32_t nr) {
  std::vector<uint32_t> list(nr);
  std::iota(list.begin(), list.end(), 0);
  std::shuffle(list.begin(), list.end(), std::mt19937(5));
  return list;
}

static void Must(int err, const char* what) {
  if (!err) return;
  fprintf(stderr, "%s: %d\n", what, err);
  exit(1);
}

// What `bytes` read and as many written take at the roof.
static float CopyRoofUs(size_t bytes) {
  int nr_sets = bench::NrSets(2 * bytes, 8);
  char *src = Device(bytes * nr_sets), *dst = Device(bytes * nr_sets);
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    BENCH_MUST(pagedkv::CopyRoof(dst + set * bytes, src + set * bytes, bytes, stream));
  });
  BENCH_MUST(cudaFree(src));
  BENCH_MUST(cudaFree(dst));
  return us;
}

static void Report(const char* name, size_t bytes, float us) {
  float roof = CopyRoofUs(bytes);
  printf("%s: %.2f TB/s (copy roof: %.2f TB/s, %.3f)\n", name, 2 * bytes / us * 1e-6,
         2 * bytes / roof * 1e-6, roof / us);
  fflush(stdout);
}

static void BenchWrite(const char* name, uint32_t nr_tokens, uint32_t nr_q_heads, uint32_t dtype) {
  constexpr uint32_t kHeads = 8, kDim = 128, kPage = 16, kLayers = 2;
  struct pkv_kv_layout l;
  Must(pkv_kv_layout_init(&l, dtype, kLayers, kHeads, kDim, kPage), "layout");
  uint32_t nr_slots = nr_tokens / kPage, row = (nr_q_heads + 2 * kHeads) * kDim;
  int nr_sets = 3;
  char* arena = Device(nr_sets * nr_slots * l.page_stride_bytes);
  char* qkv = Device(size_t{2} * nr_sets * nr_tokens * row);
  char* rotation = Device(size_t{4} * nr_tokens * kDim);
  uint32_t* starts = DeviceList({0, nr_tokens});
  uint32_t* context = DeviceList({nr_tokens});
  uint32_t* table = DeviceList(Shuffled(nr_slots));
  struct pkv_cuda_cache_write w = {};
  w.size = sizeof(w);
  w.layout = &l;
  w.nr_slots = nr_slots;
  w.nr_q_heads = nr_q_heads;
  w.nr_seqs = 1;
  w.nr_tokens = nr_tokens;
  w.src_dtype = w.q_out_dtype = PKV_BF16;
  w.rotary_dim = kDim;
  w.rotation = reinterpret_cast<const float*>(rotation);
  w.query_start = starts;
  w.context_tokens = context;
  w.table = table;
  w.table_row_slots = nr_slots;
  w.q_row_elements = w.k_row_elements = w.v_row_elements = w.q_out_row_elements = row;
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    char* from = qkv + size_t{2} * set * nr_tokens * row;
    w.base = arena + set * nr_slots * l.page_stride_bytes;
    w.q = w.q_out = from;
    w.k = from + 2 * nr_q_heads * kDim;
    w.v = from + 2 * (nr_q_heads + kHeads) * kDim;
    w.stream = stream;
    Must(pkv_cuda_cache_write(&w), "cache write");
  });
  // rows read and written, and the rotation, which is read alone
  size_t written =
      size_t{nr_tokens} * kDim * (2 * nr_q_heads + 2 * kHeads * pkv_dtype_bytes(dtype));
  size_t read = size_t{nr_tokens} * (2 * row + 4 * kDim);
  Report(name, (written + read) / 2, us);
  for (void* p :
       {static_cast<void*>(arena), static_cast<void*>(qkv), static_cast<void*>(rotation),
        static_cast<void*>(starts), static_cast<void*>(context), static_cast<void*>(table)})
    BENCH_MUST(cudaFree(p));
}

enum Kind { kCopy, kGather, kScatter, kStage, kUnstage };

// A copy of nr_pages between page-major and layer-major, or to and from a packed buffer.
static void BenchPages(const char* name, uint32_t nr_layers, uint32_t page_tokens,
                       uint32_t nr_pages, Kind kind) {
  struct pkv_kv_layout paged, other;
  Must(pkv_kv_layout_init(&paged, PKV_BF16, nr_layers, 8, 128, page_tokens), "layout");
  other = paged;
  if (kind == kGather || kind == kScatter) {
    other.page_stride_bytes = paged.kv_stride_bytes;
    other.kv_stride_bytes = nr_pages * paged.kv_stride_bytes;
    other.layer_stride_bytes = 2 * other.kv_stride_bytes;
  }
  size_t bytes = nr_pages * paged.page_stride_bytes;
  int nr_sets = std::max(2, bench::NrSets(2 * bytes, 16));
  char *src = Device(nr_sets * bytes), *dst = Device(nr_sets * bytes);
  uint32_t *some = DeviceList(Shuffled(nr_pages)), *others = DeviceList(Shuffled(nr_pages));
  struct pkv_cuda_page_copy c = {};
  c.size = sizeof(c);
  c.src_layout = kind == kScatter || kind == kUnstage ? &other : &paged;
  c.dst_layout = kind == kGather || kind == kStage ? &other : &paged;
  c.nr_src_slots = c.nr_dst_slots = c.nr_copies = nr_pages;
  c.src_slots = kind == kUnstage || kind == kScatter ? nullptr : some;
  c.dst_slots = kind == kStage || kind == kGather ? nullptr : others;
  float us = bench::Microseconds(nr_sets, [&](cudaStream_t stream, int set) {
    c.src_base = src + set * bytes;
    c.dst_base = dst + set * bytes;
    c.stream = stream;
    Must(pkv_cuda_page_copy(&c), "page copy");
  });
  Report(name, bytes, us);
  // a permutation of whole layers' heads at the least: the same bytes, in another order
  std::vector<uint32_t> a(bytes / 4), b(bytes / 4);
  BENCH_MUST(cudaMemcpy(a.data(), src, bytes, cudaMemcpyDeviceToHost));
  BENCH_MUST(cudaMemcpy(b.data(), dst, bytes, cudaMemcpyDeviceToHost));
  if (std::accumulate(a.begin(), a.end(), uint64_t{0}) !=
      std::accumulate(b.begin(), b.end(), uint64_t{0}))
    Must(1, "the copy differs");
  for (void* p : {static_cast<void*>(src), static_cast<void*>(dst), static_cast<void*>(some),
                  static_cast<void*>(others)})
    BENCH_MUST(cudaFree(p));
}

int main() {
  BenchWrite("cache_write_q_8k_tokens", 8192, 32, PKV_BF16);
  BenchWrite("cache_write_32k_tokens", 32768, 0, PKV_BF16);
  BenchWrite("cache_write_fp8_q_8k_tokens", 8192, 32, PKV_E4M3);
  BenchPages("page_copy_2_mib_x_64", 32, 16, 64, kCopy);
  BenchPages("page_copy_64_kib_x_2048", 1, 16, 2048, kCopy);
  BenchPages("page_copy_2_mib_x_8", 32, 16, 8, kCopy);
  BenchPages("gather_to_layers_2_mib_x_64", 32, 16, 64, kGather);
  BenchPages("scatter_from_layers_2_mib_x_64", 32, 16, 64, kScatter);
  BenchPages("stage_64_kib_x_1024", 1, 16, 1024, kStage);
  BenchPages("unstage_64_kib_x_1024", 1, 16, 1024, kUnstage);
  BenchPages("stage_32_kib_x_4096", 1, 8, 4096, kStage);
  return 0;
}

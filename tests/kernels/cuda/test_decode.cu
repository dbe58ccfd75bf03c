// SPDX-License-Identifier: GPL-2.0-only
// Decode attention against the plain reference, and bit by bit against itself: whatever the batch,
// the places of the pages, the split over blocks and the chunks that the query tokens came in.
#include <algorithm>
#include <map>
#include <numeric>

#include "cascade.h"
#include "decode.h"
#include "kit.cuh"
#include "reference.cuh"

namespace {

struct Config {
  uint32_t dtype = PKV_BF16, q_dtype = PKV_BF16, head_dim = 128;
  uint32_t nr_kv_heads = 2, group = 4, page_tokens = 16;
  uint32_t window = 0;
  float softcap = 0, scale = 0;  // scale 0: 1 / sqrt(head_dim)
  bool alibi = false, scales = false, token_major = false;
  uint32_t shared = 0;   // tokens, whole pages: all sequences' contexts begin with the first one's
  bool cascade = false;  // the call is told so
  bool invariant = true;
  uint32_t slack = 0;  // how much the bound of the contexts is above the longest
  bool graph = false;  // the call is captured and replayed
};

// A sequence's contents are a function of `id`, wherever its pages lie.
struct Sequence {
  uint32_t id, context, queries;
};

struct ScatterParams {
  char* base;
  pkv_kv_layout layout;
  uint32_t layer;
  const uint32_t* table;
  uint64_t table_row_slots;
  const Sequence* sequences;
  uint32_t shared;
  uint64_t seed;
};

__device__ float Normal(uint64_t seed) {
  uint64_t bits = kit::Mix(seed * 0x9e3779b97f4a7c15 + 0x1234567);
  float u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
  return sqrtf(-2 * logf(u)) * cospif(2 * static_cast<float>(bits & 0xffffff) * 0x1p-24f);
}

// Writes the used token places, and nothing else.
__global__ void ScatterKernel(ScatterParams p) {
  const Sequence s = p.sequences[blockIdx.y];
  const pkv_kv_layout& l = p.layout;
  for (uint32_t token = blockIdx.x; token < s.context; token += gridDim.x) {
    uint64_t slot = p.table[blockIdx.y * p.table_row_slots + token / l.page_tokens];
    for (uint32_t i = threadIdx.x; i < 2 * l.nr_kv_heads * l.head_dim; i += blockDim.x) {
      uint32_t dim = i % l.head_dim, head = i / l.head_dim % l.nr_kv_heads;
      uint32_t is_v = i / l.head_dim / l.nr_kv_heads;
      char* at = p.base + slot * l.page_stride_bytes + p.layer * l.layer_stride_bytes +
                 is_v * l.kv_stride_bytes + head * l.head_stride_bytes +
                 token % l.page_tokens * l.token_stride_bytes;
      uint32_t id = token < p.shared ? p.sequences[0].id : s.id;
      float x = Normal(p.seed ^ ((uint64_t{id} << 44) + (uint64_t{token} << 20) + i));
      if (l.dtype == PKV_BF16) reinterpret_cast<__nv_bfloat16*>(at)[dim] = __nv_bfloat16(x);
      if (l.dtype == PKV_F16) reinterpret_cast<__half*>(at)[dim] = __half(x);
      if (l.dtype == PKV_E4M3) reinterpret_cast<__nv_fp8_e4m3*>(at)[dim] = __nv_fp8_e4m3(x);
    }
  }
}

__global__ void QueryKernel(uint16_t* q, uint64_t row_elements, uint32_t width, bool bf16,
                            const Sequence* sequences, const uint32_t* query_start, uint64_t seed) {
  const Sequence s = sequences[blockIdx.x];
  for (uint32_t t = 0; t < s.queries; t++) {
    uint32_t position = s.context - s.queries + t;
    for (uint32_t i = threadIdx.x; i < width; i += blockDim.x) {
      float x = Normal(~seed ^ ((uint64_t{s.id} << 44) + (uint64_t{position} << 20) + i));
      uint16_t* at = q + (query_start[blockIdx.x] + t) * row_elements + i;
      if (bf16)
        *reinterpret_cast<__nv_bfloat16*>(at) = __nv_bfloat16(x);
      else
        *reinterpret_cast<__half*>(at) = __half(x);
    }
  }
}

// Lets a launch after it begin, and writes what that one goes by later.
__global__ void LateKernel(uint32_t* to, const uint32_t* from, size_t nr) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  for (int i = 0; i < 20; i++) __nanosleep(1000);
  for (size_t i = threadIdx.x; i < nr; i += blockDim.x) to[i] = from[i];
}

struct Result {
  bool guarded;
  bool repeated;  // the same bits again, and a workspace that is ready for the next call
  bool wide;  // the shared tokens went to Cascade()
  double error, lse_error;
  // by sequence and position: the bits of a row of out and of lse
  std::map<std::pair<uint32_t, uint32_t>, std::pair<std::vector<uint16_t>, std::vector<float>>>
      rows;
};

double HalfError(const std::vector<uint16_t>& out, bool bf16, const std::vector<float>& ref) {
  std::vector<float> values(out.size());
  for (size_t i = 0; i < out.size(); i++) {
    uint16_t bits = out[i];
    values[i] = bf16 ? __bfloat162float(reinterpret_cast<__nv_bfloat16&>(bits))
                     : __half2float(reinterpret_cast<__half&>(bits));
  }
  return kit::RelativeError(values, ref);
}

// The call `a` again, which left `out` and `lse`: tables, lengths and q written late by the kernel
// before it, then several in a row.
bool Repeat(struct pkv_cuda_attention a, const std::vector<uint32_t>& table,
            const kit::Buffer<uint16_t>& out, const kit::Buffer<float>& lse) {
  const std::vector<uint16_t> want = out.Get();
  const std::vector<float> want_lse = lse.Get();
  const size_t lengths = 2 * a.nr_seqs + 1, q = a.nr_tokens * a.q_row_elements / 2;
  const size_t all = q + lengths + table.size();
  kit::Buffer<uint32_t> late(all), from(all);
  CUDA_MUST(cudaMemcpy(from.data(), a.q, q * 4, cudaMemcpyDeviceToDevice));
  CUDA_MUST(
      cudaMemcpy(from.data() + q, a.query_start, (a.nr_seqs + 1) * 4, cudaMemcpyDeviceToDevice));
  CUDA_MUST(cudaMemcpy(from.data() + q + a.nr_seqs + 1, a.context_tokens, a.nr_seqs * 4,
                       cudaMemcpyDeviceToDevice));
  CUDA_MUST(cudaMemcpy(from.data() + q + lengths, table.data(), table.size() * 4,
                       cudaMemcpyHostToDevice));
  kit::Buffer<uint16_t> again(out.size());
  kit::Buffer<float> again_lse(lse.size());
  a.q = late.data();
  a.query_start = late.data() + q;
  a.context_tokens = a.query_start + a.nr_seqs + 1;
  a.table = late.data() + q + lengths;
  a.table_rows = nullptr;
  a.out = again.data();
  a.lse = again_lse.data();
  const auto is_same = [&] {
    CUDA_MUST(cudaDeviceSynchronize());
    const std::vector<float> have_lse = again_lse.Get();
    return again.Guarded() && again.Get() == want &&
           memcmp(have_lse.data(), want_lse.data(), have_lse.size() * 4) == 0;
  };
  LateKernel<<<1, 1024>>>(late.data(), from.data(), all);
  CUDA_MUST(cudaGetLastError());
  CUDA_MUST(pagedkv::Decode(a));
  bool same = is_same();
  again.Poison();
  again_lse.Poison();
  for (int i = 0; i < 4; i++) CUDA_MUST(pagedkv::Decode(a));
  same = is_same() && same;
  std::vector<uint32_t> zeros(pagedkv::DecodeKept() / 4);
  CUDA_MUST(cudaMemcpy(zeros.data(), a.workspace, zeros.size() * 4, cudaMemcpyDeviceToHost));
  return same && std::count(zeros.begin(), zeros.end(), 0u) == static_cast<ptrdiff_t>(zeros.size());
}

// A call, captured and replayed three times: lengths and tables are the device's to know.
void Replay(struct pkv_cuda_attention a) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CUDA_MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  a.stream = stream;
  CUDA_MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CUDA_MUST(pagedkv::Decode(a));
  CUDA_MUST(pagedkv::Decode(a));
  CUDA_MUST(cudaStreamEndCapture(stream, &graph));
  CUDA_MUST(cudaGraphInstantiate(&exec, graph, 0));
  for (int i = 0; i < 3; i++) CUDA_MUST(cudaGraphLaunch(exec, stream));
  CUDA_MUST(cudaStreamSynchronize(stream));
  CUDA_MUST(cudaGraphExecDestroy(exec));
  CUDA_MUST(cudaGraphDestroy(graph));
  CUDA_MUST(cudaStreamDestroy(stream));
}

Result Run(const Config& c, const std::vector<Sequence>& sequences, uint64_t seed) {
  const uint32_t nr_seqs = static_cast<uint32_t>(sequences.size());
  const uint32_t nr_layers = 2, layer = 1;
  uint32_t pages = 0, most = 0, most_queries = 0;
  std::vector<uint32_t> starts = {0}, contexts;
  for (const Sequence& s : sequences) {
    pages += (s.context + c.page_tokens - 1) / c.page_tokens;
    most = std::max(most, s.context);
    most_queries = std::max(most_queries, s.queries);
    starts.push_back(starts.back() + s.queries);
    contexts.push_back(s.context);
  }
  const uint32_t slots = pages + random_in(1, 8);
  pkv_kv_layout l;
  if (pkv_kv_layout_init(&l, c.dtype, nr_layers, c.nr_kv_heads, c.head_dim, c.page_tokens)) exit(1);
  kit::Buffer<char> arena(slots * l.page_stride_bytes);
  if (c.token_major) {
    l.head_stride_bytes = c.head_dim * pkv_dtype_bytes(c.dtype);
    l.token_stride_bytes = l.head_stride_bytes * c.nr_kv_heads;
    l.page_stride_bytes = l.token_stride_bytes * c.page_tokens;
    l.kv_stride_bytes = l.page_stride_bytes * slots;
    l.layer_stride_bytes = l.kv_stride_bytes * 2;
  }
  std::vector<uint32_t> order(slots), rows(nr_seqs);
  std::iota(order.begin(), order.end(), 0);
  random_shuffle(order.data(), slots);
  std::iota(rows.begin(), rows.end(), 0);
  most += c.slack;
  const uint64_t row_slots = (most + c.page_tokens - 1) / c.page_tokens + random_in(0, 3);
  std::vector<uint32_t> table(nr_seqs * row_slots + 1, 0xffffffff);
  uint32_t used = 0;
  for (uint32_t s = 0; s < nr_seqs; s++) {
    for (uint32_t i = 0; i * c.page_tokens < contexts[s]; i++) {
      bool is_shared = s > 0 && i < c.shared / c.page_tokens;
      table[s * row_slots + i] = is_shared ? table[i] : order[used++];
    }
  }
  // rows of the table in another order
  std::vector<uint32_t> permuted(table);
  random_shuffle(rows.data(), nr_seqs);
  for (uint32_t s = 0; s < nr_seqs; s++) {
    std::copy_n(&table[s * row_slots], row_slots, &permuted[rows[s] * row_slots]);
  }

  kit::Buffer<Sequence> device_sequences(sequences);
  kit::Buffer<uint32_t> device_starts(starts), device_contexts(contexts), device_table(table),
      device_permuted(permuted), device_rows(rows);
  const uint32_t width = c.nr_kv_heads * c.group * c.head_dim;
  const uint64_t q_row = width + 8 * random_in(0, 2);
  kit::Buffer<uint16_t> q(starts.back() * q_row), out(size_t{starts.back()} * width);
  kit::Buffer<float> lse(size_t{starts.back()} * c.nr_kv_heads * c.group),
      alibi(c.nr_kv_heads * c.group);
  std::vector<float> slopes(alibi.size()), scales(c.nr_kv_heads);
  for (size_t i = 0; i < slopes.size(); i++) slopes[i] = 0.01f * static_cast<float>(i + 1);
  for (size_t i = 0; i < scales.size(); i++) scales[i] = 0.5f + 0.25f * static_cast<float>(i);
  alibi.Set(slopes);
  kit::Buffer<float> device_scales(scales);
  ScatterParams scatter = {
      arena.data(), l,   layer, device_table.data(), row_slots, device_sequences.data(),
      c.shared,     seed};
  ScatterKernel<<<dim3(256, nr_seqs), 128>>>(scatter);
  CUDA_MUST(cudaGetLastError());
  QueryKernel<<<nr_seqs, 256>>>(q.data(), q_row, width, c.q_dtype == PKV_BF16,
                                device_sequences.data(), device_starts.data(), seed);
  CUDA_MUST(cudaGetLastError());

  struct pkv_cuda_attention a = {};
  a.size = sizeof(a);
  a.flags = c.invariant ? PKV_CUDA_INVARIANT : 0;
  a.layout = &l;
  a.base = arena.data();
  a.nr_slots = slots;
  a.layer = layer;
  a.nr_q_heads = c.nr_kv_heads * c.group;
  a.nr_seqs = nr_seqs;
  a.nr_tokens = starts.back();
  a.max_query_tokens = most_queries;
  a.max_context_tokens = most;
  a.q_dtype = c.q_dtype;
  a.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<float>(c.head_dim));
  a.softcap = c.softcap;
  a.shared_tokens = c.cascade ? c.shared : 0;
  a.window = c.window;
  a.alibi = c.alibi ? alibi.data() : nullptr;
  a.k_scale = a.v_scale = c.scales ? device_scales.data() : nullptr;
  a.query_start = device_starts.data();
  a.context_tokens = device_contexts.data();
  a.table = device_table.data();
  a.table_row_slots = row_slots;
  a.q = q.data();
  a.q_row_elements = q_row;
  a.out = out.data();
  a.lse = lse.data();
  kit::Buffer<char> workspace(pagedkv::DecodeWorkspace(a));
  // what may be anything is
  workspace.Zero();
  const size_t kept = pagedkv::DecodeKept();
  CUDA_MUST(cudaMemset(workspace.data() + kept, 0xff, workspace.bytes() - kept));
  a.workspace = workspace.data();
  a.workspace_bytes = workspace.bytes();
  // twice, for a call leaves the workspace ready for the next one; the tables' rows in two orders
  CUDA_MUST(pagedkv::Decode(a));
  CUDA_MUST(cudaDeviceSynchronize());
  out.Poison();
  lse.Poison();
  a.table = device_permuted.data();
  a.table_rows = device_rows.data();
  if (c.graph)
    Replay(a);
  else
    CUDA_MUST(pagedkv::Decode(a));
  CUDA_MUST(cudaDeviceSynchronize());

  const bool repeated = Repeat(a, table, out, lse);

  kit::Buffer<float> ref(out.size()), ref_lse(lse.size());
  CUDA_MUST(pagedkv::Reference(a, ref.data(), ref_lse.data()));
  CUDA_MUST(cudaDeviceSynchronize());
  std::vector<uint16_t> have = out.Get();
  std::vector<float> have_lse = lse.Get();
  Result r;
  r.repeated = repeated;
  r.wide = pagedkv::CascadeTakes(a);
  r.guarded = out.Guarded() && lse.Guarded() && arena.Guarded() && workspace.Guarded();
  r.error = HalfError(have, c.q_dtype == PKV_BF16, ref.Get());
  r.lse_error = kit::LargestError(have_lse, ref_lse.Get());
  const uint32_t heads = c.nr_kv_heads * c.group;
  for (uint32_t s = 0; s < nr_seqs; s++) {
    for (uint32_t t = starts[s]; t < starts[s + 1]; t++) {
      r.rows[{sequences[s].id, contexts[s] - (starts[s + 1] - t)}] = {
          {&have[size_t{t} * width], &have[size_t{t} * width] + width},
          {&have_lse[size_t{t} * heads], &have_lse[size_t{t} * heads] + heads}};
    }
  }
  return r;
}

std::vector<Sequence> RandomBatch(uint32_t nr, uint32_t most, uint32_t most_queries) {
  std::vector<Sequence> sequences;
  for (uint32_t i = 0; i < nr; i++) {
    uint32_t context = random_in(0, 3) == 0 ? random_in(0, 40) : random_in(0, most);
    uint32_t queries = random_in(0, std::min(most_queries, context));
    if (most_queries == 1 && context > 0) queries = random_in(0, 9) > 0;
    sequences.push_back({i, context, queries});
  }
  sequences.push_back({nr, random_in(1, most), 1});
  return sequences;
}

void TestMode(const Config& c, const std::vector<Sequence>& batch, const char* what) {
  Result r = Run(c, batch, random_bits());
  kit::Ok(
      r.guarded && r.repeated && r.error < 1e-2 && r.lse_error < 1e-2,
      "%s%s: dtype %u, dim %u, %u x %u heads, pages of %u, window %u, softcap %g, alibi %d, %zu "
      "sequences: error %.1e, of lse %.1e%s%s",
      what, c.invariant ? "" : ", fast", c.dtype, c.head_dim, c.nr_kv_heads, c.group, c.page_tokens,
      c.window, c.softcap, c.alibi, batch.size(), r.error, r.lse_error,
      r.guarded ? "" : ", wrote past its end", r.repeated ? "" : ", not the same again");
}

// In the invariant mode, and in the one that need not be.
void TestOne(Config c, const std::vector<Sequence>& batch, const char* what) {
  for (bool invariant : {true, false}) {
    c.invariant = invariant;
    TestMode(c, batch, what);
  }
}

bool Same(const Result& one, const Result& other) {
  uint32_t common = 0;
  for (const auto& [key, row] : other.rows) {
    auto at = one.rows.find(key);
    if (at == one.rows.end()) continue;
    common++;
    if (at->second.first != row.first ||
        memcmp(at->second.second.data(), row.second.data(), row.second.size() * 4) != 0) {
      printf("# sequence %u position %u differs\n", key.first, key.second);
      return false;
    }
  }
  return common > 0;
}

// The same query tokens, alone, in other batches, in chunks of other sizes.
void TestInvariant(const Config& c, uint32_t most) {
  const uint64_t seed = random_bits();
  std::vector<Sequence> batch;
  for (uint32_t i = 0; i < 6; i++) {
    uint32_t context = random_in(16, most);
    batch.push_back({i, context, random_in(1, 16)});
  }
  Result all = Run(c, batch, seed);
  bool same = all.error < 1e-2;
  // one token at a time
  for (const Sequence& s : batch) {
    uint32_t back = random_in(0, s.queries - 1);
    same = same && Same(all, Run(c, {{s.id, s.context - back, 1}}, seed));
  }
  // in another order, fewer, beside others
  std::vector<Sequence> other;
  for (uint32_t i = 6; i > 0; i--) {
    Sequence s = batch[i - 1];
    s.queries = random_in(1, std::min(s.context, 40u));
    other.push_back(s);
    for (uint32_t j = 0; j < i; j++) other.push_back({100 * i + j, random_in(1, 600), 1});
  }
  same = same && Same(all, Run(c, other, seed));
  kit::Ok(same, "the same bits: dtype %u, dim %u, %u x %u heads, up to %u tokens", c.dtype,
          c.head_dim, c.nr_kv_heads, c.group, most);
}

// A prefix that is read once for all: the same bits as without.
void TestCascade(Config c, uint32_t nr, uint32_t shared) {
  const uint64_t seed = random_bits();
  std::vector<Sequence> batch;
  for (uint32_t i = 0; i < nr; i++) {
    uint32_t queries = random_in(1, 3);
    batch.push_back({i, shared + queries - 1 + random_in(i == 0, 700), queries});
  }
  c.shared = shared;
  Result plain = Run(c, batch, seed);
  c.cascade = true;
  Result cascade = Run(c, batch, seed);
  kit::Ok(
      cascade.guarded && cascade.error < 1e-2 && cascade.lse_error < 1e-2 && Same(plain, cascade),
      "cascade: dtype %u, dim %u, %u x %u heads, %u sequences on %u tokens: error %.1e", c.dtype,
      c.head_dim, c.nr_kv_heads, c.group, nr, shared, cascade.error);
}

Config ConfigOf(uint32_t dtype, uint32_t dim) {
  Config c;
  c.dtype = dtype;
  c.head_dim = dim;
  c.q_dtype = dtype == PKV_BF16 || (dtype == PKV_E4M3 && dim != 64) ? PKV_BF16 : PKV_F16;
  c.scales = dtype == PKV_E4M3;
  return c;
}

// Tiles enough for all warps: rows of one warp, of a block, of many; one that is much longer than
// the others; rows that are alike.
void TestLarge(uint32_t most) {
  for (uint32_t dtype : {PKV_BF16, PKV_E4M3}) {
    Config c = ConfigOf(dtype, 128);
    c.nr_kv_heads = 8;
    c.group = random_in(1, 8);
    TestOne(c, RandomBatch(60, most, 1), "a large batch");
    TestOne(c, RandomBatch(700, 1000, 1), "large and short");
    std::vector<Sequence> batch = RandomBatch(100, 2000, 1);
    batch[random_in(0, 99)] = {200, 40000, 1};
    TestOne(c, batch, "large with a long one");
  }
  // whole blocks for a row, and whole rows for a block, with some blocks idle
  for (uint32_t rows : {kit::Sms() / 2u, kit::Sms() * 4u - kit::Sms() / 8u}) {
    Config alike = ConfigOf(PKV_BF16, 128);
    alike.nr_kv_heads = 2;
    const uint32_t context = random_in(500, 1000);
    std::vector<Sequence> batch;
    for (uint32_t i = 0; i < std::max(rows / 2, 1u); i++) batch.push_back({i, context, 1});
    TestOne(alike, batch, "rows alike");
  }
  Config c = ConfigOf(PKV_F16, 64);
  c.nr_kv_heads = 12;
  TestOne(c, RandomBatch(64, most, 1), "a large batch");
}

// Where bits need not be the same: `queries` tokens a sequence at most, tails of none on.
void TestFastCascade(Config c, uint32_t nr, uint32_t shared, uint32_t queries, bool wide,
                     const char* what) {
  std::vector<Sequence> batch;
  c.invariant = false;
  c.cascade = true;
  c.shared = shared / c.page_tokens * c.page_tokens;
  for (uint32_t i = 0; i < nr; i++) {
    const uint32_t mine = i == 0 ? queries : random_in(0, 7) == 0 ? 0 : random_in(1, queries);
    const uint32_t tail = random_in(0, 3) == 0 ? random_in(0, 1) : random_in(0, 300);
    batch.push_back({i, c.shared + std::max(mine, 1u) - (i != 0) + tail, mine});
  }
  Result r = Run(c, batch, random_bits());
  kit::Ok(r.guarded && r.wide == wide && r.error < 1e-2 && r.lse_error < 1e-2,
          "cascade, fast, %s: dtype %u, dim %u, %u x %u heads, pages of %u, %u sequences of up to "
          "%u on %u tokens: error %.1e, of lse %.1e%s%s",
          what, c.dtype, c.head_dim, c.nr_kv_heads, c.group, c.page_tokens, nr, queries, c.shared,
          r.error, r.lse_error, r.guarded ? "" : ", wrote past its end",
          r.wide == wide ? "" : ", went elsewhere");
}

void TestFastCascades() {
  const Config plain;
  TestFastCascade(plain, 1, 500, 1, false, "few rows");
  TestFastCascade(plain, 1, 500, 9, true, "one sequence");
  TestFastCascade(plain, 33, 128, 1, true, "one block");
  TestFastCascade(plain, 64, 144, 1, true, "a block and a page");
  TestFastCascade(plain, 64, 2000, 1, true, "two tiles");
  TestFastCascade(plain, 33, 8192, 1, true, "a long prefix");
  TestFastCascade(plain, 200, 1008, 1, true, "many sequences");
  TestFastCascade(plain, 40, 1008, 4, true, "several query tokens");
  TestFastCascade(plain, 40, 700, 12, true, "more query tokens");
  TestFastCascade(plain, 600, 400, 12, true, "more tiles than multiprocessors");
  for (uint32_t page : {8u, 24u, 48u, 64u, 256u}) {
    Config c;
    c.page_tokens = page;
    TestFastCascade(c, 50, 1100, 1, true, "page size");
  }
  for (uint32_t group : {1u, 3u, 5u, 7u, 8u, 16u}) {
    Config c;
    c.group = group;
    c.nr_kv_heads = random_in(1, 5);
    TestFastCascade(c, 70, 900, 1, true, "groups");
    TestFastCascade(c, 40, 900, 3, true, "groups");
  }
  for (uint32_t dim : {64u, 96u}) {
    Config c;
    c.head_dim = dim;
    c.token_major = true;
    TestFastCascade(c, 64, 1000, 1, dim == 64, "dims");
    c.dtype = c.q_dtype = PKV_F16;
    c.nr_kv_heads = 1;
    TestFastCascade(c, 64, 1000, 2, dim == 64, "dims");
  }
  Config c;
  c.scale = 2;
  TestFastCascade(c, 64, 1000, 1, true, "a sharp softmax");
  c = plain;
  c.dtype = PKV_E4M3;
  c.scales = true;
  TestFastCascade(c, 64, 1000, 1, false, "fp8");
  c = plain;
  c.softcap = 5;
  TestFastCascade(c, 64, 1000, 1, false, "a soft-cap");
}

// One workspace serves all smaller calls: whatever their parts, there is room for them.
void TestRoom() {
  bool enough = true;
  for (int i = 0; i < 20000 && enough; i++) {
    pkv_kv_layout l;
    const uint32_t heads = random_in(1, 40), group = random_in(1, 16), sms = random_in(1, 200);
    if (pkv_kv_layout_init(&l, PKV_BF16, 1, heads, 128, 16)) exit(1);
    struct pkv_cuda_attention a = {};
    a.layout = &l;
    a.nr_q_heads = heads * group;
    a.nr_tokens = random_in(1, random_in(0, 1) ? 100 : 3000);
    a.shared_tokens = random_in(128, 20000);
    const uint64_t room = pagedkv::CascadeRoom(a, sms);
    a.nr_tokens = random_in(1, a.nr_tokens);
    a.shared_tokens = random_in(128, a.shared_tokens);
    enough = uint64_t{a.nr_tokens} * pagedkv::CascadeParts(a, sms) <= room &&
             pagedkv::CascadeRoom(a, sms) <= room;
  }
  kit::Ok(enough, "cascade: room for the parts of all smaller calls");
}

void TestShapes(uint32_t most) {
  const Config plain;
  TestOne(plain, {{0, 1, 1}}, "one token");
  TestOne(plain, {{0, 0, 1}, {1, 1, 1}, {2, 0, 0}, {3, 2, 1}, {4, 0, 1}}, "empty contexts");
  TestOne(plain, {{0, 37, 1}}, "one sequence");
  TestOne(plain, {{0, most, 1}}, "one sequence");
  TestOne(plain, {{0, 70000, 1}}, "a long sequence");
  TestOne(plain, RandomBatch(20, most, 1), "a batch");
  TestOne(plain, RandomBatch(20, most, 8), "several query tokens");
  TestOne(plain, RandomBatch(300, 600, 2), "many sequences");
  TestOne(plain, RandomBatch(1500, 60, 1), "very many sequences");
  TestLarge(most);
  for (uint32_t page : {1u, 8u, 24u, 32u, 256u}) {
    Config c;
    c.page_tokens = page;
    TestOne(c, RandomBatch(10, most, 3), "page size");
  }
  for (uint32_t group : {1u, 2u, 5u, 8u, 16u}) {
    Config c;
    c.group = group;
    c.nr_kv_heads = random_in(1, 5);
    TestOne(c, RandomBatch(10, most, 3), "groups");
    TestOne(c, RandomBatch(10, most, 1), "groups");
  }
  for (int i = 0; i < 6; i++) {
    Config c;
    c.window = i % 2 ? random_in(1, 700) : 0;
    c.softcap = i % 3 ? 0 : 5;
    c.alibi = i > 2;
    c.token_major = i % 2;
    TestOne(c, RandomBatch(8, most, 4), "extras");
  }
}

void TestTypes(uint32_t most) {
  for (uint32_t dtype : {PKV_BF16, PKV_F16, PKV_E4M3}) {
    for (uint32_t dim : {128u, 64u, 80u, 96u, 256u}) {
      Config c = ConfigOf(dtype, dim);
      for (uint32_t queries : {1u, 3u, 7u, 30u}) TestOne(c, RandomBatch(8, most, queries), "types");
      c.page_tokens = 20;
      c.group = random_in(1, 16);
      TestOne(c, RandomBatch(8, most, 2), "types");
      c.page_tokens = 16;
      TestInvariant(c, most);
      TestCascade(c, 20, 512);
    }
  }
}

// Rows whose parts several multiprocessors have: they end where a block's or a cluster's
// warps do, one tile before and after, and anywhere.
void TestOneRow() {
  Config c;
  c.invariant = false;
  for (uint32_t heads : {1u, 2u, 3u, 8u}) {
    c.nr_kv_heads = heads;
    for (uint32_t tiles : {1u, 2u, 3u, 15u, 16u, 17u, 64u, 127u, 128u, 129u, 256u, 300u}) {
      c.group = random_in(1, 8);
      TestMode(c, {{0, tiles * 16, 1}}, "one sequence");
      c.group = random_in(9, 16);
      TestMode(c, {{0, tiles * 16 - random_in(0, 15), 1}}, "one sequence");
    }
    // fewer tiles than the bound has warps for
    c.slack = random_in(1, 30000);
    for (uint32_t most : {0u, 1u, 200u, 3000u}) {
      TestMode(c, {{0, random_in(most / 2, most), 1}}, "one sequence, a high bound");
    }
    c.slack = 0;
    c.group = 8 / heads;
    TestMode(c, {{0, 20000, 1}, {1, 1, 1}, {2, 0, 1}, {3, 3000, 1}}, "a long one, short ones");
    TestMode(c, {{0, 1, 1}, {1, 0, 1}, {2, 77, 0}, {3, 20000, 1}}, "short ones, a long one");
  }
  c.nr_kv_heads = kit::Sms() + random_in(0, 5);
  c.group = 1;
  TestMode(c, {{0, 500, 1}}, "more heads than multiprocessors");
}

// Few rows in batches of any number of sequences, some with bounds that are too high.
void TestFewRows() {
  Config c;
  c.invariant = false;
  for (uint32_t group : {1u, 3u, 4u, 8u, 11u, 16u}) {
    c.group = group;
    for (uint32_t nr : {2u, 5u, 31u, 32u, 63u, 64u, 65u}) {
      c.nr_kv_heads = nr > 32 ? random_in(1, 2) : random_in(1, 3);
      c.slack = random_in(0, 2) * 500;
      c.graph = random_in(0, 1);
      c.page_tokens = 16u << random_in(0, 2);
      TestMode(c, RandomBatch(nr - 1, nr > 31 ? 1500 : 5000, 1), "few rows");
    }
  }
}

void TestFewRowsTypes() {
  for (uint32_t dtype : {PKV_F16, PKV_E4M3, PKV_BF16}) {
    for (uint32_t dim : {128u, 64u}) {
      Config d = ConfigOf(dtype, dim);
      d.invariant = false;
      d.graph = true;
      for (uint32_t group : {1u, 4u, 8u, 16u}) {
        d.group = group;
        TestMode(d, {{0, 9000, 1}}, "one sequence");
        TestMode(d, RandomBatch(9, 5000, 1), "few rows");
      }
    }
  }
}

// More sequences than few rows have, of mixed lengths, so that rows end anywhere in warps and
// blocks: some of several blocks, some of no tokens.
void TestMixed() {
  for (uint32_t dtype : {PKV_BF16, PKV_F16, PKV_E4M3}) {
    for (uint32_t dim : {128u, 64u}) {
      if (dtype == PKV_E4M3 && dim == 64) continue;
      Config c = ConfigOf(dtype, dim);
      c.invariant = false;
      for (uint32_t group : {1u, 4u, 8u, 9u, 16u}) {
        c.group = group;
        c.nr_kv_heads = random_in(1, 3);
        c.graph = random_in(0, 1);
        std::vector<Sequence> batch = RandomBatch(random_in(64, 150), 3000, 1);
        TestMode(c, batch, "mixed lengths");
        batch[random_in(0, 63)] = {300, 20000, 1};
        TestMode(c, batch, "mixed lengths with a long one");
        for (Sequence& s : batch) s.context = s.context % 40;
        TestMode(c, batch, "mixed short ones");
      }
    }
  }
}

// A few calls of each kind: what runs under a sanitizer.
void TestSmall() {
  Config c;
  TestOne(c, {{0, 0, 1}, {1, 1, 1}, {2, 0, 0}, {3, 130, 1}, {4, 400, 1}}, "a batch");
  TestOne(c, RandomBatch(40, 100, 1), "more than a warp of sequences");
  TestOne(c, RandomBatch(70, 500, 1), "more than few rows");
  TestOne(c, {{0, 5000, 1}}, "a long sequence");
  TestOne(c, {{0, 300, 3}, {1, 70, 7}}, "several query tokens");
  TestOne(ConfigOf(PKV_E4M3, 128), {{0, 300, 1}, {1, 70, 1}}, "fp8");
  c.page_tokens = 24;
  c.window = 100;
  TestOne(c, {{0, 300, 1}, {1, 70, 4}}, "pages of no whole tiles, a window");
  TestCascade(ConfigOf(PKV_BF16, 128), 3, 256);
  TestFastCascade(Config(), 24, 272, 1, true, "small");
  TestFastCascade(Config(), 15, 272, 3, true, "small");
}

}  // namespace

int main() {
  kit::Start();
  const uint32_t most = 5000;
  if (kit::Small()) {
    TestSmall();
    return kit::Done();
  }
  TestOneRow();
  TestFewRows();
  TestFewRowsTypes();
  TestMixed();
  TestShapes(most);
  TestTypes(most);
  TestInvariant(Config(), most);
  TestCascade(Config(), 5, 8192);
  TestCascade(Config(), 40, 1008);
  TestFastCascades();
  TestRoom();
  return kit::Done();
}

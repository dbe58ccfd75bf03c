// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prefill attention against the reference: ragged batches, chunks of longer contexts, odd sizes,
 * pages in random order, NaN wherever no token of a context lies.
 */
#include "prefill.h"

#include <algorithm>

#include "kit.cuh"
#include "reference.cuh"

namespace {

struct Sequence {
  uint32_t query, context;
};

struct Shape {
  const char* name;
  uint32_t dtype, head_dim, q_heads, kv_heads, page_tokens;
  std::vector<Sequence> seqs;
  bool layer_major = false;  // [layer][K,V][slot][token][head][dim] instead of page-major
  bool indirect = false;     // table_rows
  uint32_t q_pad = 0;        // elements between rows of q
  uint32_t spare_rows = 0;   // rows of q that no sequence has
  float scale = 0;           // 0: 1 / sqrt(head_dim)
};

template <typename T>
__global__ void FillTokensKernel(uint8_t* base, const uint64_t* places, uint32_t nr_tokens,
                                 pkv_kv_layout l, uint64_t seed) {
  const uint32_t n = l.nr_kv_heads * l.head_dim * 2;
  for (uint32_t t = blockIdx.x; t < nr_tokens; t += gridDim.x) {
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
      const uint32_t d = i % l.head_dim, h = i / l.head_dim % l.nr_kv_heads;
      const uint32_t v = i / l.head_dim / l.nr_kv_heads;
      const uint64_t bits = kit::Mix(seed + (uint64_t{t} * n + i + 1) * 0x9e3779b97f4a7c15);
      const float x = (static_cast<float>(bits >> 40) * 0x1p-24f - 0.5f) * 3.46f;
      *reinterpret_cast<T*>(base + places[t] + h * l.head_stride_bytes + v * l.kv_stride_bytes +
                            d * 2) = T(x);
    }
  }
}

pkv_kv_layout LayoutOf(const Shape& s, uint32_t nr_layers, uint32_t nr_slots) {
  pkv_kv_layout l;
  if (pkv_kv_layout_init(&l, s.dtype, nr_layers, s.kv_heads, s.head_dim, s.page_tokens) != 0) {
    printf("Bail out! layout\n");
    exit(1);
  }
  if (s.layer_major) {
    l.head_stride_bytes = s.head_dim * 2;
    l.token_stride_bytes = l.head_stride_bytes * s.kv_heads;
    l.page_stride_bytes = l.token_stride_bytes * s.page_tokens;
    l.kv_stride_bytes = l.page_stride_bytes * nr_slots;
    l.layer_stride_bytes = l.kv_stride_bytes * 2;
  }
  return l;
}

template <typename T>
void Check(const Shape& s) {
  constexpr uint32_t kLayers = 2, kLayer = 1, kMoreSlots = 3;
  const uint32_t nr_seqs = s.seqs.size();
  std::vector<uint32_t> query_start(1, 0), contexts, rows(nr_seqs);
  uint32_t nr_pages = 0, most_pages = 0, most_query = 0, most_context = 0;
  for (const Sequence& q : s.seqs) {
    query_start.push_back(query_start.back() + q.query);
    contexts.push_back(q.context);
    const uint32_t pages = (q.context + s.page_tokens - 1) / s.page_tokens;
    nr_pages += pages;
    most_pages = std::max(most_pages, pages);
    most_query = std::max(most_query, q.query);
    most_context = std::max(most_context, q.context);
  }
  const uint32_t nr_slots = nr_pages + kMoreSlots, nr_tokens = query_start.back() + s.spare_rows;
  std::vector<uint32_t> slots(nr_slots);
  for (uint32_t i = 0; i < nr_slots; i++) slots[i] = i;
  for (uint32_t i = nr_slots; i > 1; i--) std::swap(slots[i - 1], slots[random_bits() % i]);
  for (uint32_t i = 0; i < nr_seqs; i++) rows[i] = s.indirect ? nr_seqs - 1 - i : i;

  const pkv_kv_layout l = LayoutOf(s, kLayers, nr_slots);
  const uint32_t row_slots = most_pages + 2;
  std::vector<uint32_t> table(nr_seqs * row_slots, 0xffffffff);
  std::vector<uint64_t> places;
  uint32_t next = 0;
  for (uint32_t i = 0; i < nr_seqs; i++) {
    for (uint32_t t = 0; t < contexts[i]; t++) {
      uint32_t& slot = table[rows[i] * row_slots + t / s.page_tokens];
      if (t % s.page_tokens == 0) slot = slots[next++];
      places.push_back(slot * l.page_stride_bytes + kLayer * l.layer_stride_bytes +
                       t % s.page_tokens * l.token_stride_bytes);
    }
  }
  const uint64_t arena_bytes =
      uint64_t{nr_slots} * kLayers * 2 * s.kv_heads * s.page_tokens * s.head_dim * 2;
  const uint64_t out_elements = uint64_t{nr_tokens} * s.q_heads * s.head_dim;
  const uint64_t q_row = s.q_heads * s.head_dim + s.q_pad;
  kit::Buffer<uint8_t> arena(arena_bytes);
  kit::Buffer<uint64_t> place_buffer(places);
  kit::Buffer<uint32_t> query_starts(query_start), context_buffer(contexts), tables(table);
  kit::Buffer<uint32_t> row_buffer(rows), workspace(64);
  const uint64_t lse_elements = uint64_t{nr_tokens} * s.q_heads;
  // Launched one behind the other: the next may begin before the last has ended.
  constexpr pagedkv::PrefillKind kLaunches[] = {
      pagedkv::PrefillKind::kLong, pagedkv::PrefillKind::kShort, pagedkv::PrefillKind::kAny,
      pagedkv::PrefillKind::kLong};
  constexpr size_t kNrLaunches = sizeof(kLaunches) / sizeof(kLaunches[0]);
  kit::Buffer<T> q(nr_tokens * q_row), out(kNrLaunches * out_elements);
  kit::Buffer<float> lse(kNrLaunches * lse_elements), ref(out_elements), ref_lse(lse_elements);
  workspace.Zero();
  kit::FillNormal(q);
  FillTokensKernel<T>
      <<<1024, 256>>>(arena.data(), place_buffer.data(), places.size(), l, random_bits());
  CUDA_MUST(cudaGetLastError());

  struct pkv_cuda_attention a = {};
  a.size = sizeof(a);
  a.layout = &l;
  a.base = arena.data();
  a.nr_slots = nr_slots;
  a.layer = kLayer;
  a.nr_q_heads = s.q_heads;
  a.nr_seqs = nr_seqs;
  a.nr_tokens = nr_tokens;
  a.max_query_tokens = most_query;
  a.max_context_tokens = most_context;
  a.q_dtype = s.dtype;
  a.scale = s.scale != 0 ? s.scale : 1 / sqrtf(s.head_dim);
  a.query_start = query_starts.data();
  a.context_tokens = context_buffer.data();
  a.table = tables.data();
  a.table_row_slots = row_slots;
  a.table_rows = s.indirect ? row_buffer.data() : nullptr;
  a.q = q.data();
  a.q_row_elements = q_row;
  a.workspace = workspace.data();
  a.workspace_bytes = workspace.bytes();
  CUDA_MUST(cudaDeviceSynchronize());
  if (!kit::Ok(pagedkv::PrefillTakes(a), "%s: is taken", s.name)) return;
  CUDA_MUST(pagedkv::Reference(a, ref.data(), ref_lse.data()));
  CUDA_MUST(cudaDeviceSynchronize());
  for (size_t i = 0; i < kNrLaunches; i++) {
    a.out = out.data() + i * out_elements;
    a.lse = lse.data() + i * lse_elements;
    CUDA_MUST(pagedkv::Prefill(a, kLaunches[i]));
  }
  CUDA_MUST(cudaDeviceSynchronize());
  std::vector<float> want = ref.Get(), want_lse = ref_lse.Get();
  want.resize(uint64_t{query_start.back()} * s.q_heads * s.head_dim);
  want_lse.resize(uint64_t{query_start.back()} * s.q_heads);
  const std::vector<T> all = out.Get();
  const std::vector<float> all_lse = lse.Get();
  bool again = true, untouched = true;
  double error = 0, lse_error = 0, row_error = 0;
  for (size_t turn = 0; turn < kNrLaunches; turn++) {
    const T* first = &all[turn * out_elements];
    const std::vector<T> got(first, first + want.size());
    const float* first_lse = &all_lse[turn * lse_elements];
    const std::vector<float> got_lse(first_lse, first_lse + want_lse.size());
    for (size_t i = want.size(); i < out_elements; i++) {
      uint16_t bits;
      memcpy(&bits, &first[i], 2);
      untouched &= bits == 0xffff;
    }
    for (size_t i = 0; i < want.size(); i += s.head_dim) {
      const double e = kit::RelativeError(&got[i], &want[i], s.head_dim);
      if (!(e <= row_error)) row_error = e;
    }
    const double e = kit::RelativeError(got, want), le = kit::LargestError(got_lse, want_lse);
    if (!(e <= error)) error = e;
    if (!(le <= lse_error)) lse_error = le;
  }
  for (uint32_t w : workspace.Get()) again &= w == 0;
  kit::Ok(error < 1e-2 && row_error < 4e-2, "%s: output, error %.2e, worst row %.2e", s.name, error,
          row_error);
  kit::Ok(lse_error < 2e-2, "%s: log-sum-exp, error %.2e", s.name, lse_error);
  kit::Ok(again, "%s: workspace is zero again", s.name);
  kit::Ok(untouched && out.Guarded() && lse.Guarded() && workspace.Guarded(),
          "%s: nothing else is written", s.name);
}

uint32_t Draw(uint32_t low, uint32_t high) { return low + random_bits() % (high - low + 1); }

std::vector<Sequence> Ragged(uint32_t nr, uint32_t most_query, uint32_t most_before) {
  std::vector<Sequence> seqs;
  for (uint32_t i = 0; i < nr; i++) {
    const uint32_t query = Draw(0, 9) == 0 ? 0 : Draw(1, most_query);
    seqs.push_back({query, query + (Draw(0, 2) == 0 ? 0 : Draw(0, most_before))});
  }
  return seqs;
}

const Shape kShapes[] = {
    {"one block", PKV_BF16, 128, 4, 1, 16, {{32, 32}}},
    {"one token", PKV_BF16, 128, 4, 1, 16, {{1, 1}}},
    {"two blocks", PKV_BF16, 128, 8, 2, 16, {{256, 256}}},
    {"seventeen tokens", PKV_BF16, 128, 8, 2, 16, {{17, 17}}},
    {"chunk", PKV_BF16, 128, 8, 2, 16, {{100, 777}}},
    {"one head a group", PKV_BF16, 128, 3, 3, 16, {{300, 301}, {5, 900}}},
    {"group of 5", PKV_BF16, 128, 10, 2, 16, {{300, 301}, {5, 900}}},
    {"group of 16", PKV_BF16, 128, 16, 1, 16, {{300, 301}, {5, 900}}},
    {"group of 7, half", PKV_F16, 128, 7, 1, 16, {{129, 640}, {64, 64}}},
    {"dim 64", PKV_BF16, 64, 8, 2, 16, {{300, 300}, {77, 1000}, {1, 1}}},
    {"dim 64, half", PKV_F16, 64, 4, 4, 8, {{300, 300}, {77, 1000}, {1, 1}}},
    {"half", PKV_F16, 128, 8, 2, 16, {{300, 300}, {77, 1000}, {1, 1}}},
    {"pages of 8", PKV_BF16, 128, 8, 2, 8, {{300, 301}, {50, 1000}, {0, 0}, {0, 50}, {7, 7}}},
    {"pages of 24", PKV_BF16, 128, 8, 2, 24, {{300, 301}, {50, 1000}, {9, 9}}},
    {"pages of 32", PKV_BF16, 128, 8, 2, 32, {{300, 301}, {50, 1000}, {9, 9}}},
    {"pages of 64", PKV_F16, 64, 8, 2, 64, {{300, 301}, {50, 1000}, {9, 9}}},
    {"pages of 256", PKV_BF16, 128, 8, 2, 256, {{300, 301}, {50, 1000}, {9, 9}}},
    {"layer-major", PKV_BF16, 128, 8, 2, 16, {{300, 301}, {50, 1000}}, true},
    {"layer-major, dim 64", PKV_BF16, 64, 8, 2, 16, {{300, 301}, {50, 1000}}, true},
    {"rows of the table", PKV_BF16, 128, 8, 2, 16, {{300, 301}, {50, 1000}, {3, 30}}, false, true},
    {"wide rows of q", PKV_BF16, 128, 8, 2, 16, {{300, 301}, {50, 90}}, false, false, 1024, 37},
    {"sharp softmax", PKV_BF16, 128, 8, 2, 16, {{700, 900}}, false, false, 0, 0, 2.0f},
    {"one-hot softmax", PKV_BF16, 128, 8, 2, 16, {{500, 900}}, false, false, 0, 0, 12.0f},
    {"one-hot softmax, half", PKV_F16, 128, 8, 2, 16, {{500, 900}}, false, false, 0, 0, 12.0f},
};

}  // namespace

int main() {
  kit::Start();
  for (const Shape& s : kShapes) {
    s.dtype == PKV_F16 ? Check<__half>(s) : Check<__nv_bfloat16>(s);
  }
  Check<__nv_bfloat16>({"ragged", PKV_BF16, 128, 8, 2, 16, Ragged(40, 300, 700)});
  if (!kit::Small()) {
    Check<__nv_bfloat16>({"many sequences", PKV_BF16, 128, 8, 2, 16, Ragged(150, 200, 1000)});
    Check<__half>({"crowd", PKV_F16, 64, 4, 2, 16, Ragged(1000, 20, 300)});
    Check<__nv_bfloat16>({"long", PKV_BF16, 128, 4, 1, 16, {{1000, 40001}, {2000, 2000}}});
    Check<__nv_bfloat16>({"Llama", PKV_BF16, 128, 32, 8, 16, {{2048, 2048}, {512, 3000}}});
  }
  return kit::Done();
}

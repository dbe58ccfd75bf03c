// SPDX-License-Identifier: GPL-2.0-only
// Cache writes, rotation and rounding against doubles, and against the CPU's bit for bit where no
// rotation is; every byte of the arena that is no new token's stays as it was.
#include <pagedkv/pkv_cuda.h>

#include "kit.cuh"
#include "layouts.cuh"

struct Geometry {
  uint32_t dtype, nr_layers, nr_q_heads, nr_kv_heads, dim, rotary, page_tokens;
  Arrangement how;
  bool scales;
};

// A ragged batch on block tables in random order.
struct Batch {
  uint32_t nr_seqs, nr_tokens = 0, nr_slots = 0, row_slots = 0, longest = 0;
  std::vector<uint32_t> query_start{0}, context, rows, table;

  Batch(uint32_t seqs, uint32_t most_tokens, uint32_t page_tokens) : nr_seqs(seqs) {
    for (uint32_t s = 0; s < seqs; s++) {
      uint32_t tokens = random_in(0, most_tokens);
      context.push_back(tokens + random_in(0, 3 * page_tokens));
      query_start.push_back(query_start[s] + tokens);
      row_slots = std::max(row_slots, (context[s] + page_tokens - 1) / page_tokens + 1);
      nr_slots += (context[s] + page_tokens - 1) / page_tokens;
      longest = std::max(longest, context[s]);
    }
    nr_tokens = query_start[seqs];
    nr_slots += 3;
    std::vector<uint32_t> order(nr_slots);
    for (uint32_t i = 0; i < nr_slots; i++) order[i] = i;
    random_shuffle(order.data(), nr_slots);
    for (uint32_t s = 0; s < seqs; s++) rows.push_back(s);
    random_shuffle(rows.data(), seqs);
    table.assign(static_cast<size_t>(seqs) * row_slots, ~0u);
    for (uint32_t s = 0, next = 0; s < seqs; s++)
      for (uint32_t p = 0; p * page_tokens < context[s]; p++)
        table[rows[s] * row_slots + p] = order[next++];
  }
};

static float Decoded(const char* at, uint32_t dtype) {
  switch (dtype) {
    case PKV_F32:
      return *reinterpret_cast<const float*>(at);
    case PKV_BF16:
      return kit::ToFloat(*reinterpret_cast<const __nv_bfloat16*>(at));
    case PKV_F16:
      return kit::ToFloat(*reinterpret_cast<const __half*>(at));
    default:
      return kit::ToFloat(*reinterpret_cast<const __nv_fp8_e4m3*>(at));
  }
}

// May a stored value differ so from what it should be?
static bool Near(double out, double ref, uint32_t dtype) {
  double relative = dtype == PKV_F32    ? 1e-6
                    : dtype == PKV_BF16 ? 0x1p-8
                    : dtype == PKV_F16  ? 0x1p-10
                                        : 0x1p-3;
  double least = dtype == PKV_E4M3 ? 0x1p-9 : 1e-6;
  if (dtype == PKV_E4M3) ref = std::fmin(std::fmax(ref, -448), 448);
  return std::fabs(out - ref) <= relative * std::fabs(ref) + least;
}

// Dim i of a head of x, rotated.
template <class T>
static double Rotated(const T* x, const float* rotation, uint32_t rotary, uint32_t i) {
  uint32_t half = rotary / 2;
  if (i >= rotary) return static_cast<double>(kit::ToFloat(x[i]));
  double c = rotation[i % half * 2], s = rotation[i % half * 2 + 1];
  double a = kit::ToFloat(x[i % half]), b = kit::ToFloat(x[i % half + half]);
  return i < half ? a * c - b * s : a * s + b * c;
}

template <class T>
static void TestWrite(uint32_t src_dtype, uint32_t q_out_dtype, const Geometry& g, uint32_t nr_seqs,
                      uint32_t most_tokens) {
  Batch batch(nr_seqs, most_tokens, g.page_tokens);
  uint32_t q_row = g.nr_q_heads * g.dim, kv_row = g.nr_kv_heads * g.dim,
           row = q_row + 2 * kv_row + 8;
  uint32_t padded = batch.nr_tokens + 2;  // rows that are no sequence's
  kit::Buffer<T> qkv(static_cast<size_t>(padded) * row);
  kit::Buffer<char> q_out(padded * q_row * pkv_dtype_bytes(q_out_dtype) + 16);
  kit::Buffer<float> rotation(static_cast<size_t>(batch.longest + 1) * std::max(g.rotary, 8u));
  kit::Buffer<float> k_scale(g.nr_kv_heads), v_scale(g.nr_kv_heads);
  kit::FillNormal(qkv, 2);
  std::vector<float> rotations(rotation.size()), scales(g.nr_kv_heads);
  for (size_t i = 0; i < rotations.size() / 2; i++) {
    float angle = 10 * random_float();
    rotations[2 * i] = cosf(angle);
    rotations[2 * i + 1] = sinf(angle);
  }
  for (float& s : scales) s = 0.05f + 0.05f * random_float();
  rotation.Set(rotations);
  k_scale.Set(scales);
  v_scale.Set(scales);
  struct pkv_kv_layout l =
      Arranged(g.how, g.dtype, g.nr_layers, g.nr_kv_heads, g.dim, g.page_tokens, batch.nr_slots);
  kit::Buffer<char> arena(ArenaBytes(l, batch.nr_slots));
  kit::Buffer<uint32_t> starts(batch.query_start), context(batch.context), rows(batch.rows),
      table(batch.table);
  struct pkv_cuda_cache_write w = {};
  w.size = sizeof(w);
  w.layout = &l;
  w.base = arena.data();
  w.nr_slots = batch.nr_slots;
  w.layer = g.nr_layers - 1;
  w.nr_q_heads = g.nr_q_heads;
  w.nr_seqs = nr_seqs;
  w.nr_tokens = padded;
  w.src_dtype = src_dtype;
  w.q_out_dtype = q_out_dtype;
  w.rotary_dim = g.rotary;
  w.rotation = rotation.data();
  w.query_start = starts.data();
  w.context_tokens = context.data();
  w.table = table.data();
  w.table_row_slots = batch.row_slots;
  w.table_rows = rows.data();
  w.q = qkv.data();
  w.k = qkv.data() + q_row;
  w.v = qkv.data() + q_row + kv_row;
  w.q_row_elements = w.k_row_elements = w.v_row_elements = row;
  w.q_out = q_out.data();
  w.q_out_row_elements = q_row;
  if (g.scales) w.k_scale = k_scale.data(), w.v_scale = v_scale.data();
  std::vector<T> in = qkv.Get();
  int err = pkv_cuda_cache_write(&w);
  CUDA_MUST(cudaDeviceSynchronize());

  std::vector<char> out = arena.Get(), q = q_out.Get();
  uint32_t wrong = 0;
  double difference = 0, norm = 0;
  auto compare = [&](double value, double ref, uint32_t dtype) {
    wrong += !Near(value, ref, dtype);
    difference += (value - ref) * (value - ref);
    norm += ref * ref;
  };
  for (uint32_t s = 0; s < nr_seqs; s++)
    for (uint32_t t = batch.query_start[s]; t < batch.query_start[s + 1]; t++) {
      uint32_t position = batch.context[s] - (batch.query_start[s + 1] - t);
      uint32_t slot = batch.table[batch.rows[s] * batch.row_slots + position / g.page_tokens];
      const float* turn = &rotations[static_cast<size_t>(position) * g.rotary];
      for (uint32_t i = 0; i < q_row; i++) {
        size_t at = (t * static_cast<size_t>(q_row) + i) * pkv_dtype_bytes(q_out_dtype);
        const T* head = &in[static_cast<size_t>(t) * row + i / g.dim * g.dim];
        compare(Decoded(&q[at], q_out_dtype), Rotated(head, turn, g.rotary, i % g.dim),
                q_out_dtype);
        memset(&q[at], kit::kPoison, pkv_dtype_bytes(q_out_dtype));
      }
      for (uint32_t i = 0; i < 2 * kv_row; i++) {
        uint32_t kv = i / kv_row, h = i % kv_row / g.dim, d = i % g.dim;
        const T* head = &in[static_cast<size_t>(t) * row + q_row + i / g.dim * g.dim];
        uint64_t at = PlaceOf(l, slot, w.layer, kv, h, position % g.page_tokens) +
                      d * pkv_dtype_bytes(g.dtype);
        double ref = Rotated(head, turn, kv ? 0 : g.rotary, d) / (g.scales ? scales[h] : 1);
        compare(Decoded(&out[at], g.dtype), ref, g.dtype);
        memset(&out[at], kit::kPoison, pkv_dtype_bytes(g.dtype));
      }
    }
  // what was written is poison again: so must be all
  bool rest = true;
  for (char c : out) rest &= c == static_cast<char>(kit::kPoison);
  for (char c : q) rest &= c == static_cast<char>(kit::kPoison);
  kit::Ok(
      !err && !wrong && rest && arena.Guarded() && q_out.Guarded(),
      "%u tokens, %u and %u heads of %u, %u rotated, dtypes %u to %u and %u, layout %d: %u wrong, "
      "error %.1e%s",
      batch.nr_tokens, g.nr_q_heads, g.nr_kv_heads, g.dim, g.rotary, src_dtype, g.dtype,
      q_out_dtype, g.how, wrong, norm > 0 ? sqrt(difference / norm) : 0,
      rest ? "" : ", more than that was written");
}

// Without rotation it is what the CPU writes; q in place is rotated alone.
static void TestAsOnCpu(uint32_t dtype) {
  constexpr uint32_t kHeads = 3, kDim = 64, kPage = 8, kRow = kHeads * kDim;
  Batch batch(9, 20, kPage);
  kit::Buffer<float> k(batch.nr_tokens * kRow), v(batch.nr_tokens * kRow);
  kit::FillNormal(k, 5);
  kit::FillNormal(v, 5);
  struct pkv_kv_layout l = Arranged(kPageMajor, dtype, 2, kHeads, kDim, kPage, batch.nr_slots);
  kit::Buffer<char> arena(ArenaBytes(l, batch.nr_slots));
  std::vector<char> want = arena.Get();
  std::vector<float> host_k = k.Get(), host_v = v.Get();
  std::vector<uint32_t> seq_of, positions, table;
  std::vector<uint64_t> table_start = {0};
  for (uint32_t s = 0; s < batch.nr_seqs; s++) {
    uint32_t tokens = batch.query_start[s + 1] - batch.query_start[s];
    for (uint32_t t = 0; t < tokens; t++) {
      seq_of.push_back(s);
      positions.push_back(batch.context[s] - tokens + t);
    }
    auto first = batch.table.begin() + batch.rows[s] * batch.row_slots;
    table.insert(table.end(), first, first + (batch.context[s] + kPage - 1) / kPage);
    table_start.push_back(table.size());
  }
  struct pkv_cache_write cpu = {};
  cpu.layout = &l;
  cpu.base = want.data();
  cpu.nr_slots = batch.nr_slots;
  cpu.layer = 1;
  cpu.nr_tokens = batch.nr_tokens;
  cpu.nr_seqs = batch.nr_seqs;
  cpu.k = host_k.data();
  cpu.v = host_v.data();
  cpu.kv_row_floats = kRow;
  cpu.seq_of = seq_of.data();
  cpu.positions = positions.data();
  cpu.table = table.data();
  cpu.table_start = table_start.data();
  int err = pkv_cache_write(&cpu);
  kit::Buffer<uint32_t> starts(batch.query_start), context(batch.context), rows(batch.rows),
      device_table(batch.table);
  struct pkv_cuda_cache_write w = {};
  w.size = sizeof(w);
  w.layout = &l;
  w.base = arena.data();
  w.nr_slots = batch.nr_slots;
  w.layer = 1;
  w.nr_seqs = batch.nr_seqs;
  w.nr_tokens = batch.nr_tokens;
  w.query_start = starts.data();
  w.context_tokens = context.data();
  w.table = device_table.data();
  w.table_row_slots = batch.row_slots;
  w.table_rows = rows.data();
  w.k = k.data();
  w.v = v.data();
  w.k_row_elements = w.v_row_elements = kRow;
  err |= pkv_cuda_cache_write(&w);
  kit::Ok(!err && arena.Get() == want, "the CPU's bytes, dtype %u", dtype);
  struct pkv_cuda_cache_write bad = w;
  bad.layer = 2;
  err = pkv_cuda_cache_write(&bad) == -EINVAL;
  bad = w;
  bad.rotary_dim = 24;
  err &= pkv_cuda_cache_write(&bad) == -EINVAL;
  bad = w;
  bad.k_row_elements = kRow - 8;
  err &= pkv_cuda_cache_write(&bad) == -EINVAL;
  bad = w;
  bad.table = nullptr;
  err &= pkv_cuda_cache_write(&bad) == -EINVAL;
  kit::Ok(err && arena.Get() == want, "wrong arguments are refused");
}

// q rotated where it lies.
static void TestInPlace() {
  constexpr uint32_t kQ = 4, kDim = 64, kRow = (kQ + 2) * kDim;
  Batch batch(5, 7, 4);
  kit::Buffer<__nv_bfloat16> qkv(batch.nr_tokens * kRow), q_out(batch.nr_tokens * kQ * kDim);
  kit::FillNormal(qkv);
  kit::Buffer<float> rotation(static_cast<size_t>(batch.longest + 1) * kDim);
  kit::FillNormal(rotation);
  struct pkv_kv_layout l = Arranged(kPageMajor, PKV_BF16, 1, 1, kDim, 4, batch.nr_slots);
  kit::Buffer<char> arena(ArenaBytes(l, batch.nr_slots));
  kit::Buffer<uint32_t> starts(batch.query_start), context(batch.context), rows(batch.rows),
      table(batch.table);
  struct pkv_cuda_cache_write w = {};
  w.size = sizeof(w);
  w.layout = &l;
  w.base = arena.data();
  w.nr_slots = batch.nr_slots;
  w.nr_q_heads = kQ;
  w.nr_seqs = batch.nr_seqs;
  w.nr_tokens = batch.nr_tokens;
  w.src_dtype = w.q_out_dtype = PKV_BF16;
  w.rotary_dim = kDim;
  w.rotation = rotation.data();
  w.query_start = starts.data();
  w.context_tokens = context.data();
  w.table = table.data();
  w.table_row_slots = batch.row_slots;
  w.table_rows = rows.data();
  w.q = qkv.data();
  w.k = qkv.data() + kQ * kDim;
  w.v = qkv.data() + (kQ + 1) * kDim;
  w.q_row_elements = w.k_row_elements = w.v_row_elements = kRow;
  w.q_out = q_out.data();
  w.q_out_row_elements = kQ * kDim;
  int err = pkv_cuda_cache_write(&w);
  std::vector<__nv_bfloat16> apart = q_out.Get(), before = qkv.Get();
  w.q_out = qkv.data();
  w.q_out_row_elements = kRow;
  err |= pkv_cuda_cache_write(&w);
  std::vector<__nv_bfloat16> after = qkv.Get();
  bool same = true;
  for (uint32_t t = 0; t < batch.nr_tokens; t++) {
    same &= !memcmp(&after[t * kRow], &apart[t * kQ * kDim], kQ * kDim * 2);
    same &= !memcmp(&after[t * kRow + kQ * kDim], &before[t * kRow + kQ * kDim], 2 * kDim * 2);
  }
  kit::Ok(!err && same && qkv.Guarded(), "q rotated in place");
}

int main() {
  kit::Start();
  TestAsOnCpu(PKV_F32);
  TestAsOnCpu(PKV_BF16);
  TestInPlace();
  uint32_t seqs = kit::Small() ? 5 : 150, most = kit::Small() ? 4 : 60;
  using Bf16 = __nv_bfloat16;
  TestWrite<Bf16>(PKV_BF16, PKV_BF16, {PKV_BF16, 2, 32, 8, 128, 128, 16, kPageMajor, false}, seqs,
                  most);
  TestWrite<Bf16>(PKV_BF16, PKV_BF16, {PKV_BF16, 2, 8, 1, 128, 128, 16, kPageMajor, false}, seqs,
                  1);
  TestWrite<float>(PKV_F32, PKV_BF16, {PKV_BF16, 2, 4, 2, 64, 64, 16, kTokenMajor, false}, seqs,
                   most);
  TestWrite<float>(PKV_F32, PKV_F32, {PKV_F32, 1, 3, 3, 80, 80, 8, kLayerMajor, false}, seqs, most);
  TestWrite<float>(PKV_F32, PKV_F16, {PKV_E4M3, 2, 5, 1, 96, 32, 64, kPageMajor, true}, seqs, most);
  TestWrite<Bf16>(PKV_BF16, PKV_BF16, {PKV_E4M3, 1, 32, 8, 128, 128, 16, kPageMajor, true}, seqs,
                  most);
  TestWrite<__half>(PKV_F16, PKV_F16, {PKV_F16, 3, 16, 1, 256, 256, 32, kPageMajor, false}, seqs,
                    most);
  TestWrite<__half>(PKV_F16, PKV_F16, {PKV_E4M3, 1, 0, 2, 80, 48, 256, kLayerMajor, false}, seqs,
                    most);
  TestWrite<float>(PKV_F32, PKV_F32, {PKV_BF16, 1, 1, 1, 8, 0, 1, kPageMajor, false}, seqs, most);
  return kit::Done();
}

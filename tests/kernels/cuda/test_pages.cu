// SPDX-License-Identifier: GPL-2.0-only
// Pages between arenas of every layout, by lists of every kind, byte for byte.
#include <pagedkv/pkv_cuda.h>

#include "kit.cuh"
#include "layouts.cuh"

enum Lists { kHost, kDevice, kNoSrc, kNoDst, kNoneAtAll, kNrLists };

struct Geometry {
  uint32_t dtype, nr_layers, nr_heads, dim, page_tokens;
};

static void CopyReference(const struct pkv_kv_layout& from, const struct pkv_kv_layout& to,
                          const char* src, char* dst, uint32_t src_slot, uint32_t dst_slot) {
  for (uint32_t layer = 0; layer < from.nr_layers; layer++)
    for (uint32_t kv = 0; kv < 2; kv++)
      for (uint32_t head = 0; head < from.nr_kv_heads; head++)
        for (uint32_t token = 0; token < from.page_tokens; token++)
          memcpy(dst + PlaceOf(to, dst_slot, layer, kv, head, token),
                 src + PlaceOf(from, src_slot, layer, kv, head, token),
                 from.head_dim * pkv_dtype_bytes(from.dtype));
}

static void TestCopy(const Geometry& g, Arrangement from, Arrangement to, Lists lists,
                     uint32_t nr_slots, uint32_t nr_copies) {
  struct pkv_kv_layout a =
      Arranged(from, g.dtype, g.nr_layers, g.nr_heads, g.dim, g.page_tokens, nr_slots);
  struct pkv_kv_layout b =
      Arranged(to, g.dtype, g.nr_layers, g.nr_heads, g.dim, g.page_tokens, nr_slots);
  kit::Buffer<char> src(ArenaBytes(a, nr_slots)), dst(ArenaBytes(b, nr_slots));
  std::vector<char> contents(src.size());
  for (char& c : contents) c = static_cast<char>(random_bits());
  src.Set(contents);
  std::vector<uint32_t> order(nr_slots), src_slots(nr_copies), dst_slots(nr_copies);
  for (uint32_t i = 0; i < nr_slots; i++) order[i] = i;
  random_shuffle(order.data(), nr_slots);
  for (uint32_t i = 0; i < nr_copies; i++) {
    src_slots[i] = lists == kNoSrc || lists == kNoneAtAll ? i : random_in(0, nr_slots - 1);
    dst_slots[i] = lists == kNoDst || lists == kNoneAtAll ? i : order[i];
  }
  kit::Buffer<uint32_t> device_src(src_slots), device_dst(dst_slots);
  struct pkv_cuda_page_copy c = {};
  c.size = sizeof(c);
  c.flags = lists == kHost ? PKV_CUDA_HOST_LISTS : 0;
  c.src_layout = &a;
  c.dst_layout = &b;
  c.src_base = src.data();
  c.dst_base = dst.data();
  c.nr_src_slots = c.nr_dst_slots = nr_slots;
  c.src_slots = lists == kHost ? src_slots.data() : device_src.data();
  c.dst_slots = lists == kHost ? dst_slots.data() : device_dst.data();
  if (lists == kNoSrc || lists == kNoneAtAll) c.src_slots = nullptr;
  if (lists == kNoDst || lists == kNoneAtAll) c.dst_slots = nullptr;
  c.nr_copies = nr_copies;
  std::vector<char> want = dst.Get();
  for (uint32_t i = 0; i < nr_copies; i++)
    CopyReference(a, b, contents.data(), want.data(), src_slots[i], dst_slots[i]);
  int err = pkv_cuda_page_copy(&c);
  CUDA_MUST(cudaDeviceSynchronize());
  kit::Ok(!err && dst.Get() == want && dst.Guarded() && src.Get() == contents,
          "%u pages of %u layers, %u heads of %u, %u tokens, layouts %d to %d, lists %d", nr_copies,
          g.nr_layers, g.nr_heads, g.dim, g.page_tokens, from, to, lists);
}

// Copy-on-write: within one arena, of which all else stays.
static void TestWithin() {
  struct pkv_kv_layout l = Arranged(kLayerMajor, PKV_BF16, 2, 3, 80, 8, 10);
  kit::Buffer<char> arena(ArenaBytes(l, 10));
  std::vector<char> want(arena.size());
  for (char& c : want) c = static_cast<char>(random_bits());
  arena.Set(want);
  uint32_t src[] = {1, 1, 9}, dst[] = {0, 5, 2};
  for (int i = 0; i < 3; i++) {
    std::vector<char> before = want;
    CopyReference(l, l, before.data(), want.data(), src[i], dst[i]);
  }
  struct pkv_cuda_page_copy c = {};
  c.size = sizeof(c);
  c.flags = PKV_CUDA_HOST_LISTS;
  c.src_layout = c.dst_layout = &l;
  c.src_base = c.dst_base = arena.data();
  c.nr_src_slots = c.nr_dst_slots = 10;
  c.src_slots = src;
  c.dst_slots = dst;
  c.nr_copies = 3;
  kit::Ok(!pkv_cuda_page_copy(&c) && arena.Get() == want && arena.Guarded(), "within one arena");
  dst[1] = 10;
  kit::Ok(pkv_cuda_page_copy(&c) == -EINVAL && arena.Get() == want, "a slot past the arena");
  struct pkv_kv_layout odd = Arranged(kTokenMajor, PKV_E4M3, 2, 3, 72, 8, 10);
  dst[1] = 5;
  c.src_layout = c.dst_layout = &odd;
  kit::Ok(pkv_cuda_page_copy(&c) == 0, "contiguous pages of odd rows");
  odd.page_stride_bytes += 8;
  kit::Ok(pkv_cuda_page_copy(&c) == -EOPNOTSUPP, "pages that are not 16-byte aligned");
  c.dst_layout = &l;
  kit::Ok(pkv_cuda_page_copy(&c) == -EINVAL, "layouts of different pages");
  CUDA_MUST(cudaDeviceSynchronize());
}

int main() {
  kit::Start();
  const Geometry shapes[] = {
      {PKV_BF16, 1, 1, 8, 1},    {PKV_BF16, 2, 3, 80, 8}, {PKV_F32, 3, 2, 64, 16},
      {PKV_E4M3, 2, 8, 128, 16}, {PKV_F16, 1, 5, 96, 64}, {PKV_BF16, 3, 2, 256, 7},
  };
  TestWithin();
  for (const Geometry& g : shapes)
    for (int from = 0; from < kNrArrangements; from++)
      for (int to = 0; to < kNrArrangements; to++)
        TestCopy(g, static_cast<Arrangement>(from), static_cast<Arrangement>(to),
                 static_cast<Lists>(random_in(0, kNrLists - 1)), 13, 11);
  for (int lists = 0; lists < kNrLists; lists++)
    TestCopy(shapes[1], kPageMajor, kLayerMajor, static_cast<Lists>(lists), 20, 20);
  // more than one launch's parameters take, and pages of 2 MiB
  if (!kit::Small()) {
    TestCopy({PKV_BF16, 1, 1, 8, 8}, kPageMajor, kTokenMajor, kHost, 1200, 1100);
    TestCopy({PKV_BF16, 32, 8, 128, 16}, kPageMajor, kLayerMajor, kDevice, 9, 8);
    TestCopy({PKV_BF16, 32, 8, 128, 16}, kPageMajor, kPageMajor, kHost, 9, 9);
  }
  return kit::Done();
}

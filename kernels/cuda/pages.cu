// SPDX-License-Identifier: MIT
// Copying pages between arenas of any two layouts. On the host the page's dims are merged as far as
// both layouts have them contiguous: two page-major layouts become one run. What is left is an
// inner part, rows of a run each, of which a warp copies 4 KiB, and up to three outer dims, which a
// warp takes apart once.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "pages.cuh"

namespace pagedkv {
namespace {

constexpr int kWarps = 8;
constexpr int kUnroll = 8;
constexpr uint32_t kWordsPerUnit = 32 * kUnroll;
constexpr int kMaxDims = 4;
constexpr uint32_t kListed = 480;  // pairs of slots in a launch's parameters: 4 KiB take them

// Division by a number that a launch knows: n / d for n < 2^31.
struct Divisor {
  uint32_t d, multiplier, shift;

  Divisor() = default;
  explicit Divisor(uint32_t divisor) : d(divisor), multiplier(0), shift(0) {
    while (shift < 31 && (uint32_t{1} << shift) < d) shift++;
    multiplier =
        static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift) - d)) / d + 1);
  }
  __device__ uint32_t Quotient(uint32_t n) const { return (__umulhi(n, multiplier) + n) >> shift; }
};

struct Dim {
  uint64_t nr;
  uint64_t src;  // strides
  uint64_t dst;
};

struct Shape {
  const char* src;
  char* dst;
  uint64_t src_page, dst_page;
  uint64_t src_row, dst_row;     // from one row of the inner part to the next
  uint32_t run_words;            // of 16 bytes, of a row
  uint32_t inner_words;          // of all rows
  Divisor run, units, outer[2];  // units: of an inner part
  Divisor page;                  // units of a page
  Dim dims[3];
  uint32_t nr_units;
};

struct Lists {
  const uint32_t* src;  // on the device, or NULL
  const uint32_t* dst;
};

struct Listed {
  uint32_t src[kListed];
  uint32_t dst[kListed];
};

__device__ __forceinline__ void CopyUnit(const Shape& s, uint32_t unit, uint64_t from,
                                         uint64_t to) {
  uint32_t outer = s.units.Quotient(unit);
  uint32_t word = (unit - outer * s.units.d) * kWordsPerUnit + threadIdx.x % 32;
  uint32_t q0 = s.outer[0].Quotient(outer), q1 = s.outer[1].Quotient(q0);
  uint32_t i0 = outer - q0 * s.outer[0].d, i1 = q0 - q1 * s.outer[1].d;
  const char* src =
      s.src + from * s.src_page + i0 * s.dims[0].src + i1 * s.dims[1].src + q1 * s.dims[2].src;
  char* dst =
      s.dst + to * s.dst_page + i0 * s.dims[0].dst + i1 * s.dims[1].dst + q1 * s.dims[2].dst;
  uint4 words[kUnroll];
#pragma unroll
  for (int i = 0; i < kUnroll; i++) {
    uint32_t w = word + i * 32, row = s.run.Quotient(w), at = w - row * s.run_words;
    if (w < s.inner_words)
      words[i] = __ldcs(reinterpret_cast<const uint4*>(src + row * s.src_row) + at);
  }
#pragma unroll
  for (int i = 0; i < kUnroll; i++) {
    uint32_t w = word + i * 32, row = s.run.Quotient(w), at = w - row * s.run_words;
    if (w < s.inner_words) __stcs(reinterpret_cast<uint4*>(dst + row * s.dst_row) + at, words[i]);
  }
}

__global__ void __launch_bounds__(32 * kWarps)
    PageCopyKernel(const __grid_constant__ Shape s, Lists lists) {
  uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;
  if (unit >= s.nr_units) return;
  uint32_t page = s.page.Quotient(unit);
  CopyUnit(s, unit - page * s.page.d, lists.src ? lists.src[page] : page,
           lists.dst ? lists.dst[page] : page);
}

__global__ void __launch_bounds__(32 * kWarps)
    PageCopyListedKernel(const __grid_constant__ Shape s, const __grid_constant__ Listed listed) {
  uint32_t unit = blockIdx.x * kWarps + threadIdx.x / 32;
  if (unit >= s.nr_units) return;
  uint32_t page = s.page.Quotient(unit);
  CopyUnit(s, unit - page * s.page.d, listed.src[page], listed.dst[page]);
}

// Both layouts as runs and dims. False where the kernel can't take them.
bool ShapeOf(const struct pkv_kv_layout& src, const struct pkv_kv_layout& dst, Shape* s) {
  uint64_t run = src.head_dim * pkv_dtype_bytes(src.dtype);
  Dim all[kMaxDims] = {
      {src.page_tokens, src.token_stride_bytes, dst.token_stride_bytes},
      {src.nr_kv_heads, src.head_stride_bytes, dst.head_stride_bytes},
      {2, src.kv_stride_bytes, dst.kv_stride_bytes},
      {src.nr_layers, src.layer_stride_bytes, dst.layer_stride_bytes},
  };
  // those nearest to each other in the destination first
  std::stable_sort(all, all + kMaxDims, [](const Dim& a, const Dim& b) { return a.dst < b.dst; });
  Dim dims[kMaxDims];
  int nr = 0;
  for (const Dim& d : all) {
    if (d.nr == 1) continue;
    if (nr == 0 && d.src == run && d.dst == run)
      run *= d.nr;
    else if (nr > 0 && d.src == dims[nr - 1].src * dims[nr - 1].nr &&
             d.dst == dims[nr - 1].dst * dims[nr - 1].nr)
      dims[nr - 1].nr *= d.nr;
    else
      dims[nr++] = d;
  }
  if (run % 16 || src.page_stride_bytes % 16 || dst.page_stride_bytes % 16) return false;
  for (int i = 0; i < nr; i++)
    if (dims[i].src % 16 || dims[i].dst % 16) return false;
  for (int i = nr; i < kMaxDims; i++) dims[i] = {1, 0, 0};

  uint64_t inner_words = run / 16 * dims[0].nr;
  uint64_t units = (inner_words + kWordsPerUnit - 1) / kWordsPerUnit;
  uint64_t units_per_page = units * dims[1].nr * dims[2].nr * dims[3].nr;
  // what the divisors take
  if (inner_words + kWordsPerUnit > INT32_MAX || units_per_page > INT32_MAX) return false;
  s->page = Divisor(static_cast<uint32_t>(units_per_page));
  s->src_page = src.page_stride_bytes;
  s->dst_page = dst.page_stride_bytes;
  s->src_row = dims[0].src;
  s->dst_row = dims[0].dst;
  s->run_words = static_cast<uint32_t>(run / 16);
  s->inner_words = static_cast<uint32_t>(inner_words);
  s->run = Divisor(s->run_words);
  s->units = Divisor(static_cast<uint32_t>(units));
  for (int i = 0; i < 3; i++) s->dims[i] = dims[i + 1];
  for (int i = 0; i < 2; i++) s->outer[i] = Divisor(static_cast<uint32_t>(dims[i + 1].nr));
  return true;
}

unsigned BlocksOf(const Shape& s) { return (s.nr_units + kWarps - 1) / kWarps; }

}  // namespace

bool PageCopyTakes(const struct pkv_kv_layout& src, const struct pkv_kv_layout& dst) {
  Shape s;
  return ShapeOf(src, dst, &s);
}

cudaError_t PageCopy(const struct pkv_cuda_page_copy& c) {
  cudaStream_t stream = static_cast<cudaStream_t>(c.stream);
  Shape s;
  if (!ShapeOf(*c.src_layout, *c.dst_layout, &s)) return cudaErrorInvalidValue;
  s.src = static_cast<const char*>(c.src_base);
  s.dst = static_cast<char*>(c.dst_base);
  bool listed = c.flags & PKV_CUDA_HOST_LISTS;
  // as many at once as the divisor takes, and the parameters
  uint64_t most = INT32_MAX / s.page.d;
  if (listed) most = std::min<uint64_t>(most, kListed);
  for (uint64_t first = 0; first < c.nr_copies; first += most) {
    uint64_t nr = std::min<uint64_t>(most, c.nr_copies - first);
    s.nr_units = static_cast<uint32_t>(nr * s.page.d);
    if (listed) {
      Listed l;
      for (uint32_t i = 0; i < nr; i++) {
        l.src[i] = c.src_slots ? c.src_slots[first + i] : static_cast<uint32_t>(first + i);
        l.dst[i] = c.dst_slots ? c.dst_slots[first + i] : static_cast<uint32_t>(first + i);
      }
      PageCopyListedKernel<<<BlocksOf(s), 32 * kWarps, 0, stream>>>(s, l);
    } else {
      Shape part = s;
      Lists lists = {c.src_slots ? c.src_slots + first : nullptr,
                     c.dst_slots ? c.dst_slots + first : nullptr};
      if (!lists.src) part.src += first * s.src_page;
      if (!lists.dst) part.dst += first * s.dst_page;
      PageCopyKernel<<<BlocksOf(s), 32 * kWarps, 0, stream>>>(part, lists);
    }
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pagedkv

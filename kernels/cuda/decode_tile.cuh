/* SPDX-License-Identifier: MIT */
/*
 * What one warp does with tiles of 16 tokens of one row (a sequence and a kv head, one query
 * token): copies of half tiles (K or V) to shared memory, and the running softmax over them in
 * registers.
 *
 * Scores are S = K Q^T (tokens by rows of q), the output is O^T = V^T P^T (dims by rows of q), so
 * that few rows of q fill the narrow side of a matrix instruction, m16n8k16.
 */
#ifndef PAGEDKV_CUDA_DECODE_TILE_CUH
#define PAGEDKV_CUDA_DECODE_TILE_CUH

#include "decode_math.cuh"
#include "decode_plan.cuh"

namespace pagedkv {

template <class T, int kDim, int kBlocks>
struct TileShape {
  static constexpr uint32_t kRows = kBlocks * 8;  // of q
  static constexpr uint32_t kRowBytes = kDim * kElementBytes<T>;
  static constexpr uint32_t kHalf = kTile * kRowBytes;
  // a warp's part of a row in shared memory, in floats: sums, maxima, weights
  static constexpr uint32_t kPitch = kDim + 4;  // columns of a fragment in other banks
  static constexpr uint32_t kPart = kRows * kPitch + 2 * kRows;
  // the same in the order of the registers
  static constexpr uint32_t kLaid = kRows * (kDim + 2);
};

__device__ __forceinline__ void CopyOrZero16(uint32_t to, const char* from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(bytes)
               : "memory");
}

// Where 16-byte unit `unit` of row `row` of a half tile lies, so that the same unit of eight
// neighbouring rows is in eight different places of the banks.
template <uint32_t kRowBytes>
__device__ __forceinline__ uint32_t StreamSwizzled(uint32_t row, uint32_t unit) {
  return row * kRowBytes + (unit ^ (row % 8)) * 16;
}

// Rows and columns of 8 x 8 halves exchanged.
__device__ __forceinline__ uint32_t Transposed(uint32_t x) {
  uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// Asks for 16 tokens of K or V (`base`) of a head; places past the context become zeros.
template <uint32_t kRowBytes>
__device__ __forceinline__ void CopyHalf(const DecodeArgs& a, uint32_t to, const char* base,
                                         uint32_t slot, uint32_t head, uint32_t tile,
                                         uint32_t context, uint32_t lane) {
  constexpr uint32_t kUnits = kRowBytes / 16;  // 16-byte units of a row
  constexpr uint32_t kLoads = kTile * kUnits / 32;
  const uint32_t token = tile * kTile;
  const uint32_t in_page = token - a.by_page(token) * a.by_page.divisor;
  const char* from = base + slot * a.page_stride + head * a.head_stride + in_page * a.token_stride +
                     (lane / kUnits) * a.token_stride + lane % kUnits * 16;
  const uint64_t step = 32 / kUnits * a.token_stride;
  if (token + kTile <= context) {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; i++) {
      const uint32_t row = i * (32 / kUnits) + lane / kUnits;
      CopyOrZero16(to + StreamSwizzled<kRowBytes>(row, lane % kUnits), from + i * step, 16);
    }
  } else {
#pragma unroll
    for (uint32_t i = 0; i < kLoads; i++) {
      const uint32_t row = i * (32 / kUnits) + lane / kUnits;
      const bool is = token + row < context;
      CopyOrZero16(to + StreamSwizzled<kRowBytes>(row, lane % kUnits), is ? from + i * step : a.k,
                   is ? 16 : 0);
    }
  }
}

// What sums are multiplied by in the end.
__device__ __forceinline__ float StreamInverse(const DecodeArgs& a, uint32_t head, float weight) {
  const float v_scale = a.v_scale != nullptr ? __ldg(a.v_scale + head) : 1;
  return weight > 0 ? __frcp_rn(weight) * v_scale : 0;
}

template <class T>
__device__ __forceinline__ uint32_t StreamPack(const DecodeArgs& a, float low, float high) {
  if constexpr (kElementBytes<T> == 2) return PackHalves<T>(low, high);
  return a.q_is_bf16 ? PackHalves<Bf16>(low, high) : PackHalves<F16>(low, high);
}

// The running softmax of one row.
template <class T, int kDim, int kBlocks>
class TileMath {
 public:
  using Shape = TileShape<T, kDim, kBlocks>;
  static constexpr int kSteps = kDim / 16;

  __device__ TileMath(const DecodeArgs& a, uint32_t lane) : a_(a), lane_(lane) {}

  // A row with nothing yet: its q, its scale.
  __device__ __forceinline__ void Begin(uint32_t first_query, uint32_t head) {
    const char* q = a_.q + first_query * a_.q_row_bytes + uint64_t{head} * a_.group * (kDim * 2);
    const uint32_t g = lane_ / 4, t = lane_ % 4;
    factor_ = a_.scale * kLog2E;
    if (a_.k_scale != nullptr) factor_ *= __ldg(a_.k_scale + head);
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      const bool is = n * 8 + g < a_.group;
#pragma unroll
      for (int k = 0; k < kSteps; k++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
          // bytes of K come in pairs of pairs: see LoadK()
          const uint32_t at = kElementBytes<T> == 2 ? j * 16 + t * 4 : t * 8 + j * 4;
          uint32_t pair = 0;
          if (is) {
            pair = __ldg(
                reinterpret_cast<const uint32_t*>(q + (n * 8 + g) * (kDim * 2) + k * 32 + at));
          }
          if (kElementBytes<T> == 1 && a_.q_is_bf16) pair = Bf16ToF16(pair);
          q_[n][k][j] = pair;
        }
      }
    }
    Clear();
  }

  // Adds up what the tokens before the first one left of this row.
  __device__ __forceinline__ void TakeParts(uint32_t first_query, uint32_t head) {
    constexpr uint32_t kAtOnce = kBlocks == 1 ? 4 : 2;
    const uint32_t g = lane_ / 4, t = lane_ % 4;
    const uint64_t heads = a_.group * a_.nr_kv_heads, rows = a_.nr_tokens * heads;
    const uint64_t row = first_query * heads + head * a_.group;
    const float2* pairs = reinterpret_cast<const float2*>(a_.parts + a_.nr_parts * rows * kDim);
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const uint32_t column = n * 8 + t * 2 + j;
        if (column >= a_.group) continue;
        const float2* pair = pairs + row + column;
        const float* from = a_.parts + (row + column) * kDim;
#pragma unroll 1
        for (uint32_t part = 0; part < a_.nr_parts; part += kAtOnce) {
          float2 s[kAtOnce];
          float v[kAtOnce][kSteps][2];
          float peak = max_[n][j];
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) {
            s[u] = {-INFINITY, 0};
            const bool is = part + u < a_.nr_parts;
            if (is) s[u] = __ldcg(pair);
#pragma unroll
            for (int d = 0; d < kSteps; d++) {
#pragma unroll
              for (int i = 0; i < 2; i++) {
                v[u][d][i] = is ? __ldcg(from + d * 16 + DimOf<T>(g, i)) : 0;
              }
            }
            pair += rows;
            from += rows * kDim;
          }
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) peak = fmaxf(peak, s[u].x);
          float f = max_[n][j] == -INFINITY ? 0 : Exp2(max_[n][j] - peak);
          max_[n][j] = peak;
          weight_[n][j] *= f;
#pragma unroll
          for (int d = 0; d < kSteps; d++) {
            acc_[n][d][j] *= f;
            acc_[n][d][j + 2] *= f;
          }
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) {
            f = s[u].x == -INFINITY ? 0 : Exp2(s[u].x - peak);
            // one lane has the weight: they are added up over lanes
            if (g == 0) weight_[n][j] = fmaf(s[u].y, f, weight_[n][j]);
#pragma unroll
            for (int d = 0; d < kSteps; d++) {
              acc_[n][d][j] = fmaf(v[u][d][0], f, acc_[n][d][j]);
              acc_[n][d][j + 2] = fmaf(v[u][d][1], f, acc_[n][d][j + 2]);
            }
          }
        }
      }
    }
  }

  // K as operands, tokens by dims. Of bytes a lane gets dims 4 t to 4 t + 3 of its tokens, which
  // are columns 2 t, 2 t + 1 and 2 t + 8, 2 t + 9 of the operand; q's rows are in that order too.
  __device__ __forceinline__ void LoadK(uint32_t (&a)[kSteps][4], uint32_t k) const {
    if constexpr (kElementBytes<T> == 2) {
#pragma unroll
      for (int i = 0; i < kSteps; i++) {
        LoadMatrix4(a[i], k + StreamSwizzled<Shape::kRowBytes>(lane_ % 16, i * 2 + lane_ / 16));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kSteps; i += 2) {
        uint32_t r[4];
        LoadMatrix4(r, k + StreamSwizzled<Shape::kRowBytes>(lane_ % 16, i + lane_ / 16));
#pragma unroll
        for (int h = 0; h < 2; h++) {
          a[i + h][0] = Widen(r[h * 2]);
          a[i + h][1] = Widen(r[h * 2 + 1]);
          a[i + h][2] = Widen(r[h * 2] >> 16);
          a[i + h][3] = Widen(r[h * 2 + 1] >> 16);
        }
      }
    }
  }

  // V^T as operands, dims by tokens. Of bytes row g is dim 2 g, and row g + 8 dim 2 g + 1.
  __device__ __forceinline__ void LoadV(uint32_t (&a)[kSteps][4], uint32_t v) const {
    if constexpr (kElementBytes<T> == 2) {
#pragma unroll
      for (int d = 0; d < kSteps; d++) {
        LoadMatrix4Trans(a[d], v + StreamSwizzled<Shape::kRowBytes>(lane_ % 8 + lane_ / 16 * 8,
                                                                    d * 2 + lane_ / 8 % 2));
      }
    } else {
#pragma unroll
      for (int d = 0; d < kSteps; d += 2) {
        uint32_t r[4];
        LoadMatrix4Trans(r, v + StreamSwizzled<Shape::kRowBytes>(lane_ % 16, d + lane_ / 16));
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
          for (int i = 0; i < 2; i++) {
            const uint32_t pairs = __byte_perm(r[h * 2 + i], 0, 0x3120);
            a[d + h][i * 2] = Widen(pairs);
            a[d + h][i * 2 + 1] = Widen(pairs >> 16);
          }
        }
      }
    }
  }

  // The weights of a tile's tokens, as operands of the second product.
  __device__ __forceinline__ void Score(const uint32_t (&k)[kSteps][4], uint32_t (&p)[kBlocks][2],
                                        uint32_t tile, uint32_t context) {
    float s[kBlocks][4], odd[kBlocks][4];  // two chains of products, half as long
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) s[n][i] = odd[n][i] = 0;
    }
#pragma unroll
    for (int i = 0; i < kSteps; i += 2) {
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
        Multiply<T>(s[n], k[i], q_[n][i][0], q_[n][i][1]);
        Multiply<T>(odd[n], k[i + 1], q_[n][i + 1][0], q_[n][i + 1][1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) s[n][i] += odd[n][i];
    }
    Weigh(s, p, tile, context);
  }

  __device__ __forceinline__ void Add(const uint32_t (&v)[kSteps][4],
                                      const uint32_t (&p)[kBlocks][2]) {
#pragma unroll
    for (int d = 0; d < kSteps; d++) {
#pragma unroll
      for (int n = 0; n < kBlocks; n++) Multiply<T>(acc_[n][d], v[d], p[n][0], p[n][1]);
    }
  }

  // After the last tile.
  __device__ __forceinline__ void End() {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int d = 4; d < 32; d *= 2) {
          weight_[n][j] += __shfl_xor_sync(0xffffffff, weight_[n][j], d);
        }
      }
    }
  }

  // A row that is whole.
  __device__ __forceinline__ void Write(uint32_t first_query, uint32_t head) const {
    const uint32_t g = lane_ / 4, t = lane_ % 4;
    const uint64_t row = uint64_t{first_query} * a_.group * a_.nr_kv_heads + head * a_.group;
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      float inverse[2];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const uint32_t column = n * 8 + t * 2 + j;
        inverse[j] = StreamInverse(a_, head, weight_[n][j]);
        if (a_.lse != nullptr && g == 0 && column < a_.group) {
          a_.lse[row + column] = LogSumExp(max_[n][j], weight_[n][j]);
        }
      }
      // neighbouring dims of a column come to one lane
      uint16_t* out = reinterpret_cast<uint16_t*>(a_.out) + (row + n * 8 + g) * kDim;
      const bool is = n * 8 + g < a_.group;
#pragma unroll
      for (int d = 0; d < kSteps; d++) {
        uint32_t x[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
          x[i] = Transposed(StreamPack<T>(a_, acc_[n][d][i * 2] * inverse[0],
                                          acc_[n][d][i * 2 + 1] * inverse[1]));
        }
        if (is && kElementBytes<T> == 2) {
          *reinterpret_cast<uint32_t*>(out + d * 16 + t * 2) = x[0];
          *reinterpret_cast<uint32_t*>(out + d * 16 + 8 + t * 2) = x[1];
        } else if (is) {
          *reinterpret_cast<uint2*>(out + d * 16 + t * 4) =
              uint2{__byte_perm(x[0], x[1], 0x5410), __byte_perm(x[0], x[1], 0x7632)};
        }
      }
    }
  }

  // A part of one, for others to add up.
  __device__ __forceinline__ void Put(float* part) const {
    const uint32_t g = lane_ / 4, t = lane_ % 4;
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const uint32_t column = n * 8 + t * 2 + j;
#pragma unroll
        for (int d = 0; d < kSteps; d++) {
          part[column * Shape::kPitch + d * 16 + DimOf<T>(g, 0)] = acc_[n][d][j];
          part[column * Shape::kPitch + d * 16 + DimOf<T>(g, 1)] = acc_[n][d][j + 2];
        }
        if (g == 0) {
          part[Shape::kRows * Shape::kPitch + column] = max_[n][j];
          part[Shape::kRows * (Shape::kPitch + 1) + column] = weight_[n][j];
        }
      }
    }
  }

  // The same for AddUp(), in the order of the registers.
  __device__ __forceinline__ void Lay(float* part) const {
    float4* sums = reinterpret_cast<float4*>(part);
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int d = 0; d < kSteps; d++) {
        sums[(n * kSteps + d) * 32 + lane_] =
            float4{acc_[n][d][0], acc_[n][d][1], acc_[n][d][2], acc_[n][d][3]};
      }
      if (lane_ < 4) {
        sums[kBlocks * kSteps * 32 + n * 4 + lane_] =
            float4{max_[n][0], weight_[n][0], max_[n][1], weight_[n][1]};
      }
    }
  }

  // This warp's part becomes the sum of `nr` parts, the i'th of which was laid at part_of(i), in
  // shared memory or, kGlobal, in the device's.
  template <bool kGlobal, class PartOf>
  __device__ __forceinline__ void AddUp(uint32_t nr, PartOf part_of) {
    constexpr uint32_t kAtOnce = 2 / kBlocks;
    const uint32_t g = lane_ / 4, t = lane_ % 4;
    Clear();
    // the maxima and weights of 8 parts at a time, each by 4 lanes
#pragma unroll 1
    for (uint32_t base = 0; base < nr; base += 8) {
      float factor[kBlocks][2];
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
        float4 x = {-INFINITY, 0, -INFINITY, 0};
        if (base + g < nr) x = Laid<kGlobal>(part_of(base + g), kBlocks * kSteps * 32 + n * 4 + t);
        Join(n, 0, x.x, x.y, &factor[n][0]);
        Join(n, 1, x.z, x.w, &factor[n][1]);
      }
#pragma unroll 1
      for (uint32_t i = 0; i < 8 && base + i < nr; i += kAtOnce) {
        float4 v[kAtOnce][kBlocks][kSteps];
#pragma unroll
        for (uint32_t u = 0; u < kAtOnce; u++) {
          const float* part = part_of(base + min(i + u, nr - base - 1));
#pragma unroll
          for (int n = 0; n < kBlocks; n++) {
#pragma unroll
            for (int d = 0; d < kSteps; d++) {
              v[u][n][d] = Laid<kGlobal>(part, (n * kSteps + d) * 32 + lane_);
            }
          }
        }
#pragma unroll
        for (uint32_t u = 0; u < kAtOnce; u++) {
#pragma unroll
          for (int n = 0; n < kBlocks; n++) {
            // of a part past the last one it is 0
            const float f0 = __shfl_sync(0xffffffff, factor[n][0], (i + u) * 4 + t);
            const float f1 = __shfl_sync(0xffffffff, factor[n][1], (i + u) * 4 + t);
#pragma unroll
            for (int d = 0; d < kSteps; d++) {
              acc_[n][d][0] = fmaf(v[u][n][d].x, f0, acc_[n][d][0]);
              acc_[n][d][1] = fmaf(v[u][n][d].y, f1, acc_[n][d][1]);
              acc_[n][d][2] = fmaf(v[u][n][d].z, f0, acc_[n][d][2]);
              acc_[n][d][3] = fmaf(v[u][n][d].w, f1, acc_[n][d][3]);
            }
          }
        }
      }
    }
  }

 private:
  template <bool kGlobal>
  __device__ __forceinline__ static float4 Laid(const float* part, uint32_t i) {
    const float4* at = reinterpret_cast<const float4*>(part) + i;
    // other multiprocessors laid it: this one's cache may have what was there before
    return kGlobal ? __ldcg(at) : *at;
  }

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      max_[n][0] = max_[n][1] = -INFINITY;
      weight_[n][0] = weight_[n][1] = 0;
#pragma unroll
      for (int d = 0; d < kSteps; d++) {
#pragma unroll
        for (int i = 0; i < 4; i++) acc_[n][d][i] = 0;
      }
    }
  }

  // Adds a column's maxima and weights of 8 parts, and says what each part's sums are multiplied
  // by.
  __device__ __forceinline__ void Join(int n, int j, float max, float weight, float* factor) {
    float peak = max;
#pragma unroll
    for (int d = 4; d < 32; d *= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffff, peak, d));
    peak = fmaxf(peak, max_[n][j]);
    const float f = max_[n][j] == -INFINITY ? 0 : Exp2(max_[n][j] - peak);
    *factor = max == -INFINITY ? 0 : Exp2(max - peak);
    weight *= *factor;
#pragma unroll
    for (int d = 4; d < 32; d *= 2) weight += __shfl_xor_sync(0xffffffff, weight, d);
    max_[n][j] = peak;
    weight_[n][j] = fmaf(weight_[n][j], f, weight);
#pragma unroll
    for (int d = 0; d < kSteps; d++) {
      acc_[n][d][j] *= f;
      acc_[n][d][j + 2] *= f;
    }
  }

  // Scores to weights, as operands of the second product. The maximum is raised only when a score
  // passes it, which after some tiles is rare.
  __device__ __forceinline__ void Weigh(float (&s)[kBlocks][4], uint32_t (&p)[kBlocks][2],
                                        uint32_t tile, uint32_t context) {
    const uint32_t token = tile * kTile + lane_ / 4;
    const bool ragged = (tile + 1) * kTile > context;
    bool higher = false;
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        s[n][i] *= factor_;
        if (ragged && token + i / 2 * 8 >= context) s[n][i] = -INFINITY;
      }
      higher |= fmaxf(s[n][0], s[n][2]) > max_[n][0] || fmaxf(s[n][1], s[n][3]) > max_[n][1];
    }
    if (__any_sync(0xffffffff, higher)) Raise(s);
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float m = max_[n][i % 2];
        s[n][i] = Exp2(s[n][i] - (m == -INFINITY ? 0 : m));
      }
      weight_[n][0] += s[n][0] + s[n][2];
      weight_[n][1] += s[n][1] + s[n][3];
      p[n][0] = Transposed(PackHalves<T>(s[n][0], s[n][1]));
      p[n][1] = Transposed(PackHalves<T>(s[n][2], s[n][3]));
    }
  }

  __device__ __forceinline__ void Raise(const float (&s)[kBlocks][4]) {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float max = fmaxf(s[n][j], s[n][j + 2]);
#pragma unroll
        for (int d = 4; d < 32; d *= 2) max = fmaxf(max, __shfl_xor_sync(0xffffffff, max, d));
        max = fmaxf(max, max_[n][j]);
        const float f = max == -INFINITY ? 1 : Exp2(max_[n][j] - max);
        max_[n][j] = max;
        weight_[n][j] *= f;
#pragma unroll
        for (int d = 0; d < kSteps; d++) {
          acc_[n][d][j] *= f;
          acc_[n][d][j + 2] *= f;
        }
      }
    }
  }

  const DecodeArgs& a_;
  const uint32_t lane_;
  uint32_t q_[kBlocks][kSteps][2];
  float max_[kBlocks][2], weight_[kBlocks][2];
  float acc_[kBlocks][kSteps][4];
  float factor_;
};

}  // namespace pagedkv

#endif

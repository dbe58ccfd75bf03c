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
#include "decode_sum.cuh"

namespace pagedkv {

template <class T, int kDim, int kBlocks>
struct TileShape {
  static constexpr uint32_t kRows = kBlocks * 8;  // of q
  static constexpr uint32_t kRowBytes = kDim * kElementBytes<T>;
  static constexpr uint32_t kHalf = kTile * kRowBytes;
  // a warp's part of a row in shared memory, in floats: sums, maxima, weights
  static constexpr uint32_t kPitch = kDim + 4;  // columns of a fragment in other banks
  static constexpr uint32_t kPart = kRows * kPitch + 2 * kRows;
  // The same in the order of the registers, by units of 64 dims of 8 rows of q: in float4, of which
  // a lane has four and four lanes have the unit's maxima and weights.
  static constexpr uint32_t kUnits = kBlocks * kDim / 64, kUnitLaid = 4 * 32 + 4;
  static constexpr uint32_t kLaid = kUnits * kUnitLaid;
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

// q's rows of a head.
template <uint32_t kDim>
__device__ __forceinline__ const char* QueryOf(const DecodeArgs& a, uint32_t first_query,
                                               uint32_t head) {
  return a.q + first_query * a.q_row_bytes + uint64_t{head} * a.group * (kDim * 2);
}

// Asks for them.
template <uint32_t kDim>
__device__ __forceinline__ void CopyQuery(const DecodeArgs& a, uint32_t to, uint32_t first_query,
                                          uint32_t head, uint32_t lane) {
  constexpr uint32_t kUnits = kDim * 2 / 16;
  const char* from = QueryOf<kDim>(a, first_query, head);
#pragma unroll 1
  for (uint32_t i = lane; i < a.group * kUnits; i += 32) {
    CopyOrZero16(to + StreamSwizzled<kDim * 2>(i / kUnits, i % kUnits), from + i * 16, 16);
  }
}

// What sums are multiplied by in the end.
__device__ __forceinline__ float StreamInverse(const DecodeArgs& a, uint32_t head, float weight) {
  const float v_scale = a.v_scale != nullptr ? __ldg(a.v_scale + head) : 1;
  return weight > 0 ? __frcp_rn(weight) * v_scale : 0;
}

// The same of two rows of q, whose maxima and weights lie one after the other.
__device__ __forceinline__ float2 StreamInverse(const DecodeArgs& a, uint32_t head, float4 scales) {
  return {StreamInverse(a, head, scales.y), StreamInverse(a, head, scales.w)};
}

// The first row of outputs of a row.
__device__ __forceinline__ uint64_t RowOf(const DecodeArgs& a, uint32_t first_query,
                                          uint32_t head) {
  return uint64_t{first_query} * a.group * a.nr_kv_heads + head * a.group;
}

// The log-sum-exps of the n'th 8 rows of q.
__device__ __forceinline__ void WriteScales(const DecodeArgs& a, uint64_t row, uint32_t n,
                                            float4 scales, uint32_t lane) {
  if (a.lse == nullptr || lane >= 4) return;
  const uint32_t column = n * 8 + lane * 2;
  if (column < a.group) a.lse[row + column] = LogSumExp(scales.x, scales.y);
  if (column + 1 < a.group) a.lse[row + column + 1] = LogSumExp(scales.z, scales.w);
}

template <class T>
__device__ __forceinline__ uint32_t StreamPack(const DecodeArgs& a, float low, float high) {
  if constexpr (kElementBytes<T> == 2) return PackHalves<T>(low, high);
  return a.q_is_bf16 ? PackHalves<Bf16>(low, high) : PackHalves<F16>(low, high);
}

// 16 dims from `dim` on of the n'th 8 rows of q, as the matrix instruction gives them: `v` of a
// lane is two dims of two rows.
template <class T, int kDim>
__device__ __forceinline__ void WriteDims(const DecodeArgs& a, uint64_t row, uint32_t n,
                                          uint32_t dim, float4 v, float2 inverse, uint32_t lane) {
  const uint32_t g = lane / 4, t = lane % 4;
  // neighbouring dims of a row come to one lane
  const uint32_t x[2] = {Transposed(StreamPack<T>(a, v.x * inverse.x, v.y * inverse.y)),
                         Transposed(StreamPack<T>(a, v.z * inverse.x, v.w * inverse.y))};
  if (n * 8 + g >= a.group) return;
  uint16_t* out = reinterpret_cast<uint16_t*>(a.out) + (row + n * 8 + g) * kDim + dim;
  if constexpr (kElementBytes<T> == 2) {
    *reinterpret_cast<uint32_t*>(out + t * 2) = x[0];
    *reinterpret_cast<uint32_t*>(out + 8 + t * 2) = x[1];
  } else {
    *reinterpret_cast<uint2*>(out + t * 4) =
        uint2{__byte_perm(x[0], x[1], 0x5410), __byte_perm(x[0], x[1], 0x7632)};
  }
}

// 16 kNr dims of 8 rows of q, as one lane has them: sums of two rows, and either's maximum and
// weight. `laid` is a unit, of which the first of these dims is `first` times 16.
template <uint32_t kNr>
struct TileSum {
  float4 sums[kNr] = {};
  float4 scales = {-INFINITY, 0, -INFINITY, 0};

  __device__ __forceinline__ void Load(const float4* laid, uint32_t first, uint32_t lane) {
#pragma unroll
    for (uint32_t i = 0; i < kNr; i++) sums[i] = laid[(first + i) * 32 + lane];
    scales = laid[4 * 32 + lane % 4];
  }

  // False: it is not there yet, or not all of it.
  __device__ __forceinline__ bool Take(const float4* laid, uint32_t first, uint32_t lane) {
    bool all = TakeSum(laid + 4 * 32 + lane % 4, &scales);
#pragma unroll
    for (uint32_t i = 0; i < kNr; i++) all &= TakeSum(laid + (first + i) * 32 + lane, sums + i);
    return all;
  }

  // Of a whole unit: put(i, x) takes the i'th float4.
  template <class Put>
  __device__ __forceinline__ void Lay(uint32_t lane, Put put) const {
    static_assert(kNr == 4, "a unit");
#pragma unroll
    for (uint32_t i = 0; i < kNr; i++) put(i * 32 + lane, sums[i]);
    if (lane < 4) put(4 * 32 + lane, scales);
  }

  __device__ __forceinline__ void Add(const TileSum& other) {
    const float2 x = Join(&scales.x, &scales.y, other.scales.x, other.scales.y);
    const float2 y = Join(&scales.z, &scales.w, other.scales.z, other.scales.w);
#pragma unroll
    for (uint32_t i = 0; i < kNr; i++) {
      const float4 v = other.sums[i];
      sums[i] = {fmaf(v.x, x.y, sums[i].x * x.x), fmaf(v.y, y.y, sums[i].y * y.x),
                 fmaf(v.z, x.y, sums[i].z * x.x), fmaf(v.w, y.y, sums[i].w * y.x)};
    }
  }

  template <class T, int kDim>
  __device__ __forceinline__ void Write(const DecodeArgs& a, uint32_t first_query, uint32_t head,
                                        uint32_t unit, uint32_t first, uint32_t lane) const {
    const uint32_t n = unit / (kDim / 64), dim = unit % (kDim / 64) * 64 + first * 16;
    const uint64_t row = RowOf(a, first_query, head);
    const float2 inverse = StreamInverse(a, head, scales);
    if (dim == 0) WriteScales(a, row, n, scales, lane);
#pragma unroll
    for (uint32_t i = 0; i < kNr; i++) {
      WriteDims<T, kDim>(a, row, n, dim + i * 16, sums[i], inverse, lane);
    }
  }

 private:
  // What sums so far, and those that come with this maximum and weight, are multiplied by.
  __device__ __forceinline__ static float2 Join(float* max, float* weight, float other_max,
                                                float other_weight) {
    const float peak = fmaxf(*max, other_max), base = peak == -INFINITY ? 0 : peak;
    const float2 f = {Exp2(*max - base), Exp2(other_max - base)};
    *max = peak;
    *weight = fmaf(other_weight, f.y, *weight * f.x);
    return f;
  }
};

// The running softmax of one row.
template <class T, int kDim, int kBlocks>
class TileMath {
 public:
  using Shape = TileShape<T, kDim, kBlocks>;
  static constexpr int kSteps = kDim / 16;

  __device__ TileMath(const DecodeArgs& a, uint32_t lane) : a_(a), lane_(lane) {}

  // A row with nothing yet: its scale and its q, of which pair_at(row, byte) loads two dims.
  template <class PairAt>
  __device__ __forceinline__ void Begin(uint32_t head, PairAt pair_at) {
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
          uint32_t pair = is ? pair_at(n * 8 + g, k * 32 + at) : 0;
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
    const uint64_t row = RowOf(a_, first_query, head);
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      const float4 scales = {max_[n][0], weight_[n][0], max_[n][1], weight_[n][1]};
      WriteScales(a_, row, n, scales, lane_);
      const float2 inverse = StreamInverse(a_, head, scales);
#pragma unroll
      for (int d = 0; d < kSteps; d++) {
        const float(&v)[4] = acc_[n][d];
        WriteDims<T, kDim>(a_, row, n, d * 16, float4{v[0], v[1], v[2], v[3]}, inverse, lane_);
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

  // The same in the order of the registers, by units: put(i, x) takes the i'th float4.
  template <class Put>
  __device__ __forceinline__ void Lay(Put put) const {
#pragma unroll
    for (int unit = 0; unit < Shape::kUnits; unit++) {
      const int n = unit / (kSteps / 4), d = unit % (kSteps / 4) * 4;
      const uint32_t at = unit * Shape::kUnitLaid;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float(&v)[4] = acc_[n][d + i];
        put(at + i * 32 + lane_, float4{v[0], v[1], v[2], v[3]});
      }
      if (lane_ < 4) {
        put(at + 4 * 32 + lane_, float4{max_[n][0], weight_[n][0], max_[n][1], weight_[n][1]});
      }
    }
  }

 private:
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

// SPDX-License-Identifier: MIT
#include <algorithm>

#include "cascade.h"
#include "decode.h"
#include "decode_cluster.h"
#include "decode_launch.cuh"
#include "decode_stream.h"

namespace pagedkv {
namespace {

// Of the workspace: a counter for each stretch, and what clusters or streams leave for others, both
// zero between calls; then records, then a cascade's parts.
constexpr size_t kCounterBytes = 4096;
constexpr uint32_t kMostSeqs = 8192;  // a word for 32 of them where the weights of a chunk go

uint32_t GridBlocks() {
  int device = 0, sms = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  return sms;
}

// What of the workspace and of the work depends on how many rows of q a sequence has.
struct Sizes {
  uint32_t blocks;  // of 8 rows of q, in one pass
  uint32_t record_rows;
  uint32_t stretch_records;
  size_t record_bytes;  // all records together
  bool fits;            // the weight of the line is below 2^32

  Sizes(const pkv_cuda_attention& a, uint32_t grid, uint32_t nr_seqs, uint64_t query_tokens,
        uint32_t context) {
    const uint64_t rows = query_tokens * (a.nr_q_heads / a.layout->nr_kv_heads);
    blocks = DecodeBlocks(rows < 64 ? static_cast<uint32_t>(rows) : 64);
    record_rows = static_cast<uint32_t>(rows < blocks * 8 ? rows : blocks * 8);
    const uint64_t weight = kRowCost + (uint64_t{context} + kTile - 1) / kTile;
    const uint64_t passes = (rows + blocks * 8 - 1) / (blocks * 8);
    const uint64_t line = nr_seqs * a.layout->nr_kv_heads * passes * weight;
    fits = line >> 32 == 0;
    // A row that goes on from stretch to stretch has its records at the place of the one that it
    // begins in. The next such row begins at least one stretch later; by then this one has had no
    // more leaves than a row has, and no more than two stretches have.
    const uint64_t stretches = uint64_t{grid} * DecodeGroups(a.layout->head_dim, blocks);
    const uint64_t stretch = std::max<uint64_t>(line / stretches + 1, 2 * (128 / kTile));
    const uint64_t leaves = LeafOf(context) + 1, most = 2 * (stretch / (128 / kTile) + 3);
    stretch_records = static_cast<uint32_t>(std::min(leaves, most));
    record_bytes =
        stretches * stretch_records * DecodeRecordFloats(record_rows, a.layout->head_dim) * 4;
  }
};

// The shared tokens that this kernel reads once: whole leaves, so that sums are the same.
uint32_t SharedTokens(const pkv_cuda_attention& a) { return LeafStart(LeafOf(a.shared_tokens)); }

Sizes SharedSizes(const pkv_cuda_attention& a, uint32_t grid) {
  return Sizes(a, grid, 1, a.nr_tokens, SharedTokens(a));
}

size_t RecordBytes(const pkv_cuda_attention& a, uint32_t grid) {
  const Sizes sizes(a, grid, a.nr_seqs, a.max_query_tokens, a.max_context_tokens);
  if (SharedTokens(a) == 0) return sizes.record_bytes;
  return std::max(sizes.record_bytes, SharedSizes(a, grid).record_bytes);
}

size_t KeptBytes(uint32_t grid) {
  return kCounterBytes + std::max(ClusterBytes(grid), StreamBytes(grid));
}

// Maps for the copy engine, where rows are whole lines of 128 bytes and pages whole tiles.
bool MapTiles(CUtensorMap* map, const char* base, const pkv_cuda_attention& a) {
  const pkv_kv_layout& l = *a.layout;
  const uint32_t bytes = l.dtype == PKV_E4M3 ? 1 : 2, elements = 128 / bytes;
  if (l.page_tokens % kTile != 0 || l.head_dim % elements != 0) return false;
  const CUtensorMapDataType type = l.dtype == PKV_BF16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                   : l.dtype == PKV_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                        : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const cuuint64_t sizes[5] = {elements, l.page_tokens, l.head_dim / elements, l.nr_kv_heads,
                               a.nr_slots};
  const cuuint64_t strides[4] = {l.token_stride_bytes, 128, l.head_stride_bytes,
                                 l.page_stride_bytes};
  const cuuint32_t box[5] = {elements, kTile, l.head_dim / elements, 1, 1};
  return MapBoxes(map, type, 5, base, sizes, strides, box);
}

cudaError_t Launch(const pkv_cuda_attention& a, const Sizes& sizes, uint32_t grid, DecodeArgs d) {
  d.boxes = MapTiles(&d.k_map, d.k, a) && MapTiles(&d.v_map, d.v, a);
  cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  d.stretch_records = sizes.stretch_records;
  d.record_rows = sizes.record_rows;
  switch (a.layout->dtype) {
    case PKV_BF16:
      return LaunchDecodeOf<Bf16>(a.layout->head_dim, sizes.blocks, d, grid, stream);
    case PKV_F16:
      return LaunchDecodeOf<F16>(a.layout->head_dim, sizes.blocks, d, grid, stream);
    case PKV_E4M3:
      return LaunchDecodeOf<E4m3>(a.layout->head_dim, sizes.blocks, d, grid, stream);
    default:
      return cudaErrorNotSupported;
  }
}

float* WorkspaceAt(const pkv_cuda_attention& a, size_t byte) {
  return reinterpret_cast<float*>(static_cast<char*>(a.workspace) + byte);
}

// What clusters or streams leave for others.
float* SumsOf(const pkv_cuda_attention& a) { return WorkspaceAt(a, kCounterBytes); }

DecodeArgs ArgsOf(const pkv_cuda_attention& a, uint32_t grid) {
  const pkv_kv_layout& l = *a.layout;
  DecodeArgs d = {};
  d.k = static_cast<const char*>(a.base) + a.layer * l.layer_stride_bytes;
  d.v = d.k + l.kv_stride_bytes;
  d.page_stride = l.page_stride_bytes;
  d.head_stride = l.head_stride_bytes;
  d.token_stride = l.token_stride_bytes;
  d.table = a.table;
  d.table_row_slots = a.table_row_slots;
  d.table_rows = a.table_rows;
  d.query_start = a.query_start;
  d.context_tokens = a.context_tokens;
  d.q = static_cast<const char*>(a.q);
  d.q_row_bytes = a.q_row_elements * 2;
  d.out = static_cast<char*>(a.out);
  d.lse = a.lse;
  d.alibi = a.alibi;
  d.k_scale = l.dtype == PKV_E4M3 ? a.k_scale : nullptr;
  d.v_scale = l.dtype == PKV_E4M3 ? a.v_scale : nullptr;
  d.counters = static_cast<uint32_t*>(a.workspace);
  d.records = WorkspaceAt(a, KeptBytes(grid));
  d.scale = a.scale;
  d.softcap = a.softcap;
  d.nr_seqs = a.nr_seqs;
  d.nr_tokens = a.nr_tokens;
  d.nr_kv_heads = l.nr_kv_heads;
  d.group = a.nr_q_heads / l.nr_kv_heads;
  d.head_dim = l.head_dim;
  d.window = a.window;
  d.nr_slots = a.nr_slots;
  d.longest_tiles = a.max_context_tokens / kTile + 1;
  d.q_is_bf16 = a.q_dtype == PKV_BF16;
  d.whole_tiles = l.page_tokens % kTile == 0;
  d.by_page = FastDiv(l.page_tokens);
  d.by_group = FastDiv(d.group);
  return d;
}

// Leaves the sums of the shared tokens where the call goes on from them.
cudaError_t DecodeShared(const pkv_cuda_attention& a, uint32_t grid, DecodeArgs* d) {
  float* parts = d->records + RecordBytes(a, grid) / 4;
  cudaError_t error;
  if (CascadeTakes(a)) {
    d->first_token = CascadeTokens(a);
    d->nr_parts = CascadeParts(a, grid);
    error = Cascade(a, grid, parts);
  } else {
    d->first_token = SharedTokens(a);
    d->nr_parts = 1;
    DecodeArgs shared = *d;
    shared.first_token = 0;
    shared.one_context = d->first_token;
    shared.parts_out = parts;
    shared.nr_seqs = 1;
    error = Launch(a, SharedSizes(a, grid), grid, shared);
  }
  d->parts = parts;
  return error;
}

}  // namespace

size_t DecodeWorkspace(const pkv_cuda_attention& a) {
  const uint32_t grid = GridBlocks();
  const size_t parts = SharedTokens(a) == 0 ? 0
                                            : CascadeRoom(a, grid) * a.nr_q_heads *
                                                  (a.layout->head_dim + 2) * sizeof(float);
  return KeptBytes(grid) + RecordBytes(a, grid) + parts;
}

size_t DecodeKept() { return KeptBytes(GridBlocks()); }

cudaError_t Decode(const pkv_cuda_attention& a) {
  if (a.nr_seqs == 0 || a.nr_tokens == 0) return cudaSuccess;
  // matrix instructions take both sides of one type; fp8 is widened to fp16
  const bool alike = a.layout->dtype == PKV_E4M3 || a.layout->dtype == a.q_dtype;
  if (!alike || a.nr_seqs > kMostSeqs) return cudaErrorNotSupported;
  const uint32_t grid = GridBlocks();
  const Sizes sizes(a, grid, a.nr_seqs, a.max_query_tokens, a.max_context_tokens);
  if (!sizes.fits) return cudaErrorNotSupported;
  DecodeArgs d = ArgsOf(a, grid);
  if (SharedTokens(a) != 0) {
    // positions of query tokens are not known where the shared tokens are worked on
    if (a.window != 0 || a.alibi != nullptr) return cudaErrorNotSupported;
    const cudaError_t error = DecodeShared(a, grid, &d);
    if (error != cudaSuccess) return error;
  }
  if (!(a.flags & PKV_CUDA_INVARIANT)) {
    if (ClusterTakes(a, d)) return Cluster(a, d, SumsOf(a));
    if (StreamTakes(a, d)) return Stream(a, d, SumsOf(a), grid);
  }
  return Launch(a, sizes, grid, d);
}

}  // namespace pagedkv

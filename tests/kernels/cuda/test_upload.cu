// SPDX-License-Identifier: GPL-2.0-only
// A step's arrays arrive, and its deltas are in the block tables; nothing else changes.
#include <pagedkv/pkv_cuda.h>

#include <set>
#include <utility>

#include "kit.cuh"

struct Step {
  std::vector<uint32_t> arrays;
  std::vector<struct pkv_cuda_delta> deltas;
};

static Step RandomStep(uint32_t nr_rows, uint32_t row_slots, uint32_t nr_deltas) {
  Step step;
  std::set<std::pair<uint32_t, uint32_t>> places;
  step.arrays.resize(random_in(0, 3000));
  for (uint32_t& a : step.arrays) a = static_cast<uint32_t>(random_bits());
  while (places.size() < nr_deltas)
    places.insert({random_in(0, nr_rows - 1), random_in(0, row_slots - 1)});
  for (const auto& p : places)
    step.deltas.push_back({p.first, p.second, static_cast<uint32_t>(random_bits())});
  return step;
}

// Several steps in a row on one stream, each from a buffer of its own.
static void TestSteps(uint32_t nr_rows, uint32_t row_slots, uint32_t nr_deltas) {
  constexpr int kSteps = 3;
  kit::Buffer<uint32_t> table(nr_rows * row_slots);
  std::vector<uint32_t> want = table.Get();
  size_t most = 4 * 3000 + nr_deltas * sizeof(struct pkv_cuda_delta);
  bool right = true;
  char* pinned;
  CUDA_MUST(cudaMallocHost(&pinned, kSteps * most));
  for (int i = 0; i < kSteps; i++) {
    Step step = RandomStep(nr_rows, row_slots, nr_deltas);
    char* host = pinned + i * most;
    kit::Buffer<char> device(most);
    struct pkv_cuda_upload u = {};
    u.size = sizeof(u);
    u.nr_deltas = nr_deltas;
    u.host = host;
    u.device = device.data();
    u.deltas_offset = 4 * step.arrays.size();
    u.bytes = u.deltas_offset + nr_deltas * sizeof(struct pkv_cuda_delta);
    u.table = table.data();
    u.table_row_slots = row_slots;
    u.nr_rows = nr_rows;
    memcpy(host, step.arrays.data(), u.deltas_offset);
    memcpy(host + u.deltas_offset, step.deltas.data(), u.bytes - u.deltas_offset);
    right &= !pkv_cuda_upload(&u);
    for (const struct pkv_cuda_delta& d : step.deltas) want[d.row * row_slots + d.index] = d.slot;
    std::vector<char> arrived = device.Get();
    right &= !memcmp(arrived.data(), host, u.bytes) && device.Guarded();
    for (size_t j = u.bytes; j < most; j++) right &= arrived[j] == static_cast<char>(kit::kPoison);
  }
  kit::Ok(right && table.Get() == want && table.Guarded(), "%u deltas to %u rows of %u", nr_deltas,
          nr_rows, row_slots);
  CUDA_MUST(cudaFreeHost(pinned));
}

static void TestArguments() {
  kit::Buffer<uint32_t> table(64), device(64);
  std::vector<uint32_t> poison = table.Get();
  struct pkv_cuda_delta delta = {3, 15, 1};
  struct pkv_cuda_upload good = {};
  good.size = sizeof(good);
  good.nr_deltas = 1;
  good.host = &delta;
  good.device = device.data();
  good.bytes = sizeof(delta);
  good.table = table.data();
  good.table_row_slots = 16;
  good.nr_rows = 4;
  bool refused = true;
  for (int i = 0; i < 7; i++) {
    struct pkv_cuda_upload u = good;
    if (i == 0) u.size = 0;
    if (i == 1) u.nr_rows = 3;
    if (i == 2) u.table_row_slots = 15;
    if (i == 3) u.deltas_offset = 4;
    if (i == 4) u.bytes--;
    if (i == 5) u.table = nullptr;
    if (i == 6) u.host = nullptr;
    refused &= pkv_cuda_upload(&u) == -EINVAL;
  }
  CUDA_MUST(cudaDeviceSynchronize());
  kit::Ok(refused && table.Get() == poison && device.Get() == poison,
          "wrong arguments are refused");
  kit::Ok(!pkv_cuda_upload(&good) && table.Get()[63] == 1, "the last entry of the last row");
}

int main() {
  kit::Start();
  TestArguments();
  TestSteps(1, 1, 1);
  TestSteps(3, 7, 0);
  TestSteps(3, 7, 21);
  TestSteps(64, 100, 300);
  if (!kit::Small()) TestSteps(1024, 8192, 1024);
  if (!kit::Small()) TestSteps(1024, 512, 200000);
  return kit::Done();
}

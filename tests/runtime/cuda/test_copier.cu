// SPDX-License-Identifier: GPL-2.0-only
// The copies of the device tier against plain memory: every page of both tiers is known at any
// time, and compared whole after random batches. Then their order against a compute stream.
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "cuda/copier.h"
#include "cuda/memory.h"
#include "kit.cuh"

using kit::Ok;

static void Must(bool good) {
  if (good) return;
  printf("Bail out! CUDA: %s\n", cudaGetErrorString(cudaGetLastError()));
  exit(1);
}

static uint64_t Mix(uint64_t z) {
  z = (z + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static uint32_t Below(uint32_t nr) { return random_in(0, nr - 1); }

struct Tier {
  uint64_t page;
  uint32_t slots, host_slots;
  struct pkvrt_gpu_memory* memory;
  struct pkvrt_gpu_copier* copier;
  struct pkvrt_device dev;
  uint8_t* host;
  std::vector<uint64_t> on_device, on_host;  // the seed of each page's contents

  Tier(uint64_t page_bytes, uint32_t nr, uint32_t nr_host)
      : page(page_bytes), slots(nr), host_slots(nr_host), on_device(nr), on_host(nr_host) {
    Must(pkvrt_gpu_memory_create(&memory, 0, page * slots) == 0);
    struct pkvrt_gpu_copier_params p = {};
    p.size = sizeof(p);
    p.base = pkvrt_gpu_memory_base(memory);
    p.page_bytes = page;
    p.nr_slots = slots;
    Must(pkvrt_gpu_copier_create(&copier, &p) == 0);
    pkvrt_gpu_copier_device(copier, &dev);
    host = static_cast<uint8_t*>(mmap(nullptr, page * host_slots, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    Must(host != MAP_FAILED);
    Must(dev.pin(dev.ctx, host, page * host_slots) == 0);
  }
  ~Tier() {
    dev.unpin(dev.ctx, host);
    munmap(host, page * host_slots);
    pkvrt_gpu_copier_destroy(copier);
    pkvrt_gpu_memory_destroy(memory);
  }
  uint8_t* HostPage(uint32_t i) { return host + i * page; }
  uint8_t* Base() { return static_cast<uint8_t*>(pkvrt_gpu_memory_base(memory)); }
  int Wait(uint64_t ticket) {
    int ret;
    while (!(ret = dev.poll(dev.ctx, ticket))) {
    }
    return ret;
  }
};

static void Fill(uint8_t* to, uint64_t bytes, uint64_t seed) {
  for (uint64_t i = 0; i < bytes / 8; i++) {
    uint64_t x = Mix(seed + i);
    memcpy(to + 8 * i, &x, 8);
  }
}

static void FillAll(Tier& t) {
  std::vector<uint8_t> page(t.page);
  for (uint32_t i = 0; i < t.slots; i++) {
    t.on_device[i] = random_bits();
    Fill(page.data(), t.page, t.on_device[i]);
    Must(cudaMemcpy(t.Base() + i * t.page, page.data(), t.page, cudaMemcpyDefault) == cudaSuccess);
  }
  for (uint32_t i = 0; i < t.host_slots; i++) {
    t.on_host[i] = random_bits();
    Fill(t.HostPage(i), t.page, t.on_host[i]);
  }
}

static bool Matches(Tier& t) {
  std::vector<uint8_t> want(t.page), got(t.page);
  for (uint32_t i = 0; i < t.slots; i++) {
    Fill(want.data(), t.page, t.on_device[i]);
    Must(cudaMemcpy(got.data(), t.Base() + i * t.page, t.page, cudaMemcpyDefault) == cudaSuccess);
    if (got != want) return false;
  }
  for (uint32_t i = 0; i < t.host_slots; i++) {
    Fill(want.data(), t.page, t.on_host[i]);
    if (memcmp(want.data(), t.HostPage(i), t.page)) return false;
  }
  return true;
}

static std::vector<uint32_t> Shuffled(uint32_t nr) {
  std::vector<uint32_t> v(nr);
  for (uint32_t i = 0; i < nr; i++) v[i] = i;
  for (uint32_t i = nr; i > 1; i--) std::swap(v[i - 1], v[Below(i)]);
  return v;
}

// Copies of all kinds, no place in two of them; half of the time in runs of neighbours.
static std::vector<pkvrt_copy> MakeBatch(Tier& t) {
  std::vector<uint32_t> slots = Shuffled(t.slots), pages = Shuffled(t.host_slots);
  std::vector<pkvrt_copy> v;
  if (Below(2)) std::sort(pages.begin(), pages.end());
  if (Below(2)) std::sort(slots.begin(), slots.end());
  uint32_t nr = 1 + Below(std::min(t.slots / 2, t.host_slots));
  uint32_t only = Below(5);  // one kind, or a mixture
  size_t slot = 0, page = 0;
  for (uint32_t i = 0; i < nr; i++) {
    pkvrt_copy c = {};
    c.kind = static_cast<pkvrt_copy_kind>(only < 3 ? only : Below(3));
    if (c.kind != PKVRT_COPY_IN) c.src_slot = slots[slot++];
    if (c.kind != PKVRT_COPY_OUT) c.dst_slot = slots[slot++];
    if (c.kind != PKVRT_COPY_DEVICE) c.host = t.HostPage(pages[page++]);
    v.push_back(c);
  }
  for (size_t i = v.size(); i > 1; i--) std::swap(v[i - 1], v[Below(static_cast<uint32_t>(i))]);
  return v;
}

static void Follow(Tier& t, const std::vector<pkvrt_copy>& v) {
  for (const pkvrt_copy& c : v) {
    uint32_t page =
        c.host ? static_cast<uint32_t>((static_cast<uint8_t*>(c.host) - t.host) / t.page) : 0;
    if (c.kind == PKVRT_COPY_OUT) t.on_host[page] = t.on_device[c.src_slot];
    if (c.kind == PKVRT_COPY_IN) t.on_device[c.dst_slot] = t.on_host[page];
    if (c.kind == PKVRT_COPY_DEVICE) t.on_device[c.dst_slot] = t.on_device[c.src_slot];
  }
}

static void TestBatches(uint64_t page, uint32_t slots, uint32_t host) {
  Tier t(page, slots, host);
  bool good = true;
  FillAll(t);
  for (int round = 0; round < 12 && good; round++) {
    std::vector<pkvrt_copy> v = MakeBatch(t);
    uint64_t ticket;
    good &= t.dev.begin(t.dev.ctx, v.data(), static_cast<unsigned>(v.size()), &ticket) == 0;
    good = good && t.Wait(ticket) == 1;
    Follow(t, v);
    if (round % 4 == 3) good = good && Matches(t);
  }
  Ok(good, "random batches of pages of %llu bytes", static_cast<unsigned long long>(page));
}

// Many tickets at once: out of one half of the slots, into the other.
static void TestManyTickets(uint64_t page) {
  constexpr uint32_t kNr = 96;
  Tier t(page, 2 * kNr, 2 * kNr);
  std::vector<uint64_t> tickets(2 * kNr);
  std::vector<uint32_t> order = Shuffled(kNr);
  bool good = true;
  FillAll(t);
  for (uint32_t i = 0; i < kNr; i++) {
    pkvrt_copy out = {PKVRT_COPY_OUT, order[i], 0, t.HostPage(i)};
    pkvrt_copy in = {PKVRT_COPY_IN, 0, kNr + order[i], t.HostPage(kNr + i)};
    good &= !t.dev.begin(t.dev.ctx, &out, 1, &tickets[2 * i]);
    good &= !t.dev.begin(t.dev.ctx, &in, 1, &tickets[2 * i + 1]);
    Follow(t, {out, in});
  }
  for (uint32_t i = 2 * kNr; i-- > 0;) good &= t.Wait(tickets[i]) == 1;
  Ok(good && Matches(t), "many tickets at once, pages of %llu bytes",
     static_cast<unsigned long long>(page));
}

// Compute that takes its time: everything it writes, it writes after so many cycles.
__global__ void LateWriteKernel(uint4* page, uint64_t vectors, uint32_t value, long long cycles) {
  long long start = clock64();
  while (clock64() - start < cycles) {
  }
  for (uint64_t i = threadIdx.x; i < vectors; i += blockDim.x)
    page[i] = make_uint4(value, value, value, value);
}

__global__ void LateReadKernel(const uint4* page, uint64_t vectors, uint32_t value, uint32_t* wrong,
                               long long cycles) {
  long long start = clock64();
  while (clock64() - start < cycles) {
  }
  for (uint64_t i = threadIdx.x; i < vectors; i += blockDim.x)
    if (page[i].x != value || page[i].w != value) atomicAdd(wrong, 1);
}

static void TestOrder(uint64_t page) {
  const long long kCycles = kit::Small() ? 1 << 20 : 20 << 20;  // up to ten milliseconds
  Tier t(page, 8, 8);
  cudaStream_t compute;
  uint32_t *wrong, nr_wrong = 1;
  uint64_t ticket;
  bool good = true;

  Must(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking) == cudaSuccess);
  Must(cudaMalloc(&wrong, 4) == cudaSuccess && cudaMemset(wrong, 0, 4) == cudaSuccess);
  memset(t.host, 0x11, page * 8);
  Must(cudaMemset(t.Base(), 0x22, page * 8) == cudaSuccess && !cudaDeviceSynchronize());

  for (uint32_t i = 0; i < 3; i++) {
    LateWriteKernel<<<1, 256, 0, compute>>>(reinterpret_cast<uint4*>(t.Base() + i * page),
                                            page / 16, 0x33333333 + i, kCycles);
    Must(!cudaGetLastError() && pkvrt_gpu_copier_after(t.copier, compute) == 0);
    pkvrt_copy out = {PKVRT_COPY_OUT, i, 0, t.HostPage(i)};
    Must(t.dev.begin(t.dev.ctx, &out, 1, &ticket) == 0);
    good &= t.Wait(ticket) == 1;
    for (uint64_t b = 0; b < page; b++) good &= t.HostPage(i)[b] == 0x33 + (b % 4 ? 0 : i);
  }
  Ok(good, "a page of %llu bytes leaves after compute has written it",
     static_cast<unsigned long long>(page));

  LateReadKernel<<<1, 256, 0, compute>>>(reinterpret_cast<uint4*>(t.Base() + 5 * page), page / 16,
                                         0x22222222, wrong, kCycles);
  Must(!cudaGetLastError() && pkvrt_gpu_copier_after(t.copier, compute) == 0);
  pkvrt_copy in = {PKVRT_COPY_IN, 0, 5, t.HostPage(6)};
  Must(t.dev.begin(t.dev.ctx, &in, 1, &ticket) == 0 && t.Wait(ticket) == 1);
  Must(cudaMemcpyAsync(&nr_wrong, wrong, 4, cudaMemcpyDefault, compute) == cudaSuccess);
  Must(cudaStreamSynchronize(compute) == cudaSuccess);
  Ok(nr_wrong == 0, "a page of %llu bytes comes after compute has read the old one",
     static_cast<unsigned long long>(page));
  cudaStreamDestroy(compute);
  cudaFree(wrong);
}

static void TestRefusals() {
  Tier t(4096, 4, 4);
  struct pkvrt_gpu_copier* c;
  struct pkvrt_gpu_copier_params p = {};
  pkvrt_copy good = {PKVRT_COPY_OUT, 0, 0, t.host}, bad = {PKVRT_COPY_OUT, 4, 0, t.host};
  pkvrt_copy both[] = {good, bad};
  uint64_t ticket;

  p.size = sizeof(p);
  p.base = t.Base();
  p.page_bytes = 4096;
  Ok(pkvrt_gpu_copier_create(&c, &p) == -EINVAL && !c, "no slots are refused");
  p.nr_slots = 4;
  p.page_bytes = 4104;
  Ok(pkvrt_gpu_copier_create(&c, &p) == -EINVAL, "a page of half vectors is refused");
  memset(t.host, 0x77, 4096 * 4);
  Ok(t.dev.begin(t.dev.ctx, both, 2, &ticket) == -EINVAL, "a slot past the arena is refused");
  Must(!cudaDeviceSynchronize());
  Ok(t.host[0] == 0x77 && t.host[4095] == 0x77, "and nothing is copied");
  bad = {PKVRT_COPY_IN, 0, 4, t.host};
  Ok(t.dev.begin(t.dev.ctx, &bad, 1, &ticket) == -EINVAL, "on the way in too");
  pkvrt_gpu_copier_destroy(nullptr);
}

int main() {
  kit::Start();
  TestBatches(2 << 20, 24, 24);
  TestBatches(512 << 10, 64, 70);
  TestBatches(64 << 10, 400, 300);
  TestBatches(48 << 10, 333, 200);
  TestBatches(16 << 10, 3000, 2600);  // more than a buffer takes
  TestBatches(4096, 5500, 5000);
  TestBatches(1040, 900, 1000);
  TestManyTickets(2 << 20);
  TestManyTickets(16 << 10);
  TestOrder(2 << 20);
  TestOrder(16 << 10);
  TestRefusals();
  return kit::Done();
}

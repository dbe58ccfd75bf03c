/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the CUDA tests and nothing else need: TAP without a library, a device or a skip, device
 * buffers that are poisoned and guarded, fresh random contents, norms of errors.
 */
#ifndef TESTS_KERNELS_CUDA_KIT_CUH
#define TESTS_KERNELS_CUDA_KIT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <pagedkv/cache.h>

#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "random.h"

// A CUDA call that must not fail: the program ends, which the runner counts as a failure.
#define CUDA_MUST(call)                                                                           \
  do {                                                                                            \
    cudaError_t error_ = (call);                                                                  \
    if (error_ != cudaSuccess) {                                                                  \
      printf("Bail out! %s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
      exit(1);                                                                                    \
    }                                                                                             \
  } while (0)

namespace kit {

inline int nr_results, nr_failed;

// One result. Returns whether it passed.
__attribute__((format(printf, 2, 3))) inline bool Ok(bool passed, const char* format, ...) {
  va_list arguments;
  nr_results++;
  if (!passed) nr_failed++;
  printf("%sok %d - ", passed ? "" : "not ", nr_results);
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(stdout);
  return passed;
}

// The plan. Returns the exit status.
inline int Done() {
  printf("1..%d\n", nr_results);
  return nr_failed != 0;
}

// Only shapes that take no time: under compute-sanitizer everything is a hundred times slower.
inline bool Small() { return getenv("PAGEDKV_TEST_SMALL") != nullptr; }

// Multiprocessors of the GPU.
inline uint32_t Sms() {
  int nr = 0;
  cudaDeviceGetAttribute(&nr, cudaDevAttrMultiProcessorCount, 0);
  return nr;
}

// Skips the program where there is no Hopper GPU; prints the seed.
inline void Start() {
  int nr = 0, major = 0;
  if (cudaGetDeviceCount(&nr) != cudaSuccess || nr == 0 ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
      major != 9) {
    printf("1..0 # SKIP no GPU\n");
    exit(0);
  }
  random_start();
}

template <class T>
__host__ __device__ inline float ToFloat(T x) {
  return static_cast<float>(x);
}

// All bits set is a NaN in every dtype here, and a slot, row or token that no test has.
constexpr int kPoison = 0xff;
constexpr int kGuard = 0xa5;
constexpr size_t kGuardBytes = 4096;

// nr elements in device memory, poisoned, between two zones that nobody may write.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t nr) : nr_(nr) {
    CUDA_MUST(cudaMalloc(&all_, bytes() + 2 * kGuardBytes));
    CUDA_MUST(cudaMemset(all_, kGuard, bytes() + 2 * kGuardBytes));
    Poison();
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) { Set(values); }
  ~Buffer() { cudaFree(all_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return reinterpret_cast<T*>(all_ + kGuardBytes); }
  size_t size() const { return nr_; }
  size_t bytes() const { return nr_ * sizeof(T); }
  void Poison() { CUDA_MUST(cudaMemset(data(), kPoison, bytes())); }
  void Zero() { CUDA_MUST(cudaMemset(data(), 0, bytes())); }
  void Set(const std::vector<T>& values) {
    CUDA_MUST(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> Get() const {
    std::vector<T> values(nr_);
    CUDA_MUST(cudaMemcpy(values.data(), data(), bytes(), cudaMemcpyDeviceToHost));
    return values;
  }
  // Are the zones around it as they were?
  bool Guarded() const {
    std::vector<unsigned char> zone(kGuardBytes);
    for (const char* at : {all_, all_ + kGuardBytes + bytes()}) {
      CUDA_MUST(cudaMemcpy(zone.data(), at, kGuardBytes, cudaMemcpyDeviceToHost));
      for (unsigned char c : zone)
        if (c != kGuard) return false;
    }
    return true;
  }

 private:
  char* all_ = nullptr;
  size_t nr_;
};

__device__ inline uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// About normal, of this standard deviation: element i is a function of (seed, i).
template <class T>
__global__ void FillNormalKernel(T* data, size_t nr, uint64_t seed, float deviation) {
  size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < nr; i += step) {
    uint64_t bits = Mix(seed + (i + 1) * 0x9e3779b97f4a7c15);
    float u = (static_cast<float>(bits >> 40) + 0.5f) * 0x1p-24f;
    float v = static_cast<float>(bits & 0xffffff) * 0x1p-24f;
    data[i] = T(deviation * sqrtf(-2 * logf(u)) * cospif(2 * v));
  }
}

template <class T>
void FillNormal(T* data, size_t nr, float deviation = 1) {
  FillNormalKernel<T><<<1024, 256>>>(data, nr, random_bits(), deviation);
  CUDA_MUST(cudaGetLastError());
}

template <class T>
void FillNormal(Buffer<T>& buffer, float deviation = 1) {
  FillNormal(buffer.data(), buffer.size(), deviation);
}

// ||out - ref|| / ||ref|| over nr elements; a NaN anywhere makes it NaN, which no bound admits.
template <class T, class R>
double RelativeError(const T* out, const R* ref, size_t nr) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < nr; i++) {
    double r = static_cast<double>(ref[i]);
    double d = static_cast<double>(ToFloat(out[i])) - r;
    difference += d * d;
    norm += r * r;
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

template <class T, class R>
double RelativeError(const std::vector<T>& out, const std::vector<R>& ref) {
  return out.size() == ref.size() ? RelativeError(out.data(), ref.data(), ref.size()) : NAN;
}

// max |out - ref|, equal infinities counting as 0; NaN where only one is a NaN or infinite.
template <class T, class R>
double LargestError(const std::vector<T>& out, const std::vector<R>& ref) {
  double largest = out.size() == ref.size() ? 0 : NAN;
  for (size_t i = 0; i < ref.size() && i < out.size(); i++) {
    double o = static_cast<double>(ToFloat(out[i])), r = static_cast<double>(ref[i]);
    if (o == r) continue;
    double d = std::fabs(o - r);
    if (!(d <= largest)) largest = std::isfinite(d) ? d : NAN;
    if (std::isnan(largest)) break;
  }
  return largest;
}

}  // namespace kit

#endif

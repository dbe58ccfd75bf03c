// SPDX-License-Identifier: GPL-2.0-only
// The roofs read and copy all that they say; the kit notices what it is there to notice.
#include <pagedkv/pkv_cuda.h>

#include "kit.cuh"
#include "roof.cuh"

static void TestCopy(size_t nr_words) {
  kit::Buffer<uint32_t> src(nr_words), dst(nr_words);
  kit::FillNormal(reinterpret_cast<float*>(src.data()), nr_words);
  CUDA_MUST(pagedkv::CopyRoof(dst.data(), src.data(), src.bytes(), nullptr));
  kit::Ok(dst.Get() == src.Get() && dst.Guarded() && src.Guarded(), "copies %zu words", nr_words);
}

// The xor of all words reaches the sink when it is the value that is never expected.
static void TestRead(size_t nr_words) {
  std::vector<uint32_t> words(nr_words);
  for (uint32_t& w : words) w = static_cast<uint32_t>(random_bits()) | 1;
  kit::Buffer<uint32_t> data(words), sink(1);
  sink.Zero();
  // one thread sees one word of four: 16 bytes alone
  uint32_t mix = words[0] ^ words[1] ^ words[2] ^ words[3];
  pagedkv::ReadRoofKernel<<<1, pagedkv::kRoofThreads>>>(reinterpret_cast<const uint4*>(data.data()),
                                                        1, mix, sink.data());
  CUDA_MUST(cudaGetLastError());
  kit::Ok(sink.Get()[0] == mix, "reads what is there");
  sink.Zero();
  CUDA_MUST(pagedkv::ReadRoof(data.data(), data.bytes(), sink.data(), nullptr));
  CUDA_MUST(cudaDeviceSynchronize());
  kit::Ok(data.Get() == words && data.Guarded(), "reading %zu words changes none", nr_words);
}

static void TestKit() {
  kit::Buffer<float> buffer(64);
  CUDA_MUST(cudaMemset(buffer.data() + 64, 0, 1));
  kit::Ok(!buffer.Guarded(), "a write past the end is noticed");
  std::vector<float> ref = {1, 2}, bad = {1, NAN};
  kit::Ok(!(kit::RelativeError(bad, ref) < 1e9) && !(kit::LargestError(bad, ref) < 1e9),
          "a NaN is noticed");
}

int main() {
  kit::Start();
  kit::Ok(pkv_cuda_device_check() == 0, "the device will do");
  for (size_t nr : {4u, 8u, 2052u, 1u << 20}) TestCopy(nr);
  TestRead(kit::Small() ? 1u << 12 : 1u << 22);
  TestKit();
  return kit::Done();
}

// SPDX-License-Identifier: GPL-2.0-only
// Norm, SwiGLU and gather of rows against doubles; a row's bits don't depend on the batch.
#include <pagedkv/pkv_cuda.h>

#include "kit.cuh"

template <class T>
struct Dtype;
template <>
struct Dtype<float> {
  static constexpr uint32_t kId = PKV_F32;
  static constexpr double kError = 1e-6;
};
template <>
struct Dtype<__nv_bfloat16> {
  static constexpr uint32_t kId = PKV_BF16;
  static constexpr double kError = 4e-3;
};
template <>
struct Dtype<__half> {
  static constexpr uint32_t kId = PKV_F16;
  static constexpr double kError = 5e-4;
};

// Rows of a tensor that lie further apart than they are long.
template <class T>
struct Rows {
  uint32_t nr, n;
  uint64_t stride;
  kit::Buffer<T> data;

  Rows(uint32_t nr_rows, uint32_t nr_elements, uint32_t gap)
      : nr(nr_rows), n(nr_elements), stride(nr_elements + gap), data(nr_rows * stride) {}
  std::vector<T> Get() const {
    std::vector<T> all = data.Get(), rows;
    for (uint32_t r = 0; r < nr; r++)
      rows.insert(rows.end(), all.begin() + r * stride, all.begin() + r * stride + n);
    return rows;
  }
  // Is what lies between the rows poison still?
  bool Apart() const {
    std::vector<T> all = data.Get();
    for (uint32_t r = 0; r < nr; r++)
      for (const char *p = reinterpret_cast<char*>(&all[r * stride] + n),
                      *end = reinterpret_cast<char*>(all.data() + (r + 1) * stride);
           p < end; p++)
        if (*p != static_cast<char>(kit::kPoison)) return false;
    return data.Guarded();
  }
};

template <class X, class W, class O>
static void TestNorm(uint32_t nr_rows, uint32_t n, bool add) {
  Rows<X> x(nr_rows, n, 0);
  Rows<O> y(nr_rows, n, 8), out(nr_rows, n, 16);
  kit::Buffer<W> weight(n);
  kit::FillNormal(x.data, 3);
  kit::FillNormal(y.data);
  kit::FillNormal(weight);
  std::vector<X> before = x.Get();
  std::vector<O> added = y.Get();
  std::vector<W> w = weight.Get();
  struct pkv_cuda_rms_norm norm = {};
  norm.size = sizeof(norm);
  norm.nr_rows = nr_rows;
  norm.nr_elements = n;
  norm.eps = 1e-5f;
  norm.x_dtype = Dtype<X>::kId;
  norm.add_dtype = norm.out_dtype = Dtype<O>::kId;
  norm.weight_dtype = Dtype<W>::kId;
  norm.x = x.data.data();
  norm.add = add ? y.data.data() : nullptr;
  norm.weight = weight.data();
  norm.out = out.data.data();
  norm.x_row_elements = x.stride;
  norm.add_row_elements = y.stride;
  norm.out_row_elements = out.stride;
  int err = pkv_cuda_rms_norm(&norm);
  CUDA_MUST(cudaDeviceSynchronize());

  std::vector<double> ref(before.size()), sums(before.size());
  for (uint32_t r = 0; r < nr_rows; r++) {
    double square = 0;
    for (uint32_t i = r * n; i < (r + 1) * n; i++) {
      float sum = kit::ToFloat(before[i]) + (add ? kit::ToFloat(added[i]) : 0);
      sums[i] = kit::ToFloat(X(sum));
      square += sums[i] * sums[i];
    }
    for (uint32_t i = 0; i < n; i++)
      ref[r * n + i] =
          sums[r * n + i] / sqrt(square / n + norm.eps) * static_cast<double>(kit::ToFloat(w[i]));
  }
  double error = kit::RelativeError(out.Get(), ref);
  kit::Ok(!err && error < Dtype<O>::kError && kit::LargestError(x.Get(), sums) == 0 &&
              out.Apart() && x.Apart(),
          "norm of %u x %u, dtypes %u %u %u%s: error %.1e", nr_rows, n, Dtype<X>::kId,
          Dtype<W>::kId, Dtype<O>::kId, add ? ", added" : "", error);
}

// The last row of a batch, computed alone.
static void TestNormAlone() {
  uint32_t n = 4096, nr = kit::Small() ? 3 : 77;
  Rows<float> x(nr, n, 0), out(nr, n, 0);
  kit::Buffer<float> weight(n);
  kit::FillNormal(x.data);
  kit::FillNormal(weight);
  struct pkv_cuda_rms_norm norm = {};
  norm.size = sizeof(norm);
  norm.nr_rows = nr;
  norm.nr_elements = n;
  norm.x = x.data.data();
  norm.weight = weight.data();
  norm.out = out.data.data();
  norm.x_row_elements = norm.out_row_elements = n;
  int err = pkv_cuda_rms_norm(&norm);
  std::vector<float> batch = out.Get();
  out.data.Poison();
  norm.nr_rows = 1;
  norm.x = x.data.data() + (nr - 1) * n;
  norm.out = out.data.data() + (nr - 1) * n;
  err |= pkv_cuda_rms_norm(&norm);
  std::vector<float> alone = out.Get();
  kit::Ok(!err && !memcmp(&alone[(nr - 1) * n], &batch[(nr - 1) * n], n * sizeof(float)),
          "a row's norm is the same alone");
}

template <class S, class O>
static void TestSwiglu(uint32_t nr_rows, uint32_t n) {
  Rows<S> both(nr_rows, 2 * n, 8);
  Rows<O> out(nr_rows, n, 8);
  kit::FillNormal(both.data, 4);
  std::vector<S> from = both.Get();
  struct pkv_cuda_swiglu s = {};
  s.size = sizeof(s);
  s.nr_rows = nr_rows;
  s.nr_elements = n;
  s.src_dtype = Dtype<S>::kId;
  s.out_dtype = Dtype<O>::kId;
  s.gate = both.data.data();
  s.up = both.data.data() + n;
  s.src_row_elements = both.stride;
  s.out = out.data.data();
  s.out_row_elements = out.stride;
  int err = pkv_cuda_swiglu(&s);
  std::vector<double> ref;
  for (uint32_t r = 0; r < nr_rows; r++)
    for (uint32_t i = 0; i < n; i++) {
      double g = static_cast<double>(kit::ToFloat(from[2 * r * n + i]));
      ref.push_back(g / (1 + exp(-g)) *
                    static_cast<double>(kit::ToFloat(from[(2 * r + 1) * n + i])));
    }
  double error = kit::RelativeError(out.Get(), ref);
  kit::Ok(!err && error < Dtype<O>::kError && out.Apart(), "swiglu of %u x %u: error %.1e", nr_rows,
          n, error);
}

template <class T, class O>
static void TestGather(uint32_t nr_rows, uint32_t n) {
  constexpr uint32_t kTable = 100;
  Rows<T> table(kTable, n, 8);
  Rows<O> out(nr_rows, n, 8);
  kit::FillNormal(table.data);
  std::vector<uint32_t> rows(nr_rows);
  for (uint32_t& r : rows) r = random_in(0, kTable + 1);
  kit::Buffer<uint32_t> device_rows(rows);
  struct pkv_cuda_gather_rows g = {};
  g.size = sizeof(g);
  g.nr_rows = nr_rows;
  g.nr_elements = n;
  g.nr_table_rows = kTable;
  g.table_dtype = Dtype<T>::kId;
  g.out_dtype = Dtype<O>::kId;
  g.table = table.data.data();
  g.table_row_elements = table.stride;
  g.rows = device_rows.data();
  g.out = out.data.data();
  g.out_row_elements = out.stride;
  int err = pkv_cuda_gather_rows(&g);
  std::vector<T> from = table.Get();
  std::vector<double> ref;
  for (uint32_t r : rows)
    for (uint32_t i = 0; i < n; i++)
      ref.push_back(r < kTable ? static_cast<double>(kit::ToFloat(O(kit::ToFloat(from[r * n + i]))))
                               : 0);
  kit::Ok(!err && kit::LargestError(out.Get(), ref) == 0 && out.Apart(), "gather of %u x %u",
          nr_rows, n);
}

static void TestArguments() {
  kit::Buffer<float> data(64);
  struct pkv_cuda_rms_norm good = {};
  good.size = sizeof(good);
  good.nr_rows = 1;
  good.nr_elements = 64;
  good.x = good.out = data.data();
  good.weight = data.data();
  good.x_row_elements = good.out_row_elements = 64;
  bool refused = true;
  for (int i = 0; i < 6; i++) {
    struct pkv_cuda_rms_norm n = good;
    if (i == 0) n.size = 1;
    if (i == 1) n.nr_elements = 63;
    if (i == 2) n.x_dtype = PKV_E4M3;
    if (i == 3) n.weight = nullptr;
    if (i == 4) n.x_row_elements = 56;
    if (i == 5) n.x = data.data() + 1;
    refused &= pkv_cuda_rms_norm(&n) == -EINVAL;
  }
  kit::Ok(refused && pkv_cuda_rms_norm(&good) == 0 && pkv_cuda_swiglu(nullptr) == -EINVAL &&
              pkv_cuda_gather_rows(nullptr) == -EINVAL,
          "wrong arguments are refused");
  CUDA_MUST(cudaDeviceSynchronize());
}

int main() {
  kit::Start();
  TestArguments();
  for (uint32_t n : {8u, 256u, 4096u, 8200u}) {
    TestNorm<float, float, float>(3, n, false);
    TestNorm<float, float, __nv_bfloat16>(5, n, true);
    TestNorm<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16>(2, n, true);
    TestNorm<__half, __half, __half>(1, n, false);
    TestSwiglu<__nv_bfloat16, __nv_bfloat16>(5, n);
    TestSwiglu<float, __nv_bfloat16>(3, n);
    TestSwiglu<__half, float>(2, n);
    TestGather<__nv_bfloat16, float>(9, n);
    TestGather<float, __half>(33, n);
  }
  TestNormAlone();
  return kit::Done();
}

// SPDX-License-Identifier: GPL-2.0-only
// Draws against a sort in doubles. Sums are rounded otherwise there, so that a draw may fall on the
// other side of a bound: a token counts as right when some bound within 1e-5 gives it, and nearly
// all must be the one of the bounds as they are.
#include <pagedkv/pkv_cuda.h>

#include <algorithm>
#include <numeric>

#include "kit.cuh"

enum Contents { kNormal, kTies, kEqual, kInfinite, kWithNan, kNrContents };

static uint64_t MixHost(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

static double UnitOf(const struct pkv_cuda_draw& d) {
  return static_cast<double>(MixHost(MixHost(d.seed) ^ d.position) >> 11) * 0x1p-53;
}

class Reference {
 public:
  explicit Reference(const float* logits, uint32_t vocab) : logits_(logits), order_(vocab) {
    std::iota(order_.begin(), order_.end(), 0);
    std::sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) {
      return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
    });
    for (uint32_t t : order_) sum_ += Weight(t, 1);
  }

  double LogProb(uint32_t token) const {
    float hottest = logits_[order_[0]];
    return (logits_[token] == hottest ? 0 : logits_[token] - hottest) - log(sum_);
  }

  // With top_p times `more`, and the draw moved by `by` of all weights.
  uint32_t Token(const struct pkv_cuda_draw& d, double more, double by) const {
    if (!(d.temperature > 0)) return order_[0];
    size_t nr = d.top_k && d.top_k < order_.size() ? d.top_k : order_.size();
    double sum = 0, kept = 0;
    for (size_t i = 0; i < nr; i++) sum += Weight(order_[i], d.temperature);
    if (d.top_p < 1) {
      size_t i = 0;
      do {
        kept += Weight(order_[i++], d.temperature);
      } while (i < nr && kept < more * static_cast<double>(d.top_p) * sum);
      nr = i;
    } else {
      kept = sum;
    }
    std::vector<uint32_t> tokens(order_.begin(), order_.begin() + nr);
    std::sort(tokens.begin(), tokens.end());
    double left = std::fmin(std::fmax(UnitOf(d) + by, 0), 1 - 1e-12) * kept;
    uint32_t last = order_[0];
    for (uint32_t t : tokens) {
      double w = Weight(t, d.temperature);
      if (w <= 0) continue;
      last = t;
      left -= w;
      if (left < 0) break;
    }
    return last;
  }

 private:
  double Weight(uint32_t token, double temperature) const {
    float hottest = logits_[order_[0]];
    if (logits_[token] == hottest) return 1;
    double w = exp((static_cast<double>(logits_[token]) - hottest) / temperature);
    return w < 0x1p-41 ? 0 : w;
  }

  const float* logits_;
  std::vector<uint32_t> order_;
  double sum_ = 0;
};

template <class T>
static std::vector<T> RandomLogits(uint32_t nr_rows, uint64_t row, Contents what) {
  std::vector<T> logits(nr_rows * row);
  for (size_t i = 0; i < logits.size(); i++) {
    float sum = 0;
    for (int j = 0; j < 4; j++) sum += random_float();
    float x = what == kTies ? floorf(3 * sum) : what == kEqual ? -3.25f : 4 * sum + 1;
    if (what == kInfinite && random_in(0, 3) == 0) x = -INFINITY;
    if (what == kWithNan && random_in(0, 9) == 0) x = NAN;
    logits[i] = T(x);
  }
  return logits;
}

static struct pkv_cuda_draw RandomDraw(uint32_t vocab) {
  const float temperatures[] = {0, 1, 0.3f, 5, 1e-30f}, parts[] = {1, 0.9f, 0.5f, 0.1f, 1e-6f};
  const uint32_t counts[] = {0, 0, 1, 2, 50, vocab / 2, vocab, vocab + 1};
  struct pkv_cuda_draw d = {};
  d.temperature = temperatures[random_in(0, 4)];
  d.top_p = parts[random_in(0, 4)];
  d.top_k = counts[random_in(0, 7)];
  d.position = random_in(0, 100000);
  d.seed = random_bits();
  return d;
}

struct Drawn {
  std::vector<uint32_t> tokens;
  std::vector<float> logprobs;
  int err;
};

template <class T>
static Drawn Draw(const T* logits, uint32_t dtype, uint32_t nr_rows, uint32_t vocab, uint64_t row,
                  const std::vector<struct pkv_cuda_draw>& draws, bool probs = true) {
  kit::Buffer<struct pkv_cuda_draw> device_draws(draws);
  kit::Buffer<uint32_t> tokens(nr_rows);
  kit::Buffer<float> logprobs(nr_rows);
  struct pkv_cuda_sample s = {};
  s.size = sizeof(s);
  s.dtype = dtype;
  s.nr_rows = nr_rows;
  s.vocab = vocab;
  s.logits = logits;
  s.row_elements = row;
  s.draws = device_draws.data();
  s.tokens = tokens.data();
  s.logprobs = probs ? logprobs.data() : nullptr;
  Drawn d;
  d.err = pkv_cuda_sample(&s);
  CUDA_MUST(cudaDeviceSynchronize());
  d.tokens = tokens.Get();
  d.logprobs = logprobs.Get();
  if (!tokens.Guarded() || !logprobs.Guarded()) d.err = 1;
  return d;
}

template <class T>
static void TestDraws(uint32_t dtype, uint32_t nr_rows, uint32_t vocab, uint64_t row,
                      Contents what) {
  std::vector<T> logits = RandomLogits<T>(nr_rows, row, what);
  // beyond the vocabulary there is nothing to draw
  for (uint32_t r = 0; r < nr_rows; r++)
    for (uint64_t i = vocab; i < row; i++) logits[r * row + i] = T(1000.0f);
  std::vector<struct pkv_cuda_draw> draws;
  for (uint32_t r = 0; r < nr_rows; r++) draws.push_back(RandomDraw(vocab));
  kit::Buffer<T> device(logits);
  Drawn out = Draw(device.data(), dtype, nr_rows, vocab, row, draws);
  uint32_t wrong = 0, moved = 0;
  double error = 0;
  for (uint32_t r = 0; r < nr_rows; r++) {
    std::vector<float> values(vocab);
    for (uint32_t i = 0; i < vocab; i++) {
      float x = kit::ToFloat(logits[r * row + i]);
      values[i] = x == x ? x : -INFINITY;
    }
    Reference ref(values.data(), vocab);
    uint32_t token = out.tokens[r];
    bool right = token == ref.Token(draws[r], 1, 0);
    if (!right) {
      moved++;
      for (double more : {1.0, 1 - 1e-5, 1 + 1e-5})
        for (double by : {0.0, -1e-5, 1e-5}) right |= token == ref.Token(draws[r], more, by);
    }
    if (!right && wrong++ == 0)
      printf("# row %u: token %u, not %u (temperature %g, top_p %g, top_k %u, unit %g)\n", r, token,
             ref.Token(draws[r], 1, 0), draws[r].temperature, draws[r].top_p, draws[r].top_k,
             UnitOf(draws[r]));
    if (token < vocab) {
      double d = std::fabs(out.logprobs[r] - ref.LogProb(token));
      error = d <= error ? error : d;
    }
  }
  Drawn again = Draw(device.data(), dtype, nr_rows, vocab, row, draws, false);
  uint32_t last = nr_rows - 1;
  Drawn alone = Draw(device.data() + last * row, dtype, 1, vocab, row, {draws[last]});
  kit::Ok(
      !out.err && !wrong && moved * 20 <= nr_rows + 19 && error < 1e-4 &&
          again.tokens == out.tokens && alone.tokens[0] == out.tokens[last] &&
          !memcmp(&alone.logprobs[0], &out.logprobs[last], sizeof(float)),
      "%u rows of %u, dtype %u, contents %d: %u wrong, %u on a bound, log-probability off by %.1e",
      nr_rows, vocab, dtype, what, wrong, moved, error);
}

// Each token as often as it should be: within five deviations.
static void TestFrequencies() {
  constexpr uint32_t kVocab = 16;
  constexpr uint32_t nr = 20000;
  std::vector<float> one = RandomLogits<float>(1, kVocab, kNormal), logits;
  std::vector<struct pkv_cuda_draw> draws;
  for (uint32_t r = 0; r < nr; r++) {
    logits.insert(logits.end(), one.begin(), one.end());
    // a sequence's successive positions
    draws.push_back({2, 0.97f, 12, r, 42});
  }
  kit::Buffer<float> device(logits);
  Drawn out = Draw(device.data(), PKV_F32, nr, kVocab, kVocab, draws);
  std::vector<uint32_t> counts(kVocab), ideal(kVocab);
  for (uint32_t t : out.tokens) counts[t < kVocab ? t : 0]++;
  Reference ref(one.data(), kVocab);
  // the reference's own probabilities, from a fine comb over the unit interval
  struct pkv_cuda_draw d = {2, 0.97f, 12, 0, 42};
  double unit = UnitOf(d);
  constexpr int kComb = 10000;
  for (int i = 0; i < kComb; i++) ideal[ref.Token(d, 1, (i + 0.5) / kComb - unit)]++;
  bool right = !out.err;
  for (uint32_t t = 0; t < kVocab; t++) {
    double p = static_cast<double>(ideal[t]) / kComb, expected = p * nr;
    right &= std::fabs(counts[t] - expected) <= 5 * sqrt(expected * (1 - p)) + 2 + 1e-4 * nr;
  }
  kit::Ok(right, "%u draws have the frequencies that they should", nr);
}

static void TestArguments() {
  kit::Buffer<float> logits(64);
  kit::FillNormal(logits);
  kit::Buffer<struct pkv_cuda_draw> draws(1);
  kit::Buffer<uint32_t> token(1);
  struct pkv_cuda_sample good = {};
  good.size = sizeof(good);
  good.nr_rows = 1;
  good.vocab = good.row_elements = 64;
  good.logits = logits.data();
  good.draws = draws.data();
  good.tokens = token.data();
  bool refused = true;
  for (int i = 0; i < 6; i++) {
    struct pkv_cuda_sample s = good;
    if (i == 0) s.size = 4;
    if (i == 1) s.dtype = PKV_E4M3;
    if (i == 2) s.vocab = PKV_CUDA_MAX_VOCAB + 1;
    if (i == 3) s.vocab = 0;
    if (i == 4) s.row_elements = 63;
    if (i == 5) s.draws = nullptr;
    refused &= pkv_cuda_sample(&s) == -EINVAL;
  }
  kit::Ok(refused, "wrong arguments are refused");
  // draws that are all NaN, and odd ones
  bool inside = !pkv_cuda_sample(&good) && token.Get()[0] < 64;
  for (struct pkv_cuda_draw d : {pkv_cuda_draw{INFINITY, 0.5f, 7, 0, 0},
                                 {1, -1, 0, 0, 1},
                                 {-1, 2, 9, 3, 3},
                                 {INFINITY, NAN, 3, 1, 9}}) {
    draws.Set({d});
    token.Poison();
    inside &= !pkv_cuda_sample(&good) && token.Get()[0] < 64;
  }
  kit::Ok(inside, "draws out of range give some token");
}

int main() {
  kit::Start();
  TestArguments();
  if (kit::Small()) {
    // racecheck takes a third of a second for a row
    TestDraws<float>(PKV_F32, 3, 1000, 1000, kNormal);
    TestDraws<__half>(PKV_F16, 3, 515, 517, kTies);
    return kit::Done();
  }
  TestFrequencies();
  for (int what = 0; what < kNrContents; what++) {
    Contents c = static_cast<Contents>(what);
    for (uint32_t vocab : {1u, 2u, 7u, 100u, 1000u}) TestDraws<float>(PKV_F32, 60, vocab, vocab, c);
    TestDraws<__half>(PKV_F16, 20, 515, 517, c);
    TestDraws<__nv_bfloat16>(PKV_BF16, 20, 3000, 3008, c);
    TestDraws<float>(PKV_F32, 20, 32000, 32000, c);
    TestDraws<__nv_bfloat16>(PKV_BF16, 10, 50257, 50257, c);
    TestDraws<float>(PKV_F32, 8, 128256, 128256, c);
    TestDraws<float>(PKV_F32, 4, PKV_CUDA_MAX_VOCAB, PKV_CUDA_MAX_VOCAB, c);
  }
  return kit::Done();
}

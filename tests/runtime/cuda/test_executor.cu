// SPDX-License-Identifier: GPL-2.0-only
// The executor on the GPU: near a plain float model; the same bits however a sequence is cut into
// chunks, whatever runs beside it, wherever its pages lie; block tables that are kept by what
// changes.
#include <errno.h>
#include <pagedkv/cache.h>

#include <algorithm>
#include <map>
#include <vector>

extern "C" {
#include "cuda/executor_gpu.h"
#include "executor_home.h"
#include "model.h"
}
#include "kit.cuh"

using kit::Ok;

static void Must(bool good) {
  if (good) return;
  printf("Bail out! CUDA: %s\n", cudaGetErrorString(cudaGetLastError()));
  exit(1);
}

static pkvrt_model TinyModel() {
  pkvrt_model m = {};
  m.nr_layers = 3;
  m.dim = 128;
  m.nr_q_heads = 4;
  m.nr_kv_heads = 2;
  m.head_dim = 64;
  m.ffn_dim = 192;
  m.vocab = 1000;
  m.max_tokens = 512;
  m.rope_theta = 10000;
  m.norm_eps = 1e-5f;
  return m;
}

struct Executor {
  pkvrt_model model = TinyModel();
  uint32_t page_tokens, nr_slots;
  uint64_t page_bytes;
  void* arena;
  pkvrt_executor* ex;

  Executor(uint32_t tokens, uint32_t slots) : page_tokens(tokens), nr_slots(slots) {
    pkv_kv_layout layout;
    Must(!pkv_kv_layout_init(&layout, PKV_BF16, model.nr_layers, model.nr_kv_heads, model.head_dim,
                             page_tokens));
    page_bytes = layout.page_stride_bytes;
    Must(cudaMalloc(&arena, page_bytes * nr_slots) == cudaSuccess);
    // NaN wherever nobody has written
    Must(cudaMemset(arena, 0xff, page_bytes * nr_slots) == cudaSuccess);
    pkvrt_executor_params p = {};
    p.model = model;
    p.seed = 7;
    p.kv_dtype = PKV_BF16;
    p.page_tokens = page_tokens;
    p.nr_slots = nr_slots;
    p.arena = arena;
    Must(pkvrt_executor_gpu_create(&ex, &p) == 0);
  }
  ~Executor() {
    ex->ops->destroy(ex);
    cudaFree(arena);
  }
  int Step(std::vector<pkvrt_chunk>* chunks) {
    return ex->ops->step(ex, chunks->data(), static_cast<unsigned>(chunks->size()));
  }
  std::vector<float> Logits(unsigned i) {
    const float* l = ex->ops->logits(ex, i);
    Must(l != nullptr);
    return std::vector<float>(l, l + model.vocab);
  }
};

static std::vector<uint32_t> RandomTokens(uint32_t nr, uint32_t vocab) {
  std::vector<uint32_t> v(nr);
  for (uint32_t& t : v) t = random_in(0, vocab - 1);
  return v;
}

// ---- a plain model in float, with the same weights

static void Product(const float* x, const float* w, uint32_t nr_in, uint32_t nr_out, float* y) {
  for (uint32_t o = 0; o < nr_out; o++) y[o] = 0;
  for (uint32_t i = 0; i < nr_in; i++)
    for (uint32_t o = 0; o < nr_out; o++) y[o] += x[i] * w[uint64_t{i} * nr_out + o];
}

// The logits after the last token.
static std::vector<float> PlainModel(const pkvrt_model& m, const std::vector<uint32_t>& tokens) {
  pkvrt_weights w;
  Must(pkvrt_weights_create(&w, &m, 7) == 0);
  uint32_t q_dim = m.nr_q_heads * m.head_dim, qkv_dim = pkvrt_qkv_dim(&m);
  size_t n = tokens.size();
  std::vector<float> x(n * m.dim), normed(m.dim), qkv(n * qkv_dim), out(q_dim), y(m.dim),
      gate(2 * m.ffn_dim), inner(m.ffn_dim), logits(m.vocab);
  for (size_t t = 0; t < n; t++)
    std::copy_n(w.embedding + uint64_t{tokens[t]} * m.dim, m.dim, &x[t * m.dim]);
  for (uint32_t layer = 0; layer < m.nr_layers; layer++) {
    const pkvrt_layer& l = w.layers[layer];
    for (size_t t = 0; t < n; t++) {
      pkvrt_rms_norm(normed.data(), &x[t * m.dim], l.attention_norm, m.dim, m.norm_eps);
      Product(normed.data(), l.qkv, m.dim, qkv_dim, &qkv[t * qkv_dim]);
      pkvrt_rotate(&qkv[t * qkv_dim], w.rotation + t * m.head_dim, m.nr_q_heads + m.nr_kv_heads,
                   m.head_dim);
    }
    for (size_t t = 0; t < n; t++) {
      for (uint32_t h = 0; h < m.nr_q_heads; h++) {
        uint32_t kv = h / (m.nr_q_heads / m.nr_kv_heads);
        const float* q = &qkv[t * qkv_dim + h * m.head_dim];
        std::vector<double> score(t + 1);
        double most = -INFINITY, sum = 0;
        for (size_t u = 0; u <= t; u++) {
          const float* k = &qkv[u * qkv_dim + q_dim + kv * m.head_dim];
          double s = 0;
          for (uint32_t d = 0; d < m.head_dim; d++) s += static_cast<double>(q[d] * k[d]);
          score[u] = s / sqrt(static_cast<double>(m.head_dim));
          most = std::max(most, score[u]);
        }
        for (double& s : score) sum += s = exp(s - most);
        for (uint32_t d = 0; d < m.head_dim; d++) {
          double o = 0;
          for (size_t u = 0; u <= t; u++)
            o += score[u] / sum *
                 static_cast<double>(
                     qkv[u * qkv_dim + q_dim + (m.nr_kv_heads + kv) * m.head_dim + d]);
          out[h * m.head_dim + d] = static_cast<float>(o);
        }
      }
      float* row = &x[t * m.dim];
      Product(out.data(), l.out, q_dim, m.dim, y.data());
      for (uint32_t i = 0; i < m.dim; i++) row[i] += y[i];
      pkvrt_rms_norm(normed.data(), row, l.ffn_norm, m.dim, m.norm_eps);
      Product(normed.data(), l.gate_up, m.dim, 2 * m.ffn_dim, gate.data());
      pkvrt_swiglu(inner.data(), gate.data(), gate.data() + m.ffn_dim, m.ffn_dim);
      Product(inner.data(), l.down, m.ffn_dim, m.dim, y.data());
      for (uint32_t i = 0; i < m.dim; i++) row[i] += y[i];
    }
  }
  pkvrt_rms_norm(normed.data(), &x[(n - 1) * m.dim], w.norm, m.dim, m.norm_eps);
  Product(normed.data(), w.head, m.dim, m.vocab, logits.data());
  pkvrt_weights_destroy(&w);
  return logits;
}

static pkvrt_chunk Chunk(const std::vector<uint32_t>& tokens, uint32_t start, uint32_t nr,
                         const std::vector<uint32_t>& slots, pkvrt_draw* draw) {
  pkvrt_chunk c = {};
  c.tokens = tokens.data() + start;
  c.nr_tokens = nr;
  c.start = start;
  c.slots = slots.data();
  c.nr_slots = static_cast<uint32_t>(slots.size());
  c.nr_draws = draw != nullptr;
  c.draws = draw;
  return c;
}

static pkvrt_draw Greedy() {
  pkvrt_draw d = {};
  d.kind = PKVRT_GREEDY;
  return d;
}

static void TestAgainstPlain() {
  Executor e(16, 64);
  for (uint32_t nr : {1u, 15u, 16u, 77u}) {
    std::vector<uint32_t> tokens = RandomTokens(nr, e.model.vocab), slots;
    for (uint32_t i = 0; i < (nr + 15) / 16; i++) slots.push_back(63 - 2 * i);
    pkvrt_draw d = Greedy();
    std::vector<pkvrt_chunk> step = {Chunk(tokens, 0, nr, slots, &d)};
    Must(e.Step(&step) == 0);
    std::vector<float> got = e.Logits(0);
    double error = kit::RelativeError(got, PlainModel(e.model, tokens));
    Ok(error < 0.03, "%u tokens are near a plain float model: %.4f", nr, error);
    size_t best = static_cast<size_t>(std::max_element(got.begin(), got.end()) - got.begin());
    double sum = 0;
    for (float x : got) sum += exp(static_cast<double>(x - got[best]));
    Ok(d.out.token == best && fabs(static_cast<double>(d.out.logprob) + log(sum)) < 1e-3,
       "the greedy token is the best of its logits, with its probability");
  }
}

// ---- the same bits

struct Sequence {
  std::vector<uint32_t> tokens, slots;
  uint32_t row, done = 0, same = 0;
  std::map<uint32_t, std::vector<float>> want;  // logits after so many tokens
};

// Each alone, its prompt in one chunk and the rest by one, on pages in order.
static void RunAlone(uint32_t page_tokens, Sequence* s, uint32_t prompt) {
  Executor e(page_tokens, 512 / page_tokens);
  std::vector<uint32_t> slots;
  for (uint32_t i = 0; i < e.nr_slots; i++) slots.push_back(i);
  uint32_t at = 0;
  while (at < s->tokens.size()) {
    uint32_t nr = at ? 1 : prompt;
    pkvrt_draw d = Greedy();
    std::vector<pkvrt_chunk> step = {Chunk(s->tokens, at, nr, slots, &d)};
    Must(e.Step(&step) == 0);
    at += nr;
    s->want[at] = e.Logits(0);
  }
}

static void TestSameBits(uint32_t page_tokens, uint32_t nr_seqs) {
  uint32_t per_seq = (300 + page_tokens - 1) / page_tokens;
  Executor e(page_tokens, nr_seqs * per_seq + 10);
  std::vector<uint32_t> free_slots;
  std::vector<Sequence> seqs(nr_seqs);
  uint32_t steps = 0, compared = 0, wrong = 0;

  for (uint32_t i = 0; i < e.nr_slots; i++) free_slots.push_back(i);
  for (size_t i = free_slots.size(); i > 1; i--)
    std::swap(free_slots[i - 1], free_slots[random_in(0, static_cast<uint32_t>(i) - 1)]);
  for (uint32_t i = 0; i < nr_seqs; i++) {
    uint32_t prompt = random_in(1, 200);
    seqs[i].tokens = RandomTokens(prompt + random_in(1, 60), e.model.vocab);
    seqs[i].row = i * 37 % 101;
    RunAlone(page_tokens, &seqs[i], prompt);
  }
  for (bool more = true; more; steps++) {
    std::vector<pkvrt_chunk> step;
    std::vector<pkvrt_draw> draws(nr_seqs, Greedy());
    std::vector<Sequence*> who;
    more = false;
    for (Sequence& s : seqs) {
      uint32_t left = static_cast<uint32_t>(s.tokens.size()) - s.done;
      more |= left > 0;
      if (!left || random_in(0, 3) == 0) continue;
      uint32_t nr = random_in(0, 1) ? 1 : random_in(1, std::min(left, 90u));
      while (s.slots.size() * page_tokens < s.done + nr) {
        s.slots.push_back(free_slots.back());
        free_slots.pop_back();
      }
      step.push_back(Chunk(s.tokens, s.done, nr, s.slots, &draws[who.size()]));
      step.back().table_row = s.row;
      step.back().nr_same = s.same;
      who.push_back(&s);
    }
    if (step.empty()) continue;
    Must(e.Step(&step) == 0);
    for (unsigned i = 0; i < who.size(); i++) {
      Sequence* s = who[i];
      s->done += step[i].nr_tokens;
      s->same = static_cast<uint32_t>(s->slots.size());
      auto want = s->want.find(s->done);
      if (want == s->want.end()) continue;
      compared++;
      wrong += want->second != e.Logits(i);
    }
    // A page is copied elsewhere, and the table follows, as after copy-on-write.
    Sequence& s = seqs[random_in(0, nr_seqs - 1)];
    if (!s.slots.empty()) {
      uint32_t at = random_in(0, static_cast<uint32_t>(s.slots.size()) - 1);
      struct pkv_page_copy copy = {s.slots[at], free_slots.back()};
      Must(e.ex->ops->copy_pages(e.ex, &copy, 1) == 0);
      free_slots.insert(free_slots.begin(), s.slots[at]);
      s.slots[at] = copy.dst;
      free_slots.pop_back();
      s.same = std::min(s.same, at);
    }
  }
  Ok(compared > nr_seqs && !wrong,
     "pages of %u, %u sequences in %u mixed steps: %u of %u logits differ from those alone",
     page_tokens, nr_seqs, steps, wrong, compared);
}

static void TestDraws() {
  Executor e(16, 16);
  std::vector<uint32_t> tokens = RandomTokens(20, e.model.vocab), slots = {3, 5};
  std::vector<pkvrt_draw> draws(6);
  pkvrt_candidate top[5];
  for (uint32_t i = 0; i < 4; i++) {
    draws[i].kind = PKVRT_SAMPLE;
    draws[i].seed = i / 2;
    draws[i].temperature = 1;
    draws[i].top_p = 1;
  }
  draws[4] = Greedy();
  draws[5].kind = PKVRT_TOP;
  draws[5].nr_top = 5;
  draws[5].top = top;
  pkvrt_chunk c = Chunk(tokens, 0, 20, slots, draws.data());
  c.nr_draws = 6;
  std::vector<pkvrt_chunk> step = {c};
  Must(e.Step(&step) == 0);
  std::vector<float> l = e.Logits(0);
  std::vector<uint32_t> order(l.size());
  for (uint32_t i = 0; i < order.size(); i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return l[a] > l[b]; });
  Ok(draws[0].out.token == draws[1].out.token && draws[2].out.token == draws[3].out.token,
     "samples of one seed are one token");
  Ok(draws[4].out.token == order[0], "greedy beside them");
  bool good = true;
  for (int i = 0; i < 5; i++) good &= top[i].token == order[static_cast<size_t>(i)];
  Ok(good, "the best five are in order");
  Ok(e.ex->ops->logits(e.ex, 1) == nullptr, "one chunk has drawn");
}

static void TestRefusals() {
  Executor e(16, 16);
  std::vector<uint32_t> tokens = RandomTokens(40, e.model.vocab), slots = {0, 1, 2},
                        past = {0, 16, 2};
  std::vector<pkvrt_chunk> step = {Chunk(tokens, 0, 40, past, nullptr)};
  Ok(e.Step(&step) == -EINVAL, "a slot past the arena is refused");
  step = {Chunk(tokens, 0, 40, slots, nullptr)};
  step[0].nr_same = 4;
  Ok(e.Step(&step) == -EINVAL, "more entries that are the same than there are");
  step[0].nr_same = 3;
  Ok(e.Step(&step) == 0, "entries that the device never had are sent all the same");
  step.push_back(step[0]);
  Ok(e.Step(&step) == -EINVAL, "two sequences with one number are refused");
  step = {Chunk(tokens, 0, 40, slots, nullptr)};
  std::vector<uint32_t> bad = tokens;
  bad[7] = e.model.vocab;
  step[0].tokens = bad.data();
  Ok(e.Step(&step) == -EINVAL, "a token past the vocabulary is refused");
  step.clear();
  Ok(e.Step(&step) == 0, "no chunks are fine");
  struct pkv_page_copy copy = {0, 16};
  Ok(e.ex->ops->copy_pages(e.ex, &copy, 1) == -EINVAL, "a copy past the arena is refused");
  pkvrt_executor_params p = {};
  pkvrt_executor* ex;
  p.model = e.model;
  p.kv_dtype = PKV_F32;
  p.page_tokens = 16;
  p.nr_slots = 16;
  p.arena = e.arena;
  Ok(pkvrt_executor_gpu_create(&ex, &p) == -EOPNOTSUPP, "f32 keys and values are refused");
}

int main() {
  kit::Start();
  TestAgainstPlain();
  TestSameBits(16, 5);
  TestSameBits(1, 3);
  TestSameBits(32, kit::Small() ? 4 : 24);
  TestDraws();
  TestRefusals();
  return kit::Done();
}

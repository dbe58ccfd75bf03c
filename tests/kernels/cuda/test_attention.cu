// SPDX-License-Identifier: GPL-2.0-only
// Attention as a server calls it: one workspace for steps that are decoded, prefilled and mixed in
// turn, each against the reference; in the invariant mode a sequence has the same bits in any
// company.
#include <pagedkv/pkv_cuda.h>

#include <algorithm>
#include <memory>

#include "kit.cuh"
#include "layouts.cuh"
#include "reference.cuh"

using Bf16 = __nv_bfloat16;

constexpr uint32_t kHeads = 2, kGroup = 4, kDim = 128, kPage = 16;
constexpr uint32_t kRow = kHeads * kGroup * kDim;

// K and V of every token of one sequence, and room for its pages in an arena of their own.
struct Step {
  std::vector<uint32_t> starts{0}, context, table;
  uint32_t most_queries = 0, most_context = 0, row_slots, shared;

  // Sequences of so many query tokens, on contexts of up to `longest` more, the first `whole` pages
  // of which all share.
  Step(const std::vector<uint32_t>& queries, uint32_t longest, uint32_t whole = 0)
      : shared(whole * kPage) {
    for (uint32_t nr : queries) {
      starts.push_back(starts.back() + nr);
      context.push_back(nr + random_in(shared, longest));
      most_queries = std::max(most_queries, nr);
      most_context = std::max(most_context, context.back());
    }
    row_slots = most_context / kPage + 1;
    table.resize(queries.size() * row_slots);
    for (uint32_t i = 0; i < table.size(); i++) table[i] = i;
    random_shuffle(table.data(), static_cast<uint32_t>(table.size()));
    for (uint32_t i = row_slots; i < table.size(); i++) {
      if (i % row_slots < whole) table[i] = table[i % row_slots];
    }
  }
};

class Server {
 public:
  explicit Server(uint32_t nr_slots)
      : nr_slots_(nr_slots),
        layout_(Arranged(kPageMajor, PKV_BF16, 1, kHeads, kDim, kPage, nr_slots)),
        arena_(ArenaBytes(layout_, nr_slots) / 2) {
    kit::FillNormal(arena_);
  }

  // out and lse are of the step's tokens. Returns the call's error.
  int Run(const Step& step, const Bf16* q, uint32_t flags, Bf16* out, float* lse, float* ref,
          float* ref_lse) {
    kit::Buffer<uint32_t> starts(step.starts), context(step.context), table(step.table);
    struct pkv_cuda_attention a = {};
    a.size = sizeof(a);
    a.flags = flags;
    a.layout = &layout_;
    a.base = arena_.data();
    a.nr_slots = nr_slots_;
    a.nr_q_heads = kHeads * kGroup;
    a.nr_seqs = static_cast<uint32_t>(step.context.size());
    a.nr_tokens = step.starts.back();
    a.max_query_tokens = step.most_queries;
    a.max_context_tokens = step.most_context;
    a.q_dtype = PKV_BF16;
    a.scale = 0.088388f;
    a.shared_tokens = step.shared;
    a.query_start = starts.data();
    a.context_tokens = context.data();
    a.table = table.data();
    a.table_row_slots = step.row_slots;
    a.q = q;
    a.q_row_elements = kRow;
    a.out = out;
    a.lse = lse;
    a.workspace_bytes = pkv_cuda_attention_workspace(&a);
    // a larger one where a step needs it, zeroed as a new one must be
    if (!workspace_ || workspace_->bytes() < a.workspace_bytes) {
      workspace_ = std::make_unique<kit::Buffer<char>>(a.workspace_bytes);
      workspace_->Zero();
    }
    a.workspace = workspace_->data();
    int err = pkv_cuda_attention(&a);
    CUDA_MUST(cudaDeviceSynchronize());
    if (ref) CUDA_MUST(pagedkv::Reference(a, ref, ref_lse));
    CUDA_MUST(cudaDeviceSynchronize());
    return workspace_->Guarded() ? err : -EFAULT;
  }

 private:
  uint32_t nr_slots_;
  struct pkv_kv_layout layout_;
  kit::Buffer<Bf16> arena_;
  std::unique_ptr<kit::Buffer<char>> workspace_;
};

static void TestStep(Server* server, const char* name, const Step& step, uint32_t flags) {
  uint32_t nr = step.starts.back();
  kit::Buffer<Bf16> q(size_t{nr} * kRow), out(size_t{nr} * kRow);
  kit::Buffer<float> lse(nr * kHeads * kGroup), ref(size_t{nr} * kRow),
      ref_lse(nr * kHeads * kGroup);
  kit::FillNormal(q);
  int err = server->Run(step, q.data(), flags, out.data(), lse.data(), ref.data(), ref_lse.data());
  double error = kit::RelativeError(out.Get(), ref.Get());
  double lse_error = kit::LargestError(lse.Get(), ref_lse.Get());
  if (err) printf("# the call returned %d\n", err);
  kit::Ok(!err && error < 1e-2 && lse_error < 2e-2 && out.Guarded() && lse.Guarded(),
          "%s, %u query tokens, flags %u: %s, error %.1e, of the log-sum-exp %.1e", name, nr, flags,
          strerror(-err), error, lse_error);
}

// The last sequence of a step, then alone, then its query tokens one step after the other.
static void TestInvariant(Server* server) {
  Step step({1, 5, 40, 12}, 300);
  uint32_t nr = step.starts.back(), mine = 12, first = nr - mine;
  kit::Buffer<Bf16> q(size_t{nr} * kRow), out(size_t{nr} * kRow), alone(size_t{mine} * kRow);
  kit::FillNormal(q);
  int err = server->Run(step, q.data(), PKV_CUDA_INVARIANT, out.data(), nullptr, nullptr, nullptr);
  std::vector<Bf16> all = out.Get(), want(all.begin() + size_t{first} * kRow, all.end());
  Step one = step;
  one.starts = {0, mine};
  one.context = {step.context.back()};
  one.table.assign(step.table.end() - step.row_slots, step.table.end());
  const Bf16* my_q = q.data() + size_t{first} * kRow;
  err |= server->Run(one, my_q, PKV_CUDA_INVARIANT, alone.data(), nullptr, nullptr, nullptr);
  std::vector<Bf16> got = alone.Get();
  bool same = !memcmp(got.data(), want.data(), got.size() * sizeof(Bf16));
  alone.Poison();
  for (uint32_t t = 0; t < mine; t++) {
    one.starts = {0, 1};
    one.context = {step.context.back() - mine + t + 1};
    one.most_queries = 1;
    err |= server->Run(one, my_q + size_t{t} * kRow, PKV_CUDA_INVARIANT,
                       alone.data() + size_t{t} * kRow, nullptr, nullptr, nullptr);
  }
  got = alone.Get();
  kit::Ok(!err && same && !memcmp(got.data(), want.data(), got.size() * sizeof(Bf16)),
          "a sequence has the same bits in a batch, alone and token by token");
}

int main() {
  kit::Start();
  uint32_t longest = kit::Small() ? 100 : 3000, nr = kit::Small() ? 3 : 40;
  Server server(nr * (longest / kPage + 30) + 200);
  std::vector<uint32_t> decode(nr, 1), mixed(nr);
  for (uint32_t& m : mixed) m = random_in(0, 4) == 0 ? random_in(9, 200) : random_in(0, 3);
  mixed[0] = 100;
  for (int turn = 0; turn < (kit::Small() ? 1 : 3); turn++) {
    for (uint32_t flags : {0u, PKV_CUDA_INVARIANT}) {
      TestStep(&server, "decode", Step(decode, longest), flags);
      TestStep(&server, "prefill", Step({150, 64}, longest), flags);
      TestStep(&server, "mixed", Step(mixed, longest), flags);
      TestStep(&server, "one token", Step({1}, 0), flags);
      TestStep(&server, "cascade", Step(decode, longest, longest / kPage / 2), flags);
      TestStep(&server, "cascade, mixed", Step(mixed, longest, longest / kPage / 2), flags);
    }
  }
  TestInvariant(&server);
  return kit::Done();
}

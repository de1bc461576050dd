#include "gap_certificate.cuh"

#include "block_sums.cuh"
#include "gap_term.hpp"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "shared_array.cuh"
#include "working_set_places.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kCertificateThreads = block_threads(256);  // untuned: no GPU has run this yet
constexpr int kBisections = 60;                               // [0, 1] to the last bit of a double

// Calls visit(term) for this thread's share of the features that may contribute.
template <class Visit>
__device__ void for_each_term(const WorkingSetState& state, const ProblemView& problem, Index slot,
                              double lambda, const double* a, const double* e, Visit visit) {
  const double* coef = state.coef + slot * state.capacity;
  const double* grad = state.grad_projected + slot * state.capacity;
  for (int k = static_cast<int>(threadIdx.x); k < state.n_working[slot];
       k += static_cast<int>(kCertificateThreads)) {
    if (a[k] == 0.0 && e[k] == 0.0) continue;
    visit(GapTerm{a[k], e[k], coef[k], grad[k]});
  }
  for (Index word = threadIdx.x; word < state.n_words; word += kCertificateThreads) {
    for (unsigned bits = state.mask[slot * state.n_words + word]; bits != 0; bits &= bits - 1) {
      const Index j = word * Index{kWarpSize} + __ffs(static_cast<int>(bits)) - 1;
      const double a_j = l1_term(problem, j, lambda);
      const double e_j = l2_term(problem, j, lambda);
      if (a_j == 0.0 && e_j == 0.0) continue;
      visit(GapTerm{a_j, e_j, 0.0, state.exact[slot * state.p + j]});
    }
  }
}

__device__ GapAt gap_at(const WorkingSetState& state, const ProblemView& problem, Index slot,
                        double lambda, const double* a, const double* e, double s,
                        double* scratch) {
  GapAt sum;
  for_each_term(state, problem, slot, lambda, a, e,
                [&](const GapTerm& term) { add_term(term, s, sum); });
  sum.value = block_sum(sum.value, scratch);
  sum.slope = block_sum(sum.slope, scratch);
  const SlotSums& sums = state.sums[slot];
  sum.value += sums.half_r_minus_q + (1.0 - s) * (1.0 - s) * sums.half_q;
  sum.slope -= 2.0 * (1.0 - s) * sums.half_q;
  return sum;
}

// Appends the features of the mask that lie beyond rounding, ascending, or only counts them.
__device__ int walk_violators(const WorkingSetState& state, const ProblemView& problem, Index slot,
                              double lambda, bool append, int* counts) {
  const double noise = product_noise(state.n, state.sums[slot].z_norm);
  const int n_working = state.n_working[slot];
  int found = 0;
  for (Index first = 0; first < state.n_words; first += kCertificateThreads / kWarpSize) {
    // A warp looks at one word, a lane at one bit.
    const Index word = first + threadIdx.x / kWarpSize;
    const Index j = word * Index{kWarpSize} + threadIdx.x % kWarpSize;
    bool violates = false;
    if (j < state.p &&
        (state.mask[slot * state.n_words + word] >> (threadIdx.x % kWarpSize) & 1u)) {
      const double a = l1_term(problem, j, lambda);
      const double size = fabs(state.exact[slot * state.p + j]);
      violates = size > a + noise * state.norm[j] &&
                 !(a == 0.0 && l2_term(problem, j, lambda) == 0.0) &&
                 state.in_working[slot * state.p + j] == 0;
    }
    const Ranked place = rank_flags(violates, counts);
    const Index k = Index{n_working} + found + place.before;
    if (append && violates && k < state.capacity) put_feature(state, slot, static_cast<int>(k), j);
    found += place.count;
  }
  Index all = Index{n_working} + found;
  if (all > state.capacity) all = state.capacity;
  __syncthreads();
  if (append && threadIdx.x == 0) state.n_working[slot] = static_cast<int>(all);
  __syncthreads();
  return append ? static_cast<int>(all - n_working) : found;
}

// One block per position.
__global__ void __launch_bounds__(kCertificateThreads)
    certify_gap_kernel(WorkingSetState state, const RoundSlot* round, Index count) {
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  THRESHER_SHARED_ARRAY(int, counts, kMostWarps);
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const Index slot = round[position].slot;
    const double lambda = round[position].lambda;
    const ProblemView& problem = state.problem[slot];
    const int* feature = state.feature + slot * state.capacity;
    const double* coef = state.coef + slot * state.capacity;
    double* a = state.scratch + slot * state.scratch_size;
    double* e = a + state.capacity;
    int nonzero = 0;
    for (int k = static_cast<int>(threadIdx.x); k < state.n_working[slot];
         k += static_cast<int>(kCertificateThreads)) {
      a[k] = l1_term(problem, feature[k], lambda);
      e[k] = l2_term(problem, feature[k], lambda);
      if (coef[k] != 0.0) ++nonzero;
    }
    nonzero = block_sum(nonzero, counts);
    if (threadIdx.x == 0) {
      SlotReport& report = state.report[position];
      report.gap = 0.0;
      report.loss = state.sums[slot].loss;
      report.held_out = state.sums[slot].held_out;
      report.n_violators = 0;
      report.n_nonzero = nonzero;
    }
    if (lambda == 0.0) continue;  // the engine certifies these

    // -s1, so that a maximum finds it.
    double bound = -1.0;
    for_each_term(state, problem, slot, lambda, a, e, [&](const GapTerm& t) {
      if (t.e == 0.0 && fabs(t.g) > t.a) bound = larger(bound, -t.a / fabs(t.g));
    });
    const double s1 = -block_max(bound, scratch);
    const GapAt end = gap_at(state, problem, slot, lambda, a, e, s1, scratch);
    double gap = end.value;
    if (end.slope > 0.0) {
      double low = 0.0, high = s1;
      for (int step = 0; step < kBisections; ++step) {
        const double middle = 0.5 * (low + high);
        if (gap_at(state, problem, slot, lambda, a, e, middle, scratch).slope > 0.0) {
          high = middle;
        } else {
          low = middle;
        }
      }
      const double inside = gap_at(state, problem, slot, lambda, a, e, low, scratch).value;
      if (inside < gap) gap = inside;
    }

    int violators = walk_violators(state, problem, slot, lambda, /*append=*/false, counts);
    bool no_room = false;  // all of the working set is active
    if (violators > 0) {
      if (state.gram != nullptr && Index{state.n_working[slot]} + violators > state.capacity) {
        // The lists a and e are gone after this, and no longer needed.
        keep_active_only(state, slot);
      }
      violators = walk_violators(state, problem, slot, lambda, /*append=*/true, counts);
      no_room = violators == 0;
    }
    if (threadIdx.x == 0) {
      SlotReport& report = state.report[position];
      report.gap = gap / problem.null_loss;
      report.n_violators = violators;
      if (no_room) report.exact = 0;
    }
  }
}

}  // namespace

void certify_gap(const WorkingSetState& state, const RoundSlot* round, Index count,
                 cudaStream_t stream) {
  launch("certify_gap_kernel", certify_gap_kernel, {dim3(grid_x(count)), kCertificateThreads},
         stream, state, round, count);
}

}  // namespace thresher::cuda

#include "working_set_choice.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "shared_array.cuh"
#include "working_set_places.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kChoiceThreads = block_threads(256);  // untuned: no GPU has run this yet
// As in host/backend/residual_backend.cpp for small supports: 20 + 0.1 |support| features beside
// the strong ones, only those within half of the next threshold, and a floor under the cap of the
// working set.
constexpr double kBudget = 20.0;
constexpr double kBudgetShare = 0.1;
constexpr double kBudgetFloor = 0.5;
constexpr Index kWorkingSetFloor = 300;

constexpr int kDigits = 256;
constexpr unsigned kDigitBits = 8;

/// What is asked of feature j.
struct Ask {
  bool always;        // no L1 term, or lambda = 0
  unsigned strength;  // bits of the float |c_j| / (l1_ratio u_j): they order like the numbers
};

template <class T>
__device__ Ask ask_of(const WorkingSetState& state, const ProblemView& problem, Index j, const T* c,
                      bool everything) {
  if (j >= state.p || problem.factors.excluded[j] != 0) return {false, 0u};
  const double u = problem.l1_ratio * problem.factors.l1[j];
  if (everything || u == 0.0) return {true, 0u};
  const float strength = static_cast<float>(fabs(static_cast<double>(c[j])) / u);
  // A NaN asks for nothing here; the certificate will show it.
  return {false, strength > 0.0f ? __float_as_uint(strength) : 0u};
}

/// Which features are chosen: those above `least`, and the first `ties` of those equal to it.
struct Cut {
  unsigned least;
  int ties;
};

// Appends the chosen features, or only counts them, in ascending order. Returns the number of those
// that are not yet in the working set.
template <class T>
__device__ int walk_chosen(const WorkingSetState& state, const ProblemView& problem, Index slot,
                           const T* c, bool everything, const Cut& cut, bool append, int* counts) {
  int n_working = state.n_working[slot];
  int ties = 0, found = 0;
  for (Index first = 0; first < state.p; first += kChoiceThreads) {
    const Index j = first + threadIdx.x;
    const Ask ask = ask_of(state, problem, j, c, everything);
    const bool tied = !ask.always && ask.strength != 0u && ask.strength == cut.least;
    const Ranked tie = rank_flags(tied, counts);
    bool chosen = ask.always || ask.strength > cut.least;
    if (tied && ties + tie.before < cut.ties) chosen = true;
    ties += tie.count;
    const bool fresh = chosen && state.in_working[slot * state.p + j] == 0;
    const Ranked place = rank_flags(fresh, counts);
    const Index k = n_working + found + place.before;
    if (append && fresh && k < state.capacity) {
      put_feature(state, slot, static_cast<int>(k), j);
    }
    found += place.count;
  }
  if (append && threadIdx.x == 0) {
    const Index all = Index{n_working} + found;
    state.n_working[slot] = static_cast<int>(all < state.capacity ? all : state.capacity);
  }
  __syncthreads();
  return found;
}

// The `wanted`-th largest strength that is at least `floor`, digit by digit from the top.
template <class T>
__device__ Cut select_cut(const WorkingSetState& state, const ProblemView& problem, const T* c,
                          unsigned floor, Index wanted, int* histogram, int* picked) {
  unsigned prefix = 0;
  int remaining = static_cast<int>(wanted);
  for (unsigned shift = 32 - kDigitBits;; shift -= kDigitBits) {
    for (int d = static_cast<int>(threadIdx.x); d < kDigits;
         d += static_cast<int>(kChoiceThreads)) {
      histogram[d] = 0;
    }
    __syncthreads();
    for (Index j = threadIdx.x; j < state.p; j += kChoiceThreads) {
      const Ask ask = ask_of(state, problem, j, c, false);
      if (ask.always || ask.strength == 0u || ask.strength < floor) continue;
      if (shift + kDigitBits < 32 && (ask.strength >> (shift + kDigitBits)) != prefix) continue;
      atomicAdd(&histogram[(ask.strength >> shift) % kDigits], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int left = remaining, digit = kDigits - 1;
      while (digit > 0 && histogram[digit] < left) left -= histogram[digit--];
      picked[0] = digit;
      picked[1] = left;
    }
    __syncthreads();
    prefix = prefix << kDigitBits | static_cast<unsigned>(picked[0]);
    remaining = picked[1];
    __syncthreads();
    if (shift == 0) return {prefix, remaining};
  }
}

// One block per position.
template <class T>
__global__ void __launch_bounds__(kChoiceThreads)
    choose_working_set_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                              Correlations<T> correlations) {
  THRESHER_SHARED_ARRAY(int, histogram, kDigits);
  THRESHER_SHARED_ARRAY(int, counts, kMostWarps);
  THRESHER_SHARED_ARRAY(float, scratch, kMostWarps);
  THRESHER_SHARED_ARRAY(int, picked, 2);
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const RoundSlot& now = round[position];
    const ProblemView& problem = state.problem[now.slot];
    const SlotSums& sums = state.sums[now.slot];
    const T* c = correlations.values + sums.column * state.p;
    const int exponent = sums.z_exponent + problem.y_exponent;
    const bool everything = now.lambda == 0.0;
    Cut cut{0xffffffffu, 0};
    if (!everything) {
      double lambda_now = now.lambda_now;
      if (isnan(lambda_now)) {
        float largest = 0.0f;
        for (Index j = threadIdx.x; j < state.p; j += kChoiceThreads) {
          largest = larger(largest, __uint_as_float(ask_of(state, problem, j, c, false).strength));
        }
        lambda_now = ldexp(static_cast<double>(block_max(largest, scratch)), exponent);
      }
      const double unit = ldexp(1.0, -exponent);
      const double above = 2.0 * now.lambda - lambda_now;
      const double strong = unit * (above > 0.0 ? above : 0.0);
      const double half = unit * now.lambda * kBudgetFloor;
      const unsigned strong_bits = __float_as_uint(static_cast<float>(strong));
      const unsigned floor = __float_as_uint(static_cast<float>(strong < half ? strong : half));
      int n_near = 0, n_strong = 0;
      for (Index j = threadIdx.x; j < state.p; j += kChoiceThreads) {
        const unsigned strength = ask_of(state, problem, j, c, false).strength;
        if (strength == 0u || strength < floor) continue;
        ++n_near;
        if (strength >= strong_bits) ++n_strong;
      }
      n_near = block_sum(n_near, counts);
      n_strong = block_sum(n_strong, counts);
      const double budget = kBudget + kBudgetShare * static_cast<double>(now.n_support);
      Index wanted = n_strong + static_cast<Index>(budget);
      const Index cap = 2 * now.n_support > kWorkingSetFloor ? 2 * now.n_support : kWorkingSetFloor;
      if (wanted > cap) wanted = cap;
      if (wanted >= n_near) {
        cut = {floor > 0u ? floor - 1u : 0u, 0};
      } else {
        cut = select_cut(state, problem, c, floor, wanted, histogram, picked);
      }
    }
    const int fresh =
        walk_chosen(state, problem, now.slot, c, everything, cut, /*append=*/false, counts);
    if (Index{state.n_working[now.slot]} + fresh > state.capacity) {
      // Everything that is not active goes to make room.
      keep_active_only(state, now.slot);
    }
    walk_chosen(state, problem, now.slot, c, everything, cut, /*append=*/true, counts);
  }
}

}  // namespace

template <class T>
void choose_working_set(const WorkingSetState& state, const RoundSlot* round, Index count,
                        const Correlations<T>& correlations, cudaStream_t stream) {
  launch("choose_working_set_kernel", choose_working_set_kernel<T>,
         {dim3(grid_x(count)), kChoiceThreads}, stream, state, round, count, correlations);
}

template void choose_working_set(const WorkingSetState&, const RoundSlot*, Index,
                                 const Correlations<float>&, cudaStream_t);
template void choose_working_set(const WorkingSetState&, const RoundSlot*, Index,
                                 const Correlations<double>&, cudaStream_t);

}  // namespace thresher::cuda

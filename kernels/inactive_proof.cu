#include "inactive_proof.cuh"

#include "block_sums.cuh"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "warp_products.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kProofThreads = block_threads(256);  // untuned: no GPU has run this yet
constexpr Index kFeaturesOfWarp = 256;                  // eight words of the mask

// Block (chunk, position): each warp takes 32 features at a time, one a lane; those that are left
// undecided are computed one by one by the whole warp.
template <class T>
__global__ void __launch_bounds__(kProofThreads)
    prove_inactive_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                          Correlations<T> correlations) {
  const unsigned lane = threadIdx.x % kWarpSize;
  const Index warp = blockIdx.x * Index{kProofThreads / kWarpSize} + threadIdx.x / kWarpSize;
  const Index n_warps = gridDim.x * Index{kProofThreads / kWarpSize};
  for (Index position = blockIdx.y; position < count; position += gridDim.y) {
    const Index slot = round[position].slot;
    const double lambda = round[position].lambda;
    const ProblemView& problem = state.problem[slot];
    const SlotSums& sums = state.sums[slot];
    const T* c_of_slot = correlations.values + round[position].column * state.p;
    const double unit = ldexp(1.0, sums.z_exponent);
    const double lost = sums.packed_error + correlations.sum_error * sums.packed_norm;
    const double* z = state.projected + slot * state.n;
    for (Index word = warp; word < state.n_words; word += n_warps) {
      const Index j = word * Index{kWarpSize} + lane;
      double a = 0.0, c = 0.0;
      bool undecided = false, above = false;
      if (j < state.p && state.in_working[slot * state.p + j] == 0 &&
          problem.factors.excluded[j] == 0) {
        a = l1_term(problem, j, lambda);
        c = fabs(static_cast<double>(c_of_slot[j])) * unit;
        // Written so that a NaN is neither proven nor lost.
        if (problem.rows.n_direct > 0 && direct_index(problem.rows, j) >= 0) {
          undecided = true;
        } else if (correlations.column_error != nullptr) {
          const double bound =
              c + correlations.column_error[j] * sums.z_norm + correlations.column_norm[j] * lost;
          undecided = !(bound <= a);
        } else if (!(c <= a)) {
          state.exact[slot * state.p + j] = static_cast<double>(c_of_slot[j]) * unit;
          above = true;
        }
      }
      for (unsigned todo = __ballot_sync(kAllLanes, undecided); todo != 0; todo &= todo - 1) {
        const unsigned owner = static_cast<unsigned>(__ffs(static_cast<int>(todo))) - 1;
        const Index feature = word * Index{kWarpSize} + owner;
        const ColumnView x = column_view(state, problem.rows, feature);
        const double g = warp_product(state.n, x.values, z);
        if (lane == owner && !(fabs(g) <= a)) {
          state.exact[slot * state.p + feature] = g;
          above = true;
        }
      }
      const unsigned bits = __ballot_sync(kAllLanes, above);
      if (lane == 0) state.mask[slot * state.n_words + word] = bits;
    }
  }
}

}  // namespace

template <class T>
void prove_inactive(const WorkingSetState& state, const RoundSlot* round, Index count,
                    const Correlations<T>& correlations, cudaStream_t stream) {
  const Index chunks = blocks_for(state.p, kFeaturesOfWarp * (kProofThreads / kWarpSize));
  launch("prove_inactive_kernel", prove_inactive_kernel<T>,
         {dim3(grid_x(chunks), grid_y(count)), kProofThreads}, stream, state, round, count,
         correlations);
}

template void prove_inactive(const WorkingSetState&, const RoundSlot*, Index,
                             const Correlations<float>&, cudaStream_t);
template void prove_inactive(const WorkingSetState&, const RoundSlot*, Index,
                             const Correlations<double>&, cudaStream_t);

}  // namespace thresher::cuda

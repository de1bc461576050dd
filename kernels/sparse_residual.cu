#include "sparse_residual.cuh"

#include "block_sums.cuh"
#include "half_columns.cuh"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "shared_array.cuh"

namespace thresher::cuda {
namespace {

constexpr unsigned kSparseThreads = block_threads(256);  // untuned: no GPU has run this yet

// r = response - y_mean - sum_j (x_j - mean_j) b_j. A thread owns rows tid, tid + kSparseThreads,
// ...; the non-zero coefficients are gathered kSparseThreads places of the working set at a time.
__device__ void subtract_fit(const WorkingSetState& state, const ProblemView& problem, Index slot,
                             double* r, const double** x, double* mean, double* b, int* counts) {
  const int n_working = state.n_working[slot];
  const int* feature = state.feature + slot * state.capacity;
  const double* coef = state.coef + slot * state.capacity;
  for (int first = 0; first < n_working; first += static_cast<int>(kSparseThreads)) {
    const int place = first + static_cast<int>(threadIdx.x);
    const double value = place < n_working ? coef[place] : 0.0;
    const Ranked found = rank_flags(value != 0.0, counts);
    if (value != 0.0) {
      const ColumnView view = column_view(state, problem.rows, feature[place]);
      x[found.before] = view.values;
      mean[found.before] = view.mean;
      b[found.before] = value;
    }
    __syncthreads();
    for (Index i = threadIdx.x; i < state.n; i += kSparseThreads) {
      double sum = r[i];
      for (int k = 0; k < found.count; ++k) sum -= (x[k][i] - mean[k]) * b[k];
      r[i] = sum;
    }
    __syncthreads();
  }
}

// One block per position. Rows belong to threads throughout: what a thread writes, it reads back.
__global__ void __launch_bounds__(kSparseThreads)
    sparse_residual_kernel(WorkingSetState state, const RoundSlot* round, Index count, __half* half,
                           Index half_rows, double* doubles) {
  THRESHER_SHARED_ARRAY(const double*, x, kSparseThreads);
  THRESHER_SHARED_ARRAY(double, mean, kSparseThreads);
  THRESHER_SHARED_ARRAY(double, b, kSparseThreads);
  THRESHER_SHARED_ARRAY(int, counts, kMostWarps);
  THRESHER_SHARED_ARRAY(double, scratch, kMostWarps);
  const Index n = state.n;
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const Index slot = round[position].slot;
    const Index column = round[position].column;
    const ProblemView& problem = state.problem[slot];
    const double* w = problem.rows.weight;
    const double* y = state.response + slot * n;
    const double* held = state.held_out_weight + slot * n;
    double* r = state.residual + slot * n;
    double* z = state.weighted + slot * n;
    double* zq = state.projected + slot * n;

    for (Index i = threadIdx.x; i < n; i += kSparseThreads) r[i] = y[i] - problem.y_mean;
    subtract_fit(state, problem, slot, r, x, mean, b, counts);
    if (problem.intercept) {
      double sum = 0.0;
      for (Index i = threadIdx.x; i < n; i += kSparseThreads) sum += w[i] * r[i];
      sum = block_sum(sum, scratch);
      for (Index i = threadIdx.x; i < n; i += kSparseThreads) r[i] -= sum;
    }
    // q in place of w o q until the sums are taken; without a basis q = r.
    for (Index i = threadIdx.x; i < n; i += kSparseThreads) {
      z[i] = w[i] * r[i];
      zq[i] = problem.rank > 0 && w[i] == 0.0 ? 0.0 : r[i];
    }
    for (int pass = 0; pass < (problem.rank > 0 ? 2 : 0); ++pass) {
      for (Index k = 0; k < problem.rank; ++k) {
        const double* q = problem.basis + k * n;
        double sum = 0.0;
        for (Index i = threadIdx.x; i < n; i += kSparseThreads) sum += w[i] * q[i] * zq[i];
        sum = block_sum(sum, scratch);
        for (Index i = threadIdx.x; i < n; i += kSparseThreads) zq[i] -= sum * q[i];
      }
    }

    double half_q = 0.0, half_rq = 0.0, loss = 0.0, held_out = 0.0, squares = 0.0, largest = 0.0;
    for (Index i = threadIdx.x; i < n; i += kSparseThreads) {
      const double q = zq[i];
      const double weighted = w[i] * q;
      half_q += 0.5 * weighted * q;
      const double away = r[i] - q;
      if (w[i] > 0.0) {
        half_rq += 0.5 * w[i] * away * away;
        loss += w[i] * r[i] * r[i];
      }
      if (held[i] > 0.0) held_out += held[i] * r[i] * r[i];
      squares += weighted * weighted;
      largest = larger(largest, fabs(weighted));
      zq[i] = weighted;
    }
    half_q = block_sum(half_q, scratch);
    half_rq = block_sum(half_rq, scratch);
    loss = block_sum(loss, scratch);
    held_out = block_sum(held_out, scratch);
    squares = block_sum(squares, scratch);
    largest = block_max(largest, scratch);

    int exponent = 0;
    if (half != nullptr && largest > 0.0 && isfinite(largest)) frexp(largest, &exponent);
    double kept = 0.0, lost = 0.0;
    if (half != nullptr) {
      for (Index i = threadIdx.x; i < half_rows; i += kSparseThreads) {
        const double scaled = i < n ? ldexp(zq[i], -exponent) : 0.0;
        const __half rounded = __float2half_rn(static_cast<float>(scaled));
        half[column * half_rows + i] = rounded;
        const double back = static_cast<double>(__half2float(rounded));
        kept += back * back;
        lost += (scaled - back) * (scaled - back);
      }
    } else {
      for (Index i = threadIdx.x; i < n; i += kSparseThreads) doubles[column * n + i] = zq[i];
    }
    kept = block_sum(kept, scratch);
    lost = block_sum(lost, scratch);
    if (threadIdx.x == 0) {
      const double unit = ldexp(1.0, exponent);
      state.sums[slot] = {half_q,
                          half_rq,
                          loss,
                          held_out,
                          norm_rounded_up(squares),
                          norm_rounded_up(kept) * unit,
                          norm_rounded_up(lost) * unit,
                          exponent,
                          column};
    }
  }
}

}  // namespace

void sparse_residual(const WorkingSetState& state, const RoundSlot* round, Index count,
                     __half* half, Index half_rows, double* doubles, cudaStream_t stream) {
  launch("sparse_residual_kernel", sparse_residual_kernel, {dim3(grid_x(count)), kSparseThreads},
         stream, state, round, count, half, half_rows, doubles);
}

}  // namespace thresher::cuda

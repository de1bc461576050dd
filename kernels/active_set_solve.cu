#include "active_set_solve.cuh"

#include <algorithm>
#include <cmath>

#include "block_sums.cuh"
#include "launch.cuh"
#include "problem_terms.cuh"
#include "shared_array.cuh"
#include "working_set_places.cuh"

namespace thresher::cuda {
namespace {

constexpr int kSolveThreads = block_threads(256);  // untuned: no GPU has run this yet
constexpr int kSolveWarps = kSolveThreads / static_cast<int>(kWarpSize);
constexpr int kEntrants = 8;  // violators added at a time (design section 6)
// As in host/backend/active_set.cpp: a pivot below this share of G_jj + e_j means dependence; |h|
// below this share of a needs no refinement; how little of a penalty, of the sum of its terms, and
// of penalised columns, of the entrant, counts as none along a null direction.
constexpr double kTinyPivot = 1e-12;
constexpr double kStationary = 1e-12;
constexpr double kNoSlope = 1e-8;
constexpr double kNoShare = 1e-4;
// A feature whose pivot is below this share of G_jj + e_j leaves an inverse that has to be made
// afresh: its entries are that much larger, and a downdate would cancel as many of their digits.
constexpr double kSafePivot = 1e-4;
constexpr int kRefinements = 3;
// The inverse was made for other e_j: conjugate gradients preconditioned by it take about 20 steps
// while e_j is within this factor.
constexpr double kFrozenFactor = 2.0;
constexpr int kMostConjugate = 60;
constexpr double kConjugateTol = 1e-14;

// Shared memory of the block.
struct Workspace {
  double* sums;     // (kMostWarps)
  double* partial;  // (kSolveThreads)
};

/// One slot's subproblem. The members are the same in all threads of the block.
struct Job {
  int n_working;
  int k = 0;        // active features
  int n_moved = 0;  // features whose coefficient may differ from `base`
  Index gram_ld;
  Index inverse_ld;
  int room;  // active features the inverse can hold
  const double* gram;
  double* coef;        // (n_working)
  const double* grad;  // (n_working) at `base`, exact
  double* g;           // (n_working) at coef
  double* a;           // (n_working)
  double* e;           // (n_working)
  double* base;        // (n_working)
  std::uint8_t* place;
  int* active;
  int* sign;
  double* frozen;
  double* inverse;
  double *h, *delta, *u, *v, *s, *t;  // (active_capacity) each
  int* moved;
  std::uint8_t* is_moved;
  double* inverse_global;
  Index global_ld;
  int global_room;
};

__device__ int tid() { return static_cast<int>(threadIdx.x); }

// The index with the highest score, the lowest of equals; -1 if no score is above -infinity.
__device__ int best_of(double score, int index, double* sums) {
  const double best = block_max(score, sums);
  const bool mine = score == best && score > -INFINITY;
  const double first = block_max(mine ? -static_cast<double>(index) : -INFINITY, sums);
  return first > -INFINITY ? static_cast<int>(-first) : -1;
}

// y = M x, M symmetric (k, k). Columns are dealt out to groups of threads when rows are few.
__device__ void multiply(const double* M, Index ld, int k, const double* x, double* y,
                         double* partial) {
  if (k == 0) return;
  const int warp = static_cast<int>(kWarpSize);
  const int width = (k + warp - 1) / warp * warp;
  if (width > kSolveThreads / 2) {
    for (int i = tid(); i < k; i += kSolveThreads) {
      double sum = 0.0;
      for (int j = 0; j < k; ++j) sum += M[j * ld + i] * x[j];
      y[i] = sum;
    }
    __syncthreads();
    return;
  }
  const int parts = kSolveThreads / width;
  const int row = tid() % width, part = tid() / width;
  double sum = 0.0;
  if (row < k && part < parts) {
    for (int j = part; j < k; j += parts) sum += M[j * ld + row] * x[j];
  }
  partial[tid()] = sum;
  __syncthreads();
  if (tid() < k) {
    double total = 0.0;
    for (int m = 0; m < parts; ++m) total += partial[m * width + tid()];
    y[tid()] = total;
  }
  __syncthreads();
}

// y = (G_AA + diag e_A) x.
__device__ void multiply_system(const Job& job, const double* x, double* y) {
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const int row = job.active[i];
    double sum = job.e[row] * x[i];
    for (int j = 0; j < job.k; ++j) sum += job.gram[job.active[j] * job.gram_ld + row] * x[j];
    y[i] = sum;
  }
  __syncthreads();
}

__device__ double dot(int k, const double* x, const double* y, double* sums) {
  double sum = 0.0;
  for (int i = tid(); i < k; i += kSolveThreads) sum += x[i] * y[i];
  return block_sum(sum, sums);
}

// g at the current coefficients, and h: what is missing to stationarity on the active features.
__device__ void update_gradient(Job& job) {
  for (int row = tid(); row < job.n_working; row += kSolveThreads) {
    double sum = job.grad[row];
    for (int m = 0; m < job.n_moved; ++m) {
      const int column = job.moved[m];
      sum -= job.gram[column * job.gram_ld + row] * (job.coef[column] - job.base[column]);
    }
    job.g[row] = sum;
  }
  __syncthreads();
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const int at = job.active[i];
    job.h[i] = job.g[at] - job.a[at] * job.sign[i] - job.e[at] * job.coef[at];
  }
  __syncthreads();
}

// The inverse of G_AA + diag e_A afresh, by Gauss and Jordan, with a floor under the pivots of
// dependent columns. True if one of those has no penalty: they are marked in job.s.
__device__ bool rebuild_inverse(Job& job) {
  double* M = job.inverse;
  const int lane = tid() % static_cast<int>(kWarpSize), warp = tid() / static_cast<int>(kWarpSize);
  for (int j = warp; j < job.k; j += kSolveWarps) {
    const int column = job.active[j];
    for (int i = lane; i < job.k; i += static_cast<int>(kWarpSize)) {
      M[j * job.inverse_ld + i] =
          job.gram[column * job.gram_ld + job.active[i]] + (i == j ? job.e[column] : 0.0);
    }
    if (lane == 0) {
      job.frozen[j] = job.e[column];
      job.v[j] = kTinyPivot * (job.gram[column * job.gram_ld + column] + job.e[column]);
    }
  }
  bool any = false;
  __syncthreads();
  for (int m = 0; m < job.k; ++m) {
    for (int i = tid(); i < job.k; i += kSolveThreads) job.u[i] = M[m * job.inverse_ld + i];
    __syncthreads();
    const bool is_dependent = !(job.u[m] > job.v[m]);
    const double pivot = !is_dependent ? job.u[m] : job.v[m] > 0.0 ? job.v[m] : 1.0;
    const int at = job.active[m];
    const bool is_free = is_dependent && job.a[at] == 0.0 && job.e[at] == 0.0;
    if (tid() == 0) job.s[m] = is_free ? 1.0 : 0.0;
    any = any || is_free;
    for (int j = warp; j < job.k; j += kSolveWarps) {
      // Row m of the matrix is its column m, with the opposite sign where column j is done.
      const double row_m = j < m ? -job.u[j] : job.u[j];
      for (int i = lane; i < job.k; i += static_cast<int>(kWarpSize)) {
        double& entry = M[j * job.inverse_ld + i];
        if (i == m && j == m) {
          entry = 1.0 / pivot;
        } else if (i == m) {
          entry = row_m / pivot;
        } else if (j == m) {
          entry = -job.u[i] / pivot;
        } else {
          entry -= job.u[i] * row_m / pivot;
        }
      }
    }
    __syncthreads();
  }
  return any;
}

// The inverse afresh, after the active features that rebuild_inverse marks have left: what they
// explained the others take over.
__device__ void rebuild_independent(Job& job) {
  while (rebuild_inverse(job)) {
    int kept = 0;  // the same in all threads
    for (int i = 0; i < job.k; ++i) {
      const int at = job.active[i];
      const bool leaves = job.s[i] > 0.0;
      const int sign = job.sign[i];
      __syncthreads();
      if (tid() == 0) {
        if (leaves) {
          job.coef[at] = 0.0;
          job.place[at] = kOutside;
        } else {
          job.active[kept] = at;
          job.sign[kept] = sign;
        }
      }
      if (!leaves) ++kept;
    }
    job.k = kept;
    __syncthreads();
  }
}

// Did an active feature lose the L2 term that is in the inverse, and has no other penalty?
__device__ bool lost_penalties(const Job& job, double* sums) {
  double lost = 0.0;
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const int at = job.active[i];
    if (job.a[at] == 0.0 && job.e[at] == 0.0 && job.frozen[i] > 0.0) lost = 1.0;
  }
  return block_max(lost, sums) > 0.0;
}

// delta = (G_AA + diag e_A)^-1 h.
__device__ void newton_step(Job& job, const Workspace& work) {
  double off = 0.0;
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const double e = job.e[job.active[i]];
    if (job.frozen[i] != e) off = larger(off, 1.0);
    if (!(job.frozen[i] <= kFrozenFactor * e && e <= kFrozenFactor * job.frozen[i])) off = 2.0;
  }
  off = block_max(off, work.sums);
  if (off > 1.0) {
    rebuild_inverse(job);
    off = 0.0;
  }
  multiply(job.inverse, job.inverse_ld, job.k, job.h, job.delta, work.partial);
  if (off == 0.0) return;

  // Conjugate gradients: v residual, s = M v, t direction, u = system t.
  const double aim = kConjugateTol * sqrt(dot(job.k, job.h, job.h, work.sums));
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    job.v[i] = job.h[i];
    job.t[i] = job.delta[i];
    job.s[i] = job.delta[i];
    job.delta[i] = 0.0;
  }
  __syncthreads();
  double vs = dot(job.k, job.v, job.s, work.sums);
  for (int step = 0; step < kMostConjugate; ++step) {
    multiply_system(job, job.t, job.u);
    const double curvature = dot(job.k, job.t, job.u, work.sums);
    if (!(curvature > 0.0)) break;
    const double alpha = vs / curvature;
    for (int i = tid(); i < job.k; i += kSolveThreads) {
      job.delta[i] += alpha * job.t[i];
      job.v[i] -= alpha * job.u[i];
    }
    const double left = sqrt(dot(job.k, job.v, job.v, work.sums));
    if (!(left > aim)) break;
    multiply(job.inverse, job.inverse_ld, job.k, job.v, job.s, work.partial);
    const double next = dot(job.k, job.v, job.s, work.sums);
    const double beta = next / vs;
    vs = next;
    for (int i = tid(); i < job.k; i += kSolveThreads) job.t[i] = job.s[i] + beta * job.t[i];
    __syncthreads();
  }
}

// Removes active feature r; its coefficient is 0 from now on.
__device__ void drop(Job& job, int r) {
  double* M = job.inverse;
  const Index ld = job.inverse_ld;
  const int last = job.k - 1;
  const int lane = tid() % static_cast<int>(kWarpSize), warp = tid() / static_cast<int>(kWarpSize);
  for (int i = tid(); i < job.k; i += kSolveThreads) job.u[i] = M[r * ld + i];
  __syncthreads();
  const double pivot = job.u[r];
  const int leaving = job.active[r];
  const double whole = job.gram[leaving * job.gram_ld + leaving] + job.frozen[r];
  // Also false for what only rounding can make of a pivot: below 0, NaN.
  const bool safe = pivot > 0.0 && kSafePivot * whole * pivot < 1.0;
  for (int j = warp; j < job.k; j += kSolveWarps) {
    const double factor = job.u[j] / pivot;
    for (int i = lane; i < job.k; i += static_cast<int>(kWarpSize)) {
      M[j * ld + i] -= job.u[i] * factor;
    }
  }
  __syncthreads();
  // The last feature takes the place.
  for (int i = tid(); i < last; i += kSolveThreads) {
    const double value = i == r ? M[last * ld + last] : M[last * ld + i];
    M[r * ld + i] = value;
    M[i * ld + r] = value;
  }
  if (tid() == 0) {
    const int at = job.active[r];
    job.coef[at] = 0.0;
    job.place[at] = kOutside;
    job.active[r] = job.active[last];
    job.sign[r] = job.sign[last];
    job.frozen[r] = job.frozen[last];
    job.h[r] = job.h[last];
  }
  job.k = last;
  __syncthreads();
  if (!safe) rebuild_inverse(job);
}

// What a feature adds to the system: u = M G_Aj in job.u, and its pivot.
struct Pivot {
  double whole, value;
};
__device__ Pivot pivot_of(Job& job, int at, const Workspace& work) {
  const double* column = job.gram + at * job.gram_ld;
  for (int i = tid(); i < job.k; i += kSolveThreads) job.v[i] = column[job.active[i]];
  __syncthreads();
  multiply(job.inverse, job.inverse_ld, job.k, job.v, job.u, work.partial);
  const double whole = column[at] + job.e[at];
  return {whole, whole - dot(job.k, job.v, job.u, work.sums)};
}

// Makes feature `at` active with a pivot and job.u from pivot_of: bordering.
__device__ void append(Job& job, int at, double pivot, int sign, double value) {
  if (job.k == job.room) {
    // Shared memory is full: on in global memory.
    for (int j = tid() / static_cast<int>(kWarpSize); j < job.k; j += kSolveWarps) {
      for (int i = tid() % static_cast<int>(kWarpSize); i < job.k;
           i += static_cast<int>(kWarpSize)) {
        job.inverse_global[j * job.global_ld + i] = job.inverse[j * job.inverse_ld + i];
      }
    }
    job.inverse = job.inverse_global;
    job.inverse_ld = job.global_ld;
    job.room = job.global_room;
    __syncthreads();
  }
  double* M = job.inverse;
  const Index ld = job.inverse_ld;
  const int k = job.k;
  const int lane = tid() % static_cast<int>(kWarpSize), warp = tid() / static_cast<int>(kWarpSize);
  for (int j = warp; j < k; j += kSolveWarps) {
    const double factor = job.u[j] / pivot;
    for (int i = lane; i < k; i += static_cast<int>(kWarpSize)) M[j * ld + i] += job.u[i] * factor;
  }
  for (int i = tid(); i < k; i += kSolveThreads) {
    const double value_i = -job.u[i] / pivot;
    M[k * ld + i] = value_i;
    M[i * ld + k] = value_i;
  }
  const bool first_move = job.is_moved[at] == 0;
  __syncthreads();
  if (tid() == 0) {
    M[k * ld + k] = 1.0 / pivot;
    job.active[k] = at;
    job.sign[k] = sign;
    job.frozen[k] = job.e[at];
    job.place[at] = kActive;
    job.coef[at] = value;
    if (first_move) {
      job.is_moved[at] = 1;
      job.moved[job.n_moved] = at;
    }
  }
  if (first_move) ++job.n_moved;
  job.k = k + 1;
  __syncthreads();
}

// Feature `at` lies in the span of the active ones (job.u from pivot_of): moving along (-s u, s)
// leaves the fit as it is and lowers the penalty until an active coefficient reaches 0; that
// feature leaves and `at` takes its place. False if no coefficient would.
__device__ bool enter_dependent(Job& job, int at, const Workspace& work) {
  int sign = job.g[at] > 0.0 ? 1 : -1;
  if (job.a[at] == 0.0) {
    // Without a penalty of its own it goes where those of the others fall, if any do.
    double rise = 0.0, size = 0.0, share = 0.0;  // per unit of -b
    for (int i = tid(); i < job.k; i += kSolveThreads) {
      const int j = job.active[i];
      if (job.a[j] == 0.0) continue;
      rise += job.a[j] * job.sign[i] * job.u[i];
      size += job.a[j] * fabs(job.u[i]);
      share += fabs(job.u[i]) * sqrt(job.gram[j * job.gram_ld + j]);
    }
    rise = block_sum(rise, work.sums);
    size = block_sum(size, work.sums);
    share = block_sum(share, work.sums);
    if (!(share > kNoShare * sqrt(job.gram[at * job.gram_ld + at]))) return false;
    if (!(fabs(rise) > kNoSlope * size)) return false;
    sign = rise > 0.0 ? 1 : -1;
  }
  double score = -INFINITY;
  int index = -1;
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const double direction = -sign * job.u[i];
    const double b = job.coef[job.active[i]];
    if (job.sign[i] == 0 || !(direction * b < 0.0)) continue;
    const double t = -b / direction;
    if (-t > score) {
      score = -t;
      index = i;
    }
  }
  const int hit = best_of(score, index, work.sums);
  if (hit < 0) return false;
  const int leaving = job.active[hit];
  const double step = job.coef[leaving] / (sign * job.u[hit]);
  __syncthreads();
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    job.coef[job.active[i]] -= step * sign * job.u[i];
  }
  __syncthreads();
  drop(job, hit);
  const Pivot pivot = pivot_of(job, at, work);
  append(job, at, larger(pivot.value, kTinyPivot * pivot.whole), job.a[at] == 0.0 ? 0 : sign,
         step * sign);
  return true;
}

__device__ void block_feature(Job& job, int at) {
  if (tid() == 0) job.place[at] = kBlocked;
  __syncthreads();
}

__device__ void set_up(const WorkingSetState& state, const ProblemView& problem, Index slot,
                       double lambda, Index shared_doubles, double* shared, Job& job) {
  job.n_working = state.n_working[slot];
  job.k = state.n_active[slot];
  job.gram = state.gram != nullptr ? state.gram + slot * state.capacity * state.capacity
                                   : problem.rows.gram;
  job.gram_ld = state.gram != nullptr ? state.capacity : state.p;
  job.coef = state.coef + slot * state.capacity;
  job.grad = state.grad + slot * state.capacity;
  job.g = state.scratch + slot * state.scratch_size;
  job.a = job.g + state.capacity;
  job.e = job.a + state.capacity;
  job.base = job.e + state.capacity;
  job.h = job.base + state.capacity;
  job.delta = job.h + state.active_capacity;
  job.u = job.delta + state.active_capacity;
  job.v = job.u + state.active_capacity;
  job.s = job.v + state.active_capacity;
  job.t = job.s + state.active_capacity;
  job.place = state.place + slot * state.capacity;
  job.active = state.active + slot * state.active_capacity;
  job.sign = state.sign + slot * state.active_capacity;
  job.frozen = state.frozen + slot * state.active_capacity;
  job.moved = state.moved + slot * state.capacity;
  job.is_moved = state.is_moved + slot * state.capacity;
  job.inverse_global = state.inverse + slot * state.active_capacity * state.active_capacity;
  job.global_ld = state.active_capacity;
  job.global_room = static_cast<int>(state.active_capacity);
  job.inverse = job.inverse_global;
  job.inverse_ld = job.global_ld;
  job.room = job.global_room;
  // Shared memory is worth its copies only if the inverse can grow a little in it.
  const int side = static_cast<int>(sqrt(static_cast<double>(shared_doubles)));
  if (job.k + kEntrants <= side) {
    job.inverse = shared;
    job.inverse_ld = side;
    job.room = side;
    for (int j = tid() / static_cast<int>(kWarpSize); j < job.k; j += kSolveWarps) {
      for (int i = tid() % static_cast<int>(kWarpSize); i < job.k;
           i += static_cast<int>(kWarpSize)) {
        shared[j * job.inverse_ld + i] = job.inverse_global[j * job.global_ld + i];
      }
    }
  }

  const int* feature = state.feature + slot * state.capacity;
  for (int at = tid(); at < job.n_working; at += kSolveThreads) {
    job.a[at] = l1_term(problem, feature[at], lambda);
    job.e[at] = l2_term(problem, feature[at], lambda);
    job.base[at] = job.coef[at];
    job.is_moved[at] = job.place[at] == kActive ? 1 : 0;
    if (job.place[at] == kBlocked) job.place[at] = kOutside;
  }
  __syncthreads();
  for (int i = tid(); i < job.k; i += kSolveThreads) {
    const int at = job.active[i];
    job.moved[i] = at;
    if (job.a[at] == 0.0) job.sign[i] = 0;
    if (job.a[at] > 0.0 && job.sign[i] == 0) job.sign[i] = job.coef[at] < 0.0 ? -1 : 1;
  }
  job.n_moved = job.k;
  __syncthreads();
}

// Coefficients of a warm start that are not active yet join; those that depend on others become 0.
__device__ void activate_start(Job& job, const Workspace& work) {
  for (int at = 0; at < job.n_working; ++at) {
    const double value = job.coef[at];
    if (value == 0.0 || job.place[at] == kActive) continue;
    const Pivot pivot = pivot_of(job, at, work);
    if (pivot.value > kTinyPivot * pivot.whole && job.k < job.global_room) {
      append(job, at, pivot.value, job.a[at] == 0.0 ? 0 : value < 0.0 ? -1 : 1, value);
      continue;
    }
    if (tid() == 0) {
      job.coef[at] = 0.0;
      job.is_moved[at] = 1;
      job.moved[job.n_moved] = at;
    }
    ++job.n_moved;
    __syncthreads();
  }
}

// One block per position. Its inverse fills the shared memory of a multiprocessor, so the registers
// are its own as well: without the 1, ptxas keeps to 128 and spills.
__global__ void __launch_bounds__(kSolveThreads, 1)
    solve_active_sets_kernel(WorkingSetState state, const RoundSlot* round, Index count,
                             Index max_iterations, Index shared_doubles) {
  THRESHER_SHARED_ARRAY(double, sums, kMostWarps);
  THRESHER_SHARED_ARRAY(double, partial, kSolveThreads);
  THRESHER_SHARED_ARRAY(int, chosen, kEntrants);
  double* shared = dynamic_shared<double>();
  const Workspace work{sums, partial};
  for (Index position = blockIdx.x; position < count; position += gridDim.x) {
    const Index slot = round[position].slot;
    const double lambda = round[position].lambda;
    Job job;
    set_up(state, state.problem[slot], slot, lambda, shared_doubles, shared, job);
    if (isnan(round[position].lambda_now)) activate_start(job, work);
    if ((round[position].rebuild && job.k > 0) || lost_penalties(job, sums)) {
      rebuild_independent(job);
    }
    const double noise_unit = product_noise(state.n, state.sums[slot].z_norm);
    const int* feature = state.feature + slot * state.capacity;
    const auto slack = [&](int at) { return noise_unit * state.norm[feature[at]]; };

    update_gradient(job);
    Index iterations = 0, n_dependent = 0;
    bool exact = true;
    int n_new = 0;        // entrants since the last full step that are still active
    bool single = false;  // entrants one at a time, after a group that did not move
    int refinements = 0;
    double last_worst = INFINITY;
    const Index own_limit = 50 + 4 * (Index{job.n_working} + job.k);
    const Index limit = max_iterations < own_limit ? max_iterations : own_limit;
    for (;; ++iterations) {
      if (iterations >= limit) {
        exact = false;
        break;
      }
      if (job.k > 0) {
        newton_step(job, work);
        __syncthreads();
        // An entrant that would start against its sign stops the step where it is.
        double score = -INFINITY;
        int index = -1;
        for (int i = tid(); i < job.k; i += kSolveThreads) {
          const double against = -job.delta[i] * job.sign[i];
          if (job.sign[i] != 0 && job.coef[job.active[i]] == 0.0 && against > 0.0 &&
              against > score) {
            score = against;
            index = i;
          }
        }
        int hit = best_of(score, index, sums);
        double step = 0.0;
        const bool never_moved = hit >= 0;
        if (hit < 0) {
          // Else the first sign change.
          score = -INFINITY;
          for (int i = tid(); i < job.k; i += kSolveThreads) {
            const double b = job.coef[job.active[i]];
            if (job.sign[i] == 0 || b == 0.0 || !((b + job.delta[i]) * job.sign[i] < 0.0)) continue;
            double t = -b / job.delta[i];
            if (!(t > 0.0)) t = 0.0;
            if (t < 1.0 && -t > score) {
              score = -t;
              index = i;
            }
          }
          hit = best_of(score, index, sums);
          step = -block_max(score, sums);
        }
        if (hit < 0) step = 1.0;
        for (int i = tid(); i < job.k; i += kSolveThreads) {
          job.coef[job.active[i]] += step * job.delta[i];
          job.h[i] *= 1.0 - step;
        }
        __syncthreads();
        if (hit >= 0) {
          const int leaving = job.active[hit];
          __syncthreads();
          drop(job, hit);
          if (never_moved) {
            --n_new;
            // Alone and still against its sign: only rounding can do that. The certificate decides.
            if (single) block_feature(job, leaving);
            if (n_new <= 0) single = true;
          }
          continue;
        }
        if (n_new > 0) single = false;
      }
      update_gradient(job);
      n_new = 0;

      // The worst violators outside, one after another.
      const int take = single ? 1 : kEntrants;
      int n_chosen = 0;
      while (n_chosen < take) {
        double score = -INFINITY;
        int index = -1;
        for (int at = tid(); at < job.n_working; at += kSolveThreads) {
          if (job.place[at] != kOutside) continue;
          const double excess = fabs(job.g[at]) - job.a[at];
          // A feature without an L1 term belongs to the active set from the start.
          if (!(excess > slack(at) || job.a[at] == 0.0)) continue;
          const double norm = state.norm[feature[at]];
          const double worth = norm > 0.0 ? excess / norm : 0.0;
          if (worth > score) {
            score = worth;
            index = at;
          }
        }
        const int worst = best_of(score, index, sums);
        if (worst < 0) break;
        if (tid() == 0) {
          job.place[worst] = kChosen;
          chosen[n_chosen] = worst;
        }
        ++n_chosen;
        __syncthreads();
      }
      if (n_chosen > 0) {
        const int before = job.k;
        bool by_null_move = false;
        for (int c = 0; c < n_chosen; ++c) {
          const int at = chosen[c];
          if (tid() == 0) job.place[at] = kOutside;
          __syncthreads();
          if (job.k == job.global_room) {
            exact = false;
            block_feature(job, at);
            continue;
          }
          const Pivot pivot = pivot_of(job, at, work);
          if (pivot.value > kTinyPivot * pivot.whole) {
            append(job, at, pivot.value, job.a[at] == 0.0 ? 0 : job.g[at] > 0.0 ? 1 : -1, 0.0);
            continue;
          }
          if (n_chosen > 1) continue;
          if (pivot.whole > 0.0 && enter_dependent(job, at, work)) {
            by_null_move = true;
          } else {
            block_feature(job, at);
            ++n_dependent;
          }
        }
        __syncthreads();
        if (by_null_move) {
          update_gradient(job);
          continue;
        }
        n_new = job.k - before;
        if (n_new == 0) single = true;
        for (int i = before + tid(); i < job.k; i += kSolveThreads) {
          const int at = job.active[i];
          job.h[i] = job.g[at] - job.a[at] * job.sign[i];
        }
        __syncthreads();
        continue;
      }

      // Nothing outside wants in: stationary on the active features?
      double worst = 0.0;
      for (int i = tid(); i < job.k; i += kSolveThreads) {
        const int at = job.active[i];
        worst = larger(worst, fabs(job.h[i]) / (kStationary * job.a[at] + slack(at)));
      }
      worst = block_max(worst, sums);
      if (!(worst > 1.0)) {
        if (!(worst <= 1.0)) exact = false;  // a NaN
        break;
      }
      if (refinements >= kRefinements || !(worst < 0.5 * last_worst)) break;
      last_worst = worst;
      ++refinements;
    }

    __syncthreads();
    if (job.inverse != job.inverse_global) {
      for (int j = tid() / static_cast<int>(kWarpSize); j < job.k; j += kSolveWarps) {
        for (int i = tid() % static_cast<int>(kWarpSize); i < job.k;
             i += static_cast<int>(kWarpSize)) {
          job.inverse_global[j * job.global_ld + i] = job.inverse[j * job.inverse_ld + i];
        }
      }
    }
    if (tid() == 0) {
      state.n_active[slot] = job.k;
      state.n_gram[slot] = job.n_working;
      SlotReport& report = state.report[position];
      report.iterations = iterations;
      report.n_dependent = n_dependent;
      report.exact = exact ? 1 : 0;
    }
    __syncthreads();
  }
}

}  // namespace

void solve_active_sets(const WorkingSetState& state, const RoundSlot* round, Index count,
                       Index max_iterations, std::size_t shared_bytes, cudaStream_t stream) {
  const auto static_bytes = (kMostWarps + kSolveThreads) * sizeof(double) + kEntrants * sizeof(int);
  const auto most = shared_bytes > static_bytes + 1024 ? shared_bytes - static_bytes - 1024 : 0;
  const auto side = std::min<std::size_t>(
      static_cast<std::size_t>(std::sqrt(static_cast<double>(most / sizeof(double)))),
      static_cast<std::size_t>(state.active_capacity));
  const std::size_t bytes = side * side * sizeof(double);
  allow_shared("solve_active_sets_kernel", solve_active_sets_kernel, bytes);
  launch("solve_active_sets_kernel", solve_active_sets_kernel,
         {dim3(grid_x(count)), kSolveThreads, bytes}, stream, state, round, count, max_iterations,
         static_cast<Index>(side * side));
}

}  // namespace thresher::cuda

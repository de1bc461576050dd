#pragma once

#include "cuda_context.hpp"
#include "thresher/views.hpp"

namespace thresher::bench {

/// What a replay solves: n_slots Lasso paths at once on one X, problem s without the rows of fold
/// s mod n_folds; n_lambdas from lambda_max of the problem to `last` times it.
struct ReplayShape {
  Index n = 500, p = 20000;
  Index n_slots = 1024, n_folds = 10;
  Index n_lambdas = 100;
  Index n_stages = 4;  // parts of the path that are reported apart
  double last = 0.01;
  Index support = 50;  // non-zero coefficients of the truth
  double snr = 3.0;
  Index compared = 0;  // slots whose every step is compared with a plain loop
};

/// Runs the rounds of the working-set backend launcher by launcher, each timed where it stands,
/// and prints a line for every step and stage of the path. Bytes and operations are what the
/// launchers' headers declare. Returns false, having said where, if a comparison fails.
bool replay_rounds(const cuda::DeviceLimits& limits, const cuda::Stream& stream,
                   const cuda::Blas& blas, const ReplayShape& shape);

}  // namespace thresher::bench

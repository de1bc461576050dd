#pragma once

#include <vector>

#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/thread_pool.hpp"
#include "thresher/fit.hpp"

namespace thresher {

/// Errors of one problem for each lambda of its grid, in the user's units squared. NaN where a row
/// cannot be left out (it alone decides its fitted value).
struct ClosedFormErrors {
  std::vector<double> error;  ///< leave-one-out: sum_i w_i e_i^2; GCV as in design section 3
  std::vector<double> se;     ///< sqrt(sum_i w_i (e_i^2 - error)^2 / (n - 1)); NaN for GCV
  std::vector<double> train;  ///< sum_i w_i r_i^2
};

/// Closed-form errors of ridge problems on all rows (l1_ratio 0, no fold). At lambda = 0 the limit
/// lambda -> 0 is taken, so that interpolating fits have errors, too.
std::vector<ClosedFormErrors> closed_form_errors(const Columns& columns,
                                                 const std::vector<Problem>& problems,
                                                 ClosedForm form, const ThreadPool& pool);

}  // namespace thresher

#pragma once

#include "setup/columns.hpp"
#include "setup/problem.hpp"

namespace thresher {

/// The largest eigenvalue of X'WX (columns weighted-centred with an intercept, features with v_j =
/// 0 projected off, the others divided by sqrt(v_j)), in the units of lambda; 0 if nothing is left.
/// It depends on the rows, the penalties and the intercept alone, not on the response: call it
/// once per distinct pair. Costs some thirty passes over X.
double ridge_top_eigenvalue(const Columns& columns, const Problem& problem);

}  // namespace thresher

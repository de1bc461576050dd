#pragma once

#include <vector>

#include "thresher/model.hpp"

namespace thresher {

/// From the fold errors of one response to its choice (design section 3, glmnet's definitions).
///
/// result.cv_fold_error [A, L, K] and fold_train_error [A, L, K] are given, fold_weight [K] holds
/// the held-out weights (0: the fold does not count), lambda is [A, L]. Fills cv_error, cv_se,
/// cv_train_error, best (least error; ties: largest lambda, then first l1_ratio), one_se (largest
/// lambda within the best l1_ratio whose error is at most best + its se) and boundary (best is the
/// last lambda computed).
void choose_lambda(const std::vector<double>& fold_train_error,
                   const std::vector<double>& fold_weight, ResponseResult& result);

}  // namespace thresher

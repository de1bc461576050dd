#include "selection/choose_lambda.hpp"

#include <cmath>
#include <limits>

namespace thresher {

void choose_lambda(const std::vector<double>& fold_train_error,
                   const std::vector<double>& fold_weight, ResponseResult& result) {
  const std::size_t n_folds = fold_weight.size();
  const std::size_t n_fits = result.lambda.size();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  result.cv_error.assign(n_fits, nan);
  result.cv_se.assign(n_fits, nan);
  result.cv_train_error.assign(n_fits, nan);

  double total = 0.0, n_counted = 0.0;
  for (const double w : fold_weight) {
    total += w;
    if (w > 0.0) n_counted += 1.0;
  }
  for (std::size_t f = 0; f < n_fits; ++f) {
    double error = 0.0, train = 0.0;
    for (std::size_t k = 0; k < n_folds; ++k) {
      if (fold_weight[k] == 0.0) continue;
      error += fold_weight[k] * result.cv_fold_error[f * n_folds + k];
      train += fold_weight[k] * fold_train_error[f * n_folds + k];
    }
    error /= total;
    train /= total;
    double spread = 0.0;
    for (std::size_t k = 0; k < n_folds; ++k) {
      if (fold_weight[k] == 0.0) continue;
      const double d = result.cv_fold_error[f * n_folds + k] - error;
      spread += fold_weight[k] * d * d;
    }
    result.cv_error[f] = error;
    result.cv_train_error[f] = train;
    result.cv_se[f] = std::sqrt(spread / total / (n_counted - 1.0));
  }

  const auto n_lambdas = static_cast<std::size_t>(result.n_lambdas);
  std::size_t best = n_fits;
  for (std::size_t f = 0; f < n_fits; ++f) {
    // Comparisons with NaN are false: what was not computed is never chosen.
    if (!(result.cv_error[f] >= 0.0)) continue;
    if (best == n_fits || result.cv_error[f] < result.cv_error[best] ||
        (result.cv_error[f] == result.cv_error[best] && result.lambda[f] > result.lambda[best])) {
      best = f;
    }
  }
  if (best == n_fits) {  // nothing could be computed
    result.best[0] = result.best[1] = result.one_se[0] = result.one_se[1] = 0;
    result.boundary = false;
    return;
  }
  const std::size_t ratio = best / n_lambdas;
  result.best[0] = static_cast<Index>(ratio);
  result.best[1] = static_cast<Index>(best % n_lambdas);
  const double limit =
      result.cv_error[best] + (result.cv_se[best] >= 0.0 ? result.cv_se[best] : 0.0);
  std::size_t one_se = best;
  for (std::size_t l = n_lambdas; l-- > 0;) {
    const std::size_t f = ratio * n_lambdas + l;
    if (result.cv_error[f] <= limit && result.lambda[f] >= result.lambda[one_se]) one_se = f;
  }
  result.one_se[0] = static_cast<Index>(ratio);
  result.one_se[1] = static_cast<Index>(one_se % n_lambdas);

  std::size_t last = n_lambdas - 1;
  while (last > 0 && !(result.cv_error[ratio * n_lambdas + last] >= 0.0)) --last;
  result.boundary = static_cast<std::size_t>(result.best[1]) == last && last > 0;
}

}  // namespace thresher

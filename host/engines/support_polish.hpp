#pragma once

#include "setup/certificate.hpp"

namespace thresher {

/// What polish_support made of a candidate.
struct Polish {
  bool improved = false;   ///< coef was replaced: its objective is no higher than before
  bool dependent = false;  ///< some unpenalised columns are linear combinations of others
  double objective = 0.0;  ///< of coef on return, hat units
};

/// The exact minimum on the support and signs of `coef` plus all of `unsigned_features` (those with
/// a_j = 0), in double: Newton steps on the Cholesky factor of X_A' W X_A + diag e_A, each walked
/// to the first sign change, where that feature leaves, until a full step is possible. A feature
/// that depends on the others is moved along its null direction until one of them reaches 0.
/// unsigned_features: sorted.
Polish polish_support(const Columns& columns, const Problem& problem, double lambda,
                      const std::vector<Index>& unsigned_features, SparseCoef& coef);

}  // namespace thresher

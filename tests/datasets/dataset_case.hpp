#pragma once

// The tables of tests/data with the answers stored beside them, and a second opinion on a fit in
// double, straight from X, y and the coefficients.

#include <string>
#include <vector>

#include "thresher/fit.hpp"

namespace thresher::testing_datasets {

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// The six tables with X.npy, and grants_other, which is stored as compressed rows.
inline const std::string kSets[] = {"diabetes", "meats",     "chicago",     "golub",
                                    "susie_n2", "pd_speech", "grants_other"};

struct ReferenceFit {
  double lambda = 0.0;
  double objective = 0.0;
};

/// One block of reference.json: a path of one response.
struct Block {
  std::string variant;  ///< plain, standardized, weighted
  std::string penalty;  ///< lasso, enet, enet_l2_over_sd_y
  Index response = 0;
  double l1_ratio = 1.0;
  double lambda_max = 0.0;
  double null_loss = 0.0;
  double l2_factor = 1.0;  ///< 1, or 1 / sd(y) for enet_l2_over_sd_y
  std::vector<ReferenceFit> fits;

  std::string text() const { return variant + " " + penalty + " of " + std::to_string(response); }
};

/// Ridge at one strength: objectives of all responses.
struct RidgeBlock {
  double lambda = 0.0;
  std::vector<double> objective;
};

/// Cross-validated errors of one response and l1_ratio.
struct FoldBlock {
  Index response = 0;
  double l1_ratio = 1.0;
  std::vector<double> lambda;                   ///< [L]
  std::vector<std::vector<double>> fold_error;  ///< [K][L]
  std::vector<double> error;                    ///< [L]
  Index best = 0;
};

struct DataSet {
  std::string name;
  Index n = 0, p = 0, n_responses = 0;
  std::vector<double> X, Y;  ///< column-major
  std::vector<double> weight;
  std::vector<Index> fold_id;
  std::vector<Block> blocks;
  std::vector<RidgeBlock> ridge;
  std::vector<FoldBlock> folds;

  explicit DataSet(const std::string& name);

  double x(Index i, Index j) const { return X[at(j * n + i)]; }
  double y(Index i, Index r) const { return Y[at(r * n + i)]; }
  Data data(bool weighted) const;
  double null_loss(Index r) const;  ///< equal weights
  std::vector<Block> blocks_of(const std::string& variant) const;
};

/// The set, read once per process.
const DataSet& data_set(const std::string& name);

/// How the fits of a variant are to be judged.
struct Judge {
  const DataSet& set;
  std::vector<double> weight;  ///< (n), sums to 1
  std::vector<double> mean;    ///< (p) weighted
  std::vector<double> scale;   ///< (p) s_j, or 1; 0: excluded

  Judge(const DataSet& set, bool weighted, bool standardize);

  struct Penalty {
    double lambda = 0.0, l1_ratio = 1.0, l2_factor = 1.0;
  };
  struct Verdict {
    double objective = 0.0;
    double relative_gap = 0.0;
  };
  /// Objective and the smallest gap over the dual points s q (docs/method.md), over all features.
  Verdict verdict(const Model& model, Index fit, Index response, const Penalty& penalty) const;
};

}  // namespace thresher::testing_datasets

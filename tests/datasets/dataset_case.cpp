#include "dataset_case.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "readers/matrix_file.hpp"

namespace thresher::testing_datasets {
namespace {

std::vector<double> column_major(const MatrixFile& file) {
  std::vector<double> out(at(file.rows * file.cols));
  for (Index j = 0; j < file.cols; ++j) {
    for (Index i = 0; i < file.rows; ++i) {
      out[at(j * file.rows + i)] = element(file.view(), i, j);
    }
  }
  return out;
}

nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return nlohmann::json::parse(file);
}

Block read_block(const nlohmann::json& stored) {
  Block out;
  out.variant = stored.at("variant");
  out.penalty = stored.at("penalty");
  out.response = stored.at("response");
  out.l1_ratio = stored.at("l1_ratio");
  out.lambda_max = stored.at("lambda_max");
  out.null_loss = stored.at("null_loss");
  for (const auto& fit : stored.at("fits")) {
    out.fits.push_back({fit.at("lambda"), fit.at("objective")});
  }
  return out;
}

FoldBlock read_fold_block(const nlohmann::json& stored) {
  FoldBlock out;
  out.response = stored.at("response");
  out.l1_ratio = stored.at("l1_ratio");
  const double lambda_max = stored.at("lambda_max");
  for (const double ratio : stored.at("ratios")) out.lambda.push_back(ratio * lambda_max);
  out.fold_error = stored.at("mse_per_fold").get<std::vector<std::vector<double>>>();
  out.error = stored.at("mse_mean").get<std::vector<double>>();
  out.best = stored.at("best_index");
  return out;
}

}  // namespace

DataSet::DataSet(const std::string& set_name) : name(set_name) {
  const std::string folder = std::string(THRESHER_TEST_DATA) + "/" + name + "/";
  const nlohmann::json meta = read_json(folder + "meta.json");
  n = meta.at("n");
  p = meta.at("p");
  n_responses = meta.at("t");
  if (std::ifstream(folder + "X.npy")) {
    X = column_major(read_matrix(folder + "X.npy"));
  } else {
    const std::vector<double> values = column_major(read_matrix(folder + "X_csr_data.npy"));
    const std::vector<double> indices = column_major(read_matrix(folder + "X_csr_indices.npy"));
    const std::vector<double> indptr = column_major(read_matrix(folder + "X_csr_indptr.npy"));
    X.assign(at(n * p), 0.0);
    for (Index i = 0; i < n; ++i) {
      for (auto k = static_cast<Index>(indptr[at(i)]); k < static_cast<Index>(indptr[at(i + 1)]);
           ++k) {
        X[at(static_cast<Index>(indices[at(k)]) * n + i)] = values[at(k)];
      }
    }
  }
  Y = column_major(read_matrix(folder + "Y.npy"));
  weight = column_major(read_matrix(folder + "weights.npy"));
  for (const double k : column_major(read_matrix(folder + "fold_id.npy"))) {
    fold_id.push_back(static_cast<Index>(k));
  }
  if (X.size() != at(n * p) || Y.size() != at(n * n_responses) || weight.size() != at(n) ||
      fold_id.size() != at(n)) {
    throw std::runtime_error(folder + ": sizes differ from meta.json");
  }

  const nlohmann::json reference = read_json(folder + "reference.json");
  for (const auto& stored : reference.at("blocks")) {
    blocks.push_back(read_block(stored));
    Block& block = blocks.back();
    if (block.penalty == "enet_l2_over_sd_y") {
      block.l2_factor = 1.0 / std::sqrt(2.0 * null_loss(block.response));
    }
  }
  for (const auto& stored : reference.at("ridge")) {
    ridge.push_back({stored.at("lambda"), stored.at("objective").get<std::vector<double>>()});
  }
  for (const auto& stored : reference.at("cv").at("results")) {
    folds.push_back(read_fold_block(stored));
  }
}

Data DataSet::data(bool weighted) const {
  Data out;
  out.X = MatrixView<const double>::column_major(X.data(), n, p);
  out.Y = MatrixView<const double>::column_major(Y.data(), n, n_responses);
  if (weighted) out.sample_weight = weight;
  return out;
}

double DataSet::null_loss(Index r) const {
  double mean = 0.0, squares = 0.0;
  for (Index i = 0; i < n; ++i) mean += y(i, r) / static_cast<double>(n);
  for (Index i = 0; i < n; ++i) squares += (y(i, r) - mean) * (y(i, r) - mean);
  return 0.5 * squares / static_cast<double>(n);
}

std::vector<Block> DataSet::blocks_of(const std::string& variant) const {
  std::vector<Block> out;
  std::copy_if(blocks.begin(), blocks.end(), std::back_inserter(out),
               [&](const Block& block) { return block.variant == variant; });
  return out;
}

const DataSet& data_set(const std::string& name) {
  static std::map<std::string, std::unique_ptr<const DataSet>> sets;
  std::unique_ptr<const DataSet>& set = sets[name];
  if (!set) set = std::make_unique<const DataSet>(name);
  return *set;
}

Judge::Judge(const DataSet& judged, bool weighted, bool standardize)
    : set(judged),
      weight(at(judged.n), 1.0 / static_cast<double>(judged.n)),
      mean(at(judged.p), 0.0),
      scale(at(judged.p), 1.0) {
  if (weighted) {
    double total = 0.0;
    for (const double w : set.weight) total += w;
    for (Index i = 0; i < set.n; ++i) weight[at(i)] = set.weight[at(i)] / total;
  }
  for (Index j = 0; j < set.p; ++j) {
    double variance = 0.0, largest = 0.0;
    for (Index i = 0; i < set.n; ++i) {
      mean[at(j)] += weight[at(i)] * set.x(i, j);
      if (weight[at(i)] > 0.0) largest = std::max(largest, std::fabs(set.x(i, j)));
    }
    for (Index i = 0; i < set.n; ++i) {
      const double x = set.x(i, j) - mean[at(j)];
      variance += weight[at(i)] * x * x;
    }
    if (!standardize) continue;
    const double sd = std::sqrt(variance);
    const double noise =
        static_cast<double>(set.n) * std::numeric_limits<double>::epsilon() * largest;
    scale[at(j)] = sd <= noise ? 0.0 : sd;
  }
}

Judge::Verdict Judge::verdict(const Model& model, Index fit, Index response,
                              const Penalty& penalty) const {
  struct Term {
    double a, e, b, g;
  };
  const Index n = set.n;
  const Index begin = model.coef_indptr[at(fit)], end = model.coef_indptr[at(fit + 1)];
  double y_mean = 0.0, null = 0.0;
  for (Index i = 0; i < n; ++i) y_mean += weight[at(i)] * set.y(i, response);
  std::vector<double> r(at(n)), coef(at(set.p), 0.0);
  for (Index i = 0; i < n; ++i) {
    const double centred = set.y(i, response) - y_mean;
    null += 0.5 * weight[at(i)] * centred * centred;
    r[at(i)] = set.y(i, response) - model.intercept[at(fit)];
  }
  for (Index k = begin; k < end; ++k) {
    const Index j = model.coef_indices[at(k)];
    const double b = model.coef_values[at(k)];
    coef[at(j)] = b;
    for (Index i = 0; i < n; ++i) r[at(i)] -= set.x(i, j) * b;
  }
  Verdict out;
  double r_mean = 0.0, q_squares = 0.0;
  for (Index i = 0; i < n; ++i) {
    out.objective += 0.5 * weight[at(i)] * r[at(i)] * r[at(i)];
    r_mean += weight[at(i)] * r[at(i)];
  }
  std::vector<double> wq(at(n));
  for (Index i = 0; i < n; ++i) {
    const double q = r[at(i)] - r_mean;
    q_squares += weight[at(i)] * q * q;
    wq[at(i)] = weight[at(i)] * q;
  }

  std::vector<Term> terms;
  double s_most = 1.0;
  for (Index j = 0; j < set.p; ++j) {
    const double s = scale[at(j)];
    const double b = coef[at(j)];
    if (s == 0.0) {  // excluded: must be 0
      if (b != 0.0) out.objective = std::numeric_limits<double>::infinity();
      continue;
    }
    Term t{penalty.lambda * penalty.l1_ratio * s,
           penalty.lambda * (1.0 - penalty.l1_ratio) * penalty.l2_factor * s * s, b, 0.0};
    // About the mean: exact sums of wq vanish, rounded ones would meet columns far from 0.
    for (Index i = 0; i < n; ++i) t.g += (set.x(i, j) - mean[at(j)]) * wq[at(i)];
    out.objective += t.a * std::fabs(b) + 0.5 * t.e * b * b;
    if (t.e == 0.0 && std::fabs(t.g) > 0.0) s_most = std::min(s_most, t.a / std::fabs(t.g));
    if (b != 0.0 || std::fabs(t.g) > t.a) terms.push_back(t);
  }
  const auto slope = [&](double s) {
    double out_slope = -(1.0 - s) * q_squares;
    for (const Term& t : terms) {
      out_slope -= t.b * t.g;
      const double over = s * std::fabs(t.g) - t.a;
      if (t.e > 0.0 && over > 0.0) out_slope += over * std::fabs(t.g) / t.e;
    }
    return out_slope;
  };
  double s = s_most;
  if (slope(s_most) > 0.0) {
    double low = 0.0;
    for (int step = 0; step < 200; ++step) {
      const double middle = 0.5 * (low + s);
      (slope(middle) > 0.0 ? s : low) = middle;
    }
  }
  double gap = 0.5 * r_mean * r_mean + 0.5 * (1.0 - s) * (1.0 - s) * q_squares;
  for (const Term& t : terms) {
    gap += t.a * std::fabs(t.b) + 0.5 * t.e * t.b * t.b - s * t.b * t.g;
    const double over = s * std::fabs(t.g) - t.a;
    if (t.e > 0.0 && over > 0.0) gap += over * over / (2.0 * t.e);
  }
  out.relative_gap = gap / null;
  return out;
}

}  // namespace thresher::testing_datasets

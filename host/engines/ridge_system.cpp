#include "engines/ridge_system.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/blas.hpp"
#include "backend/simd.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr Index kPanelColumns = 2048;  // 1024: responses are packed twice as often

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double dot(Index n, const double* x, const double* y) {
  double sum = 0.0;
  for (Index i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

/// v_j and d_j as the system sees them.
struct Factors {
  const Penalties& penalties;
  std::optional<double> lambda;

  double v(Index j) const {
    if (!lambda) return penalties.l2[at(j)];
    return *lambda * penalties.l2[at(j)] + penalties.fixed_l2[at(j)];
  }
  double d(Index j) const { return lambda ? 0.0 : penalties.fixed_l2[at(j)]; }
};

/// sqrt(w_i) (xhat_ij - mean_j) on the rows with weight.
void weighted_column(const Columns& columns, const RidgeGroup& group, Index j, double* out) {
  const RowWeighting& rows = *group.rows;
  const double* x = rows.column(columns, j);
  const double mean = group.intercept ? rows.column_mean(j) : 0.0;
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    const std::size_t row = at(rows.rows[i]);
    out[i] = std::sqrt(rows.weight[row]) * (x[row] - mean);
  }
}

/// Takes the span of Q off x (m) twice; adds the coefficients to c.
void project(const RidgeGroup& group, double* x, double* c) {
  const Index m = group.m, r = m > 0 ? static_cast<Index>(group.Q.size()) / m : 0;
  for (int pass = 0; pass < 2; ++pass) {
    for (Index k = 0; k < r; ++k) {
      const double* q = group.Q.data() + k * m;
      const double f = dot(m, q, x);
      c[k] += f;
      for (Index i = 0; i < m; ++i) x[i] -= f * q[i];
    }
  }
}

/// True, with the common value, if d_j / v_j * unit is the same for all features.
bool common_ratio(const std::vector<double>& delta, double* value) {
  if (delta.empty()) {
    *value = 0.0;
    return true;
  }
  const auto [least, most] = std::minmax_element(delta.begin(), delta.end());
  *value = 0.5 * (*least + *most);
  return *most - *least <= 8.0 * kEps * *most;  // a few roundings of d / v
}

/// No column is centred directly, and every feature has v_j > 0 and no d_j.
bool is_plain(const Columns& columns, const RowWeighting& rows, const Penalties& penalties) {
  if (!rows.direct.empty()) return false;
  for (Index j = 0; j < columns.n_features(); ++j) {
    if (penalties.excluded[at(j)] || !(penalties.l2[at(j)] > 0.0)) return false;
    if (penalties.fixed_l2[at(j)] != 0.0) return false;
  }
  return true;
}

}  // namespace

bool one_system_per_lambda(const Columns& columns, const RowWeighting& rows,
                           const Penalties& penalties, Index n_lambdas) {
  const double n = static_cast<double>(rows.rows.size());
  double p = 0.0;
  std::vector<double> ratio;
  for (Index j = 0; j < columns.n_features(); ++j) {
    const double v = penalties.l2[at(j)];
    if (penalties.excluded[at(j)] || v == 0.0) continue;
    p += 1.0;
    ratio.push_back(penalties.fixed_l2[at(j)] / v);
  }
  double value = 0.0;
  if (common_ratio(ratio, &value)) return false;
  // Flops: a Gram matrix, and 8 k^3 for k eigenpairs (k = 900: 0.115 s at 50 GFLOP/s).
  const double column_side = n * p * p + 8.0 * p * p * p;
  const double row_side = static_cast<double>(n_lambdas) * (n * n * p + 8.0 * n * n * n);
  return row_side < column_side;
}

RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept,
                            std::optional<double> fixed_lambda) {
  RidgeGroup group;
  group.rows = &rows;
  group.penalties = &penalties;
  group.intercept = intercept;
  group.fixed_lambda = fixed_lambda;
  const Factors factors{penalties, fixed_lambda};
  const Index n_rows = static_cast<Index>(rows.rows.size());

  // Unpenalised features first: a dependent one among them is dropped, one with its own ridge
  // never is.
  std::vector<Index> unpenalised, ridged;
  double least = std::numeric_limits<double>::infinity();
  for (Index j = 0; j < columns.n_features(); ++j) {
    if (penalties.excluded[at(j)]) continue;
    const double v = factors.v(j);
    if (v > 0.0) {
      group.features.push_back(j);
      least = std::min(least, v);
    } else {
      (factors.d(j) > 0.0 ? ridged : unpenalised).push_back(j);
    }
  }
  if (!group.features.empty()) group.unit = std::ldexp(1.0, std::ilogb(least));
  group.m = n_rows + static_cast<Index>(ridged.size());
  const Index m = group.m, p = static_cast<Index>(group.features.size());

  const Index n_first = static_cast<Index>(unpenalised.size());
  std::vector<Index> candidates(unpenalised);
  candidates.insert(candidates.end(), ridged.begin(), ridged.end());
  std::vector<std::vector<double>> columns_of_r;
  std::vector<double> x(at(m));
  for (std::size_t k = 0; k < candidates.size(); ++k) {
    std::fill(x.begin(), x.end(), 0.0);
    weighted_column(columns, group, candidates[k], x.data());
    const Index own = static_cast<Index>(k) - n_first;
    if (own >= 0) x[at(n_rows + own)] = std::sqrt(factors.d(candidates[k]));
    const double before = dot(m, x.data(), x.data());
    std::vector<double> c(group.eliminated.size() + 1, 0.0);
    project(group, x.data(), c.data());
    const double after = dot(m, x.data(), x.data());
    // The rule of Projector, so that the certificate sees the same span.
    if (!(after > 1e-20 * before)) {
      group.eliminated_deficient = true;
      continue;
    }
    c.back() = std::sqrt(after);
    for (double& value : x) value /= c.back();
    group.Q.insert(group.Q.end(), x.begin(), x.end());
    group.eliminated.push_back(candidates[k]);
    group.unpenalised.push_back(own < 0 ? 1 : 0);
    columns_of_r.push_back(std::move(c));
  }
  const Index r = group.n_eliminated();
  group.R.assign(at(r * r), 0.0);
  for (Index k = 0; k < r; ++k) {
    std::copy(columns_of_r[at(k)].begin(), columns_of_r[at(k)].end(), group.R.begin() + k * r);
  }

  Index size = 0;
  if (__builtin_mul_overflow(m, p, &size) || size > (Index{1} << 58)) {
    throw Error(Errc::kOutOfMemory, "ridge: X must fit the address space, got " +
                                        std::to_string(m) + " x " + std::to_string(p));
  }
  RidgeSystem& system = group.system;
  system.m = m;
  system.p = p;
  system.A.assign(at(size), 0.0);
  system.delta.resize(at(p));
  group.root.resize(at(p));
  group.QA.assign(at(r * p), 0.0);
  bool any_delta = false;
  for (Index k = 0; k < p; ++k) {
    const Index j = group.features[at(k)];
    const double v = factors.v(j) / group.unit;
    group.root[at(k)] = std::sqrt(v);
    system.delta[at(k)] = factors.d(j) / v;
    any_delta = any_delta || system.delta[at(k)] > 0.0;
    double* a = system.A.data() + k * m;
    weighted_column(columns, group, j, a);
    for (Index i = 0; i < n_rows; ++i) a[i] /= group.root[at(k)];
    if (r > 0) project(group, a, group.QA.data() + k * r);
  }
  if (!any_delta) system.delta.clear();
  double common = 0.0;
  if (common_ratio(system.delta, &common)) {
    group.shift = common;
    system.delta.clear();
  }
  return group;
}

bool products_suffice(const Columns& columns, const RowWeighting& rows,
                      const Penalties& penalties) {
  return static_cast<Index>(rows.rows.size()) < columns.n_features() &&
         is_plain(columns, rows, penalties);
}

bool all_but_some_suffice(const Columns& columns, const RowWeighting& rows,
                          const Penalties& penalties) {
  const Index m = static_cast<Index>(rows.rows.size());
  return m >= columns.n_features() && 2 * m >= columns.n_samples() &&
         std::all_of(
             rows.rows.begin(), rows.rows.end(),
             [&](Index i) { return rows.weight[at(i)] == rows.weight[at(rows.rows.front())]; }) &&
         is_plain(columns, rows, penalties);
}

RowProducts make_row_products(const Columns& columns, const Penalties& penalties) {
  const Index n = columns.n_samples(), p = columns.n_features();
  RowProducts out;
  out.l2 = penalties.l2;
  const double least = *std::min_element(out.l2.begin(), out.l2.end());
  out.unit = std::ldexp(1.0, std::ilogb(least));
  out.K.assign(at(n * n), 0.0);
  const auto is_unit = [&](double v) { return v == out.unit; };
  const bool plain = std::all_of(out.l2.begin(), out.l2.end(), is_unit);
  if (plain) blas::syrk_rows_lower(n, p, 1.0, columns.matrix(), n, 0.0, out.K.data(), n);
  std::vector<double> panel(plain ? 0 : at(n * std::min(p, kPanelColumns)));
  for (Index first = 0; !plain && first < p; first += kPanelColumns) {
    const Index width = std::min(kPanelColumns, p - first);
    for (Index k = 0; k < width; ++k) {
      const double* x = columns.column(first + k);
      const double root = std::sqrt(out.l2[at(first + k)] / out.unit);
      for (Index i = 0; i < n; ++i) panel[at(k * n + i)] = x[i] / root;
    }
    blas::syrk_rows_lower(n, width, 1.0, panel.data(), n, 1.0, out.K.data(), n);
  }
  blas::mirror_lower(n, out.K.data(), n);
  return out;
}

std::vector<std::vector<double>> mean_products(const Columns& columns, const RowProducts& products,
                                               std::span<const RowWeighting* const> rows) {
  const Index n = columns.n_samples(), p = columns.n_features();
  const Index count = static_cast<Index>(rows.size());
  std::vector<double> sums(at(n * count), 0.0), scaled(at(kColumnBlock * count));
  for (Index first = 0; first < p; first += kColumnBlock) {
    const Index width = std::min(kColumnBlock, p - first);
    std::vector<const double*> x;
    for (Index j = first; j < first + width; ++j) {
      x.push_back(columns.column(j));
      for (Index c = 0; c < count; ++c) {
        scaled[at((j - first) * count + c)] =
            rows[at(c)]->mean[at(j)] / (products.l2[at(j)] / products.unit);
      }
    }
    simd().update(n, x.data(), width, scaled.data(), count, sums.data(), n);
  }
  std::vector<std::vector<double>> out;
  for (Index c = 0; c < count; ++c) {
    out.emplace_back(sums.begin() + c * n, sums.begin() + (c + 1) * n);
  }
  return out;
}

RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept, const RowProducts& products,
                            const std::vector<double>& mean_products) {
  const Index n = columns.n_samples(), p = columns.n_features();
  const Index m = static_cast<Index>(rows.rows.size());
  RidgeGroup group;
  group.mean_products = intercept ? mean_products : std::vector<double>(at(n), 0.0);
  group.rows = &rows;
  group.penalties = &penalties;
  group.intercept = intercept;
  group.unit = products.unit;
  group.m = m;
  group.features.resize(at(p));
  group.root.resize(at(p));
  for (Index j = 0; j < p; ++j) {
    const double v = products.l2[at(j)] / group.unit;
    group.features[at(j)] = j;
    group.root[at(j)] = std::sqrt(v);
    if (intercept) group.mean_square += rows.mean[at(j)] * (rows.mean[at(j)] / v);
  }

  RidgeSystem& system = group.system;
  system.m = m;
  system.p = p;
  prediction_products(group, products, rows.rows, system.K);
  // Entry (i, j) is off by (p + 32) u (|x_i| + |mean|) (|x_j| + |mean|) times the weights' roots:
  // p products and sums in each of its four terms, and a few roundings, those of A included.
  const double mean_norm = std::sqrt(group.mean_square);
  for (Index k = 0; k < m; ++k) {
    const Index i = rows.rows[at(k)];
    const double w = rows.weight[at(i)], root_w = std::sqrt(w);
    for (Index j = 0; j < m; ++j) system.K[at(j * m + k)] *= root_w;
    const double norm = std::sqrt(products.K[at(i * n + i)]) + mean_norm;
    group.square += w * norm * norm;
  }
  system.K_error = 0.5 * kEps * static_cast<double>(p + 32) * group.square;
  return group;
}

RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept,
                            const std::vector<double>& gram) {
  const Index n = columns.n_samples(), p = columns.n_features();
  RidgeGroup group;
  group.rows = &rows;
  group.penalties = &penalties;
  group.intercept = intercept;
  group.m = static_cast<Index>(rows.rows.size());
  const double least = *std::min_element(penalties.l2.begin(), penalties.l2.end());
  group.unit = std::ldexp(1.0, std::ilogb(least));
  for (Index i = 0; i < n; ++i) {
    if (!(rows.weight[at(i)] > 0.0)) group.left_out.push_back(i);
  }
  const Index h = static_cast<Index>(group.left_out.size());
  // A rounding for each term of both sums and of the mean, and a few more.
  group.left_error = 0.5 * kEps * static_cast<double>(2 * n + 32);
  const double w = rows.weight[at(rows.rows.front())];
  group.features.resize(at(p));
  group.root.resize(at(p));
  group.left_values.resize(at(h * p));
  double squares = 0.0;
  for (Index j = 0; j < p; ++j) {
    group.features[at(j)] = j;
    group.root[at(j)] = std::sqrt(penalties.l2[at(j)] / group.unit);
    const double* x = columns.column(j);
    double* left = group.left_values.data() + j * h;
    for (Index i = 0; i < h; ++i) left[i] = x[group.left_out[at(i)]];
    const double mean = intercept ? std::fabs(rows.mean[at(j)]) : 0.0;
    const double s = (std::sqrt(w * gram[at(j * p + j)]) + mean) / group.root[at(j)];
    squares += s * s;
  }
  group.size = std::sqrt(squares);

  RidgeSystem& system = group.system;
  system.m = group.m;
  system.p = p;
  system.K.resize(gram.size());
  blas::syrk_lower(p, h, 1.0, group.left_values.data(), h, 0.0, system.K.data(), p);
  for (Index k = 0; k < p; ++k) {
    const double mean = intercept ? rows.mean[at(k)] : 0.0;
    for (Index j = k; j < p; ++j) {
      double& value = system.K[at(k * p + j)];
      value = (w * (gram[at(k * p + j)] - value) - rows.mean[at(j)] * mean) /
              (group.root[at(j)] * group.root[at(k)]);
    }
  }
  blas::mirror_lower(p, system.K.data(), p);
  // Entry (j, k) is off by that of s_j s_k / (root_j root_k).
  system.K_error = group.left_error * squares;
  return group;
}

void response_products(const RidgeGroup& group, const std::vector<const Problem*>& problems,
                       const std::vector<const double*>& whole, double* out, double* errors) {
  const RowWeighting& rows = *group.rows;
  const Index p = static_cast<Index>(group.features.size()),
              n = static_cast<Index>(rows.weight.size());
  const Index h = static_cast<Index>(group.left_out.size());
  const Index count = static_cast<Index>(problems.size());
  const double w = rows.weight[at(rows.rows.front())];
  std::vector<double> left(at(h * count));
  for (Index c = 0; c < count; ++c) {
    const std::vector<double>& y = problems[at(c)]->y->value;
    for (Index i = 0; i < h; ++i) left[at(c * h + i)] = y[at(group.left_out[at(i)])];
  }
  blas::gemm(true, false, p, count, h, -1.0, group.left_values.data(), h, left.data(), h, 0.0, out,
             p);
  for (Index c = 0; c < count; ++c) {
    const Problem& one = *problems[at(c)];
    double* a = out + c * p;
    for (Index j = 0; j < p; ++j) {
      const double mean = group.intercept ? rows.mean[at(j)] : 0.0;
      a[j] = (w * (whole[at(c)][j] + a[j]) - mean * one.y_mean) / group.root[at(j)];
    }
    const double* y = one.y->value.data();
    errors[c] =
        group.left_error * group.size * (std::sqrt(w * dot(n, y, y)) + std::fabs(one.y_mean));
  }
}

void prediction_products(const RidgeGroup& group, const RowProducts& products,
                         const std::vector<Index>& rows, std::vector<double>& H) {
  const std::vector<double>& c = group.mean_products;
  const Index n = static_cast<Index>(c.size()), h = static_cast<Index>(rows.size());
  H.resize(at(h * group.m));
  for (Index k = 0; k < group.m; ++k) {
    const Index j = group.rows->rows[at(k)];
    const double root_w = std::sqrt(group.rows->weight[at(j)]);
    const double* column = products.K.data() + j * n;
    for (Index i = 0; i < h; ++i) {
      const Index row = rows[at(i)];
      H[at(k * h + i)] = root_w * (column[row] - c[at(row)] - c[at(j)] + group.mean_square);
    }
  }
}

void row_products(const Columns& columns, const RidgeGroup& group, const std::vector<double>& row,
                  double* out) {
  const Index n = columns.n_samples(), p = columns.n_features();
  std::vector<double> scaled(at(p)), products(at(n));
  for (Index j = 0; j < p; ++j) {
    scaled[at(j)] = row[at(j)] / (group.root[at(j)] * group.root[at(j)]);
  }
  blas::gemv(false, n, p, 1.0, columns.matrix(), n, scaled.data(), 0.0, products.data());
  const double of_mean = group.intercept ? dot(p, group.rows->mean.data(), scaled.data()) : 0.0;
  for (Index k = 0; k < group.m; ++k) {
    const std::size_t i = at(group.rows->rows[at(k)]);
    out[k] = std::sqrt(group.rows->weight[i]) * (products[i] - of_mean);
  }
}

void products_coefficients(const Columns& columns, const RidgeGroup& group,
                           const SpectrumBackend& backend, Index count, const double* alpha,
                           std::vector<double>& beta, double* sum,
                           const std::function<void(Index first, Index size)>& use) {
  const Index n = columns.n_samples(), p = columns.n_features();
  std::vector<double> weighted(at(n * count), 0.0);
  for (Index c = 0; c < count; ++c) {
    for (Index k = 0; k < group.m; ++k) {
      const Index i = group.rows->rows[at(k)];
      weighted[at(c * n + i)] = std::sqrt(group.rows->weight[at(i)]) * alpha[c * group.m + k];
    }
  }
  std::fill_n(sum, count, 0.0);
  for (Index c = 0; group.intercept && c < count; ++c) {
    for (Index i = 0; i < n; ++i) sum[c] += weighted[at(c * n + i)];
  }
  const Index n_panels = (p + kPanelColumns - 1) / kPanelColumns;  // about equal ones
  for (Index panel = 0; panel < n_panels; ++panel) {
    const Index first = panel * p / n_panels, size = (panel + 1) * p / n_panels - first;
    beta.resize(at(size * count));
    backend.correlate(n, size, columns.matrix() + first * n, count, weighted.data(), beta.data());
    use(first, size);
  }
}

void weighted_response(const RidgeGroup& group, const Problem& problem, double* y, double* c) {
  const RowWeighting& rows = *group.rows;
  std::fill(y, y + group.m, 0.0);
  std::fill(c, c + group.n_eliminated(), 0.0);
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    const std::size_t row = at(rows.rows[i]);
    y[i] = std::sqrt(rows.weight[row]) * (problem.y->value[row] - problem.y_mean);
  }
  project(group, y, c);
}

void prediction_rows(const Columns& columns, const RidgeGroup& group,
                     const std::vector<Index>& rows, std::vector<double>& H,
                     std::vector<double>& constant) {
  const RowWeighting& weighting = *group.rows;
  const Index h = static_cast<Index>(rows.size());
  const auto fill = [&](Index j, double divisor, double* out) {
    const bool direct = weighting.direct_index(j) >= 0;
    const double* x = weighting.column(columns, j);
    const double mean = group.intercept ? weighting.column_mean(j) : 0.0;
    // A directly centred column holds nothing on rows without weight: their values come from X,
    // minus what the centring subtracted.
    double shift = 0.0;
    const int k = columns.exponent(j);
    if (direct) {
      const Index first = weighting.rows.front();
      shift = std::ldexp(element(columns.source(), first, j), -k) - x[first];
    }
    for (Index i = 0; i < h; ++i) {
      const Index row = rows[at(i)];
      const double value = direct && !(weighting.weight[at(row)] > 0.0)
                               ? std::ldexp(element(columns.source(), row, j), -k) - shift
                               : x[row] - mean;
      out[i] = value / divisor;
    }
  };
  const Index p = static_cast<Index>(group.features.size()), r = group.n_eliminated();
  H.assign(at(h * p), 0.0);
  constant.assign(at(h * r), 0.0);
  for (Index k = 0; k < r; ++k) fill(group.eliminated[at(k)], 1.0, constant.data() + k * h);
  std::vector<double> share(at(r));
  for (Index k = 0; k < p; ++k) {
    double* out = H.data() + k * h;
    fill(group.features[at(k)], group.root[at(k)], out);
    if (r == 0) continue;
    std::copy_n(group.QA.data() + k * r, r, share.data());
    solve_eliminated(group, share.data());
    for (Index e = 0; e < r; ++e) {
      for (Index i = 0; i < h; ++i) out[i] -= constant[at(e * h + i)] * share[at(e)];
    }
  }
}

void solve_eliminated(const RidgeGroup& group, double* x) {
  const Index r = group.n_eliminated();
  for (Index k = r - 1; k >= 0; --k) {
    x[k] /= group.R[at(k * r + k)];
    for (Index i = 0; i < k; ++i) x[i] -= group.R[at(k * r + i)] * x[k];
  }
}

}  // namespace thresher

#include <algorithm>
#include <memory>

#include "backend/blas.hpp"
#include "backend/cpu_working_set_backend.hpp"
#include "backend/packed_cholesky.hpp"
#include "step.hpp"

namespace thresher::bench {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

/// A pass over X in half precision for `m` right-hand sides, as many at a time as one call takes.
Step half_panels_step(Index n, Index p, Index m) {
  struct Case {
    std::vector<double> X;
    HalfPanels panels;
    std::vector<float> z, c;
  };
  auto given = std::make_shared<Case>(Case{random_values(n * p, -1.0, 1.0, 1), {n, p}, {}, {}});
  for (Index j = 0; j < p; ++j) given->panels.set_column(j, given->X.data() + j * n);
  const std::vector<double> z = random_values(n * m, -1.0, 1.0, 2);
  given->z.assign(z.begin(), z.end());
  const Index padded = given->panels.padded_features();
  given->c.resize(at(padded * m));
  Step step;
  const double passes = real((m + kMaxRightSides - 1) / kMaxRightSides);
  step.work = {passes * 2.0 * real(n * padded) + 4.0 * real((n + padded) * m),
               2.0 * real(n) * real(p) * real(m), 2.0 * real(n * padded), true};
  step.run = [=] {
    for (Index first = 0; first < m; first += kMaxRightSides) {
      given->panels.correlate(std::min(kMaxRightSides, m - first), given->z.data() + n * first,
                              given->c.data() + padded * first);
    }
  };
  // The bound that the certificate relies on.
  step.check = [=]() -> std::string {
    for (Index first = 0; first < m; first += kMaxRightSides) {
      const Index count = std::min(kMaxRightSides, m - first);
      const float* packed = given->z.data() + n * first;
      for (Index b = 0; b < count; ++b) {
        double squares = 0.0;
        for (Index i = 0; i < n; ++i) {
          const double v = static_cast<double>(packed[i * count + b]);
          squares += v * v;
        }
        for (Index j = 0; j < p; ++j) {
          double want = 0.0;
          for (Index i = 0; i < n; ++i) {
            want += given->X[at(j * n + i)] * static_cast<double>(packed[i * count + b]);
          }
          const Index place = padded * (first + b) + j;
          const double bound =
              static_cast<double>(given->panels.slack()[j]) * std::sqrt(squares) * (1.0 + 1e-6);
          const std::string wrong =
              compare("correlation", place, static_cast<double>(given->c[at(place)]), want, bound);
          if (!wrong.empty()) return wrong;
        }
      }
    }
    return {};
  };
  return step;
}

/// X'WX over all rows (`fold` < 0) or without every tenth.
Step gram_step(Index n, Index p, bool fold) {
  struct Case {
    std::vector<double> X;
    ThreadPool pool{1};
    std::unique_ptr<Columns> columns;
    std::vector<std::shared_ptr<const RowWeighting>> rows;
    std::vector<GramMatrix> grams;
  };
  auto given = std::make_shared<Case>();
  given->X = random_values(n * p, -1.0, 1.0, 3);
  const auto view = MatrixView<const double>::column_major(given->X.data(), n, p);
  given->columns =
      std::make_unique<Columns>(view, true, std::vector<std::uint8_t>{}, given->pool, true);
  std::vector<double> weight(at(n), 1.0);
  for (Index i = 0; fold && i < n; i += 10) weight[at(i)] = 0.0;
  given->rows = make_row_weightings(*given->columns, {weight}, given->pool);
  Step step;
  const double m = real(static_cast<Index>(given->rows.front()->rows.size()));
  step.work.bytes = 8.0 * ((fold ? real(n) + 2.0 * m : m) * real(p) + real(p * p));
  step.work.flops = m * real(p) * real(p + 1);
  step.run = [=] { given->grams = make_gram_matrices(*given->columns, given->rows, given->pool); };
  step.check = [=]() -> std::string {
    const RowWeighting& rows = *given->rows.front();
    const Columns& columns = *given->columns;
    for (Index j = 0; j < p; ++j) {
      for (Index k = j; k < p; ++k) {
        const double* x = columns.column(j);
        const double* y = columns.column(k);
        double want = 0.0;
        for (Index i = 0; i < n; ++i) {
          want += rows.weight[at(i)] * (x[i] - rows.mean[at(j)]) * (y[i] - rows.mean[at(k)]);
        }
        const double bound = (real(n) + 16.0) * kEps;  // |xhat| <= 1, weights sum to 1
        for (const Index e : {j * p + k, k * p + j}) {
          const std::string wrong =
              compare("Gram matrix", e, given->grams.front().values[at(e)], want, bound);
          if (!wrong.empty()) return wrong;
        }
      }
    }
    return {};
  };
  return step;
}

/// A positive definite matrix with diagonal near 1, and its factor.
struct CholeskyCase {
  Index k;
  std::vector<double> H;  // (k, k)
  PackedCholesky base, factor;
  std::vector<double> l, b;

  explicit CholeskyCase(Index order) : k(order), H(at(order * order)) {
    const std::vector<double> A = random_values(2 * k * k, -1.0, 1.0, 4);
    blas::gemm(true, false, k, k, 2 * k, 1.5 / real(k), A.data(), 2 * k, A.data(), 2 * k, 0.0,
               H.data(), k);
  }

  /// Empty if H x = rhs to rounding, over the first `order` rows.
  std::string check_solution(const std::vector<double>& x, const std::vector<double>& rhs,
                             Index order) const {
    for (Index i = 0; i < order; ++i) {
      double sum = 0.0, magnitude = std::fabs(rhs[at(i)]);
      for (Index j = 0; j < order; ++j) {
        const double term = H[at(j * k + i)] * x[at(j)];
        sum += term;
        magnitude += std::fabs(term);
      }
      const std::string wrong =
          compare("H x", i, sum, rhs[at(i)], 1e3 * real(k) * kEps * magnitude);
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  bool refactor(Index order, PackedCholesky& out) const {
    std::vector<double> upper(at(order * order));
    for (Index j = 0; j < order; ++j) {
      std::copy_n(H.data() + j * k, order, upper.data() + j * order);
    }
    return out.factor(order, upper.data(), 1e-12);
  }

  /// Solves with the whole factor and checks H x = rhs.
  std::string check_factor() const {
    if (factor.size() != k) return "the factor has the wrong size";
    const std::vector<double> rhs = random_values(k, -1.0, 1.0, 5);
    std::vector<double> x = rhs;
    factor.solve(x.data(), 0);
    return check_solution(x, rhs, k);
  }
};

void register_cholesky(Index k) {
  const std::string order = "/" + std::to_string(k);
  const double half = real(k) * real(k) / 2.0;
  register_step("packed_cholesky.append" + order, [=] {
    auto given = std::make_shared<CholeskyCase>(k);
    given->refactor(k - 1, given->base);
    Step step;
    step.work = {8.0 * half, 2.0 * half};
    step.prepare = [=] { given->factor = given->base; };
    step.run = [=] {
      const double* g = given->H.data() + (k - 1) * k;
      const double squares = given->factor.forward_row(g, given->l);
      given->factor.append(given->l, std::sqrt(g[k - 1] - squares));
    };
    step.check = [=] { return given->check_factor(); };
    return step;
  });
  register_step("packed_cholesky.solve" + order, [=] {
    auto given = std::make_shared<CholeskyCase>(k);
    given->refactor(k, given->factor);
    const std::vector<double> rhs = random_values(k, -1.0, 1.0, 6);
    Step step;
    step.work = {16.0 * half, 4.0 * half, 8.0 * half};
    step.prepare = [=] { given->b = rhs; };
    step.run = [=] { given->factor.solve(given->b.data(), 0); };
    step.check = [=] { return given->check_solution(given->b, rhs, k); };
    return step;
  });
  // Removing the middle row of the matrix that has it twice gives back the factor of H.
  register_step("packed_cholesky.remove" + order, [=] {
    auto given = std::make_shared<CholeskyCase>(k);
    const Index middle = k / 2, one = k + 1;
    std::vector<double> wide(at(one * one));
    const auto place = [=](Index i) { return i < middle ? i : i == middle ? -1 : i - 1; };
    for (Index j = 0; j < one; ++j) {
      for (Index i = 0; i < one; ++i) {
        const Index r = place(i), c = place(j);
        wide[at(j * one + i)] = r < 0 || c < 0 ? (i == j ? 3.0 : 0.01) : given->H[at(c * k + r)];
      }
    }
    given->base.factor(one, wide.data(), 1e-12);
    Step step;
    // k/2 rows: each is rotated in its second half and moved as a whole.
    step.work = {2.0 * 8.0 * 0.75 * half, 6.0 * half / 4.0, 8.0 * half};
    step.prepare = [=] { given->factor = given->base; };
    step.run = [=] { given->factor.remove(std::span(&middle, 1)); };
    step.check = [=] { return given->check_factor(); };
    return step;
  });
  register_step("packed_cholesky.factor" + order, [=] {
    auto given = std::make_shared<CholeskyCase>(k);
    auto upper = std::make_shared<std::vector<double>>();
    Step step;
    step.work = {24.0 * half, real(k) * real(k) * real(k) / 3.0};
    step.prepare = [=] { *upper = given->H; };
    step.run = [=] { given->factor.factor(k, upper->data(), 1e-12); };
    step.check = [=] { return given->check_factor(); };
    return step;
  });
}

/// C = op(A) B, entry by entry against plain sums.
template <class T>
Step gemm_step(bool transposed, Index m, Index n, Index k) {
  struct Case {
    std::vector<T> a, b, c;
  };
  auto given = std::make_shared<Case>();
  const std::vector<double> a = random_values(m * k, -1.0, 1.0, 7);
  const std::vector<double> b = random_values(k * n, -1.0, 1.0, 8);
  given->a.assign(a.begin(), a.end());
  given->b.assign(b.begin(), b.end());
  given->c.resize(at(m * n));
  const Index lda = transposed ? k : m;
  Step step;
  step.work = {static_cast<double>(sizeof(T)) * real(m * k + k * n + m * n),
               2.0 * real(m) * real(n) * real(k), 0.0, sizeof(T) == 4};
  step.run = [=] {
    blas::gemm(transposed, false, m, n, k, T(1), given->a.data(), lda, given->b.data(), k, T(0),
               given->c.data(), m);
  };
  step.check = [=]() -> std::string {
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < m; ++i) {
        double want = 0.0, magnitude = 0.0;
        for (Index l = 0; l < k; ++l) {
          const double term =
              static_cast<double>(given->a[at(transposed ? i * lda + l : l * lda + i)]) *
              static_cast<double>(given->b[at(j * k + l)]);
          want += term;
          magnitude += std::fabs(term);
        }
        const std::string wrong =
            compare("product", j * m + i, static_cast<double>(given->c[at(j * m + i)]), want,
                    2.0 * (real(k) + 2.0) * eps * magnitude);
        if (!wrong.empty()) return wrong;
      }
    }
    return {};
  };
  return step;
}

Step syrk_step(Index n, Index k) {
  auto a = std::make_shared<std::vector<double>>(random_values(k * n, -1.0, 1.0, 9));
  auto c = std::make_shared<std::vector<double>>(at(n * n));
  Step step;
  step.work = {8.0 * (real(k * n) + 0.5 * real(n * n)), real(k) * real(n) * real(n + 1)};
  step.run = [=] { blas::syrk_lower(n, k, 1.0, a->data(), k, 0.0, c->data(), n); };
  step.check = [=]() -> std::string {
    for (Index j = 0; j < n; ++j) {
      for (Index i = j; i < n; ++i) {
        double want = 0.0, magnitude = 0.0;
        for (Index l = 0; l < k; ++l) {
          const double term = (*a)[at(i * k + l)] * (*a)[at(j * k + l)];
          want += term;
          magnitude += std::fabs(term);
        }
        const std::string wrong = compare("A'A", j * n + i, (*c)[at(j * n + i)], want,
                                          2.0 * (real(k) + 2.0) * kEps * magnitude);
        if (!wrong.empty()) return wrong;
      }
    }
    return {};
  };
  return step;
}

}  // namespace

void register_primitive_steps(const Sizes& sizes) {
  const Index n = sizes.of(500, 40), p = sizes.of(20000, 70);
  for (const Index m : {1, 4, 12, 32}) {
    register_step("half_panels.correlate/" + shape(n, p) + "/sides:" + std::to_string(m),
                  [=] { return half_panels_step(n, p, m); });
  }
  const Index tall = sizes.of(5000, 60), narrow = sizes.of(500, 20);
  for (const bool fold : {false, true}) {
    register_step("make_gram_matrices/" + shape(tall, narrow) + (fold ? "/fold" : "/all"),
                  [=] { return gram_step(tall, narrow, fold); });
  }
  register_cholesky(sizes.of(500, 20));
  const Index m = sizes.of(1000, 30), k = sizes.of(500, 20);
  const std::string product = std::to_string(m) + "x" + shape(m, k);
  register_step("blas.gemm/double/" + product, [=] { return gemm_step<double>(false, m, m, k); });
  register_step("blas.gemm/double/transposed/" + product,
                [=] { return gemm_step<double>(true, m, m, k); });
  register_step("blas.gemm/float/" + product, [=] { return gemm_step<float>(false, m, m, k); });
  register_step("blas.syrk/" + shape(tall, narrow), [=] { return syrk_step(narrow, tall); });
}

}  // namespace thresher::bench

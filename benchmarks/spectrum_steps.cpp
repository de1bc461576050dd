#include <algorithm>
#include <cmath>
#include <memory>

#include "backend/spectrum_backend.hpp"
#include "step.hpp"

namespace thresher::bench {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Of many columns every seventh is compared, in all its rows.
constexpr Index kColumnStep = 7;

/// out = P x for a matrix given entry by entry, and the same with absolute values.
struct PlainProduct {
  std::vector<double> value, magnitude;

  template <class Entry, class X>
  PlainProduct(Index rows, Index inner, Entry&& entry, X&& x)
      : value(at(rows)), magnitude(at(rows)) {
    for (Index l = 0; l < inner; ++l) {
      const double factor = x(l);
      for (Index i = 0; i < rows; ++i) {
        const double term = entry(i, l) * factor;
        value[at(i)] += term;
        magnitude[at(i)] += std::fabs(term);
      }
    }
  }
};

/// Column j of `got` (rows, count) against want, to `roundings` of the magnitudes.
std::string compare_column(const char* what, Index rows, Index j, const std::vector<double>& got,
                           const std::vector<double>& want, const std::vector<double>& magnitude,
                           double roundings) {
  for (Index i = 0; i < rows; ++i) {
    const std::string wrong = compare(what, j * rows + i, got[at(j * rows + i)], want[at(i)],
                                      2.0 * roundings * kEps * magnitude[at(i)]);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

struct SpectrumShape {
  Index m = 0, p = 0;  // row space if m < p
  Index n_responses = 0;
  Index count = 0;  // columns of a batch
  Index h = 0;      // rows to be predicted
  bool rows() const { return m < p; }
  Index k() const { return std::min(m, p); }
};

/// A decomposed system with operands of every verb.
struct SpectrumCase {
  SpectrumShape shape;
  RidgeSystem system;
  std::unique_ptr<Spectrum> spectrum;
  std::vector<double> U, Y, Z, defects, T, beta, H, HM, out;
  std::vector<SpectrumColumn> columns;
  std::vector<ShrunkSums> sums;
  std::vector<RidgeMeasure> measures;

  explicit SpectrumCase(const SpectrumShape& given) : shape(given) {
    const Index m = shape.m, p = shape.p, k = shape.k();
    system.m = m;
    system.p = p;
    system.A = random_values(m * p, -1.0, 1.0, 1);
    Y = random_values(m * shape.n_responses, -1.0, 1.0, 2);
    H = random_values(shape.h * p, -1.0, 1.0, 3);
    Z.resize(at(k * shape.n_responses));
    defects.resize(at(shape.n_responses));
    HM.resize(at(shape.h * k));
    T = random_values(k * shape.count, -1.0, 1.0, 4);
    beta.resize(at(p * shape.count));
    sums.resize(at(shape.count));
    measures.resize(at(shape.count));
    for (Index c = 0; c < shape.count; ++c) {
      columns.push_back({c % shape.n_responses, real(m + p) * std::pow(0.98, real(c))});
    }
    decompose();
    take_vectors();
  }

  void decompose() {
    RidgeSystem copy = system;
    spectrum = cpu_spectrum_backend().decompose(std::move(copy), true);
  }
  /// U from the verbs: as it is in row space, by coefficients of the unit vectors in column space.
  void take_vectors() {
    const Index k = shape.k();
    U.assign(at(k * k), 0.0);
    if (shape.rows()) {
      spectrum->sample_vectors(U.data());
    } else {
      std::vector<double> unit(at(k * k), 0.0);
      for (Index i = 0; i < k; ++i) unit[at(i * k + i)] = 1.0;
      spectrum->coefficients(k, unit.data(), U.data());
    }
  }
  double a(Index i, Index j) const { return system.A[at(j * shape.m + i)]; }
  double u(Index i, Index j) const { return U[at(j * shape.k() + i)]; }

  /// U is orthonormal and consists of eigenvectors of the Gram matrix, with these values.
  std::string check_decomposition() const {
    const Index k = shape.k(), inner = shape.rows() ? shape.p : shape.m;
    const std::vector<double>& s = spectrum->values();
    const double top = s.back();
    for (Index j = 0; j < k; j += kColumnStep) {
      const auto u_j = [&](Index i) { return u(i, j); };
      std::vector<double> other(at(inner), 0.0), image(at(k), 0.0), product(at(k), 0.0);
      if (shape.rows()) {
        for (Index l = 0; l < inner; ++l) {
          for (Index i = 0; i < k; ++i) other[at(l)] += a(i, l) * u_j(i);
        }
        for (Index l = 0; l < inner; ++l) {
          for (Index i = 0; i < k; ++i) image[at(i)] += a(i, l) * other[at(l)];
        }
      } else {
        for (Index i = 0; i < k; ++i) {
          for (Index l = 0; l < inner; ++l) other[at(l)] += a(l, i) * u_j(i);
        }
        for (Index i = 0; i < k; ++i) {
          for (Index l = 0; l < inner; ++l) image[at(i)] += a(l, i) * other[at(l)];
        }
      }
      for (Index i = 0; i < k; ++i) {
        std::string wrong = compare("A A' u", j * k + i, image[at(i)], s[at(j)] * u_j(i),
                                    10.0 * real(k + inner) * kEps * top);
        double dot = 0.0;
        for (Index l = 0; l < k; ++l) dot += u(l, i) * u_j(l);
        if (wrong.empty()) {
          wrong = compare("U'U", j * k + i, dot, i == j ? 1.0 : 0.0, 10.0 * real(k) * kEps);
        }
        if (!wrong.empty()) return wrong;
      }
    }
    return {};
  }

  /// M x for one column: A'U x or U x.
  PlainProduct map(const double* x) const {
    const Index k = shape.k();
    PlainProduct ux(
        k, k, [&](Index i, Index l) { return u(i, l); }, [&](Index l) { return x[l]; });
    if (!shape.rows()) return ux;
    const auto entry = [&](Index j, Index i) { return a(i, j); };
    PlainProduct mapped(shape.p, k, entry, [&](Index i) { return ux.value[at(i)]; });
    mapped.magnitude =
        PlainProduct(shape.p, k, entry, [&](Index i) { return ux.magnitude[at(i)]; }).magnitude;
    return mapped;
  }
};

using Given = std::shared_ptr<SpectrumCase>;

/// Bytes of matrices of doubles, by their entries.
double bytes(std::initializer_list<double> entries) {
  double sum = 0.0;
  for (const double e : entries) sum += e;
  return 8.0 * sum;
}

Step decompose_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), m = real(s.m), p = real(s.p);
  Step step;
  // The Gram matrix; reduction to tridiagonal form and the vectors back from it, as LAPACK counts
  // (those of the tridiagonal matrix depend on the data); the defect; in row space the map.
  step.work = {
      bytes({m * p, k * k, s.rows() ? p * k : 0.0}),
      m * p * k + (4.0 / 3.0 + 2.0 + 2.0) * k * k * k + (s.rows() ? 2.0 * m * p * k : 0.0)};
  step.run = [=] { given->decompose(); };
  step.check = [=] {
    given->take_vectors();
    return given->check_decomposition();
  };
  return step;
}

Step rotate_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), m = real(s.m), p = real(s.p), r = real(s.n_responses);
  Step step;
  // U'c and what is left of c; in column space c = A'y.
  step.work = {bytes({2.0 * k * k, m * r, k * r, s.rows() ? 0.0 : m * p}),
               4.0 * k * k * r + (s.rows() ? 0.0 : 2.0 * m * p * r)};
  step.run = [=] {
    given->spectrum->rotate(given->shape.n_responses, given->Y.data(), given->Z.data(),
                            given->defects.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    const Index order = c.shape.k();
    for (Index j = 0; j < c.shape.n_responses; j += kColumnStep) {
      const double* y = c.Y.data() + j * c.shape.m;
      const auto entry = [&](Index i, Index l) { return c.a(l, i); };
      const auto of_y = [&](Index l) { return y[l]; };
      const PlainProduct made(order, c.shape.rows() ? 0 : c.shape.m, entry, of_y);
      const auto from = [&](Index l) { return c.shape.rows() ? y[l] : made.value[at(l)]; };
      const auto size = [&](Index l) {
        return c.shape.rows() ? std::fabs(y[l]) : made.magnitude[at(l)];
      };
      const auto transposed = [&](Index i, Index l) { return c.u(l, i); };
      const PlainProduct want(order, order, transposed, from), most(order, order, transposed, size);
      std::string wrong = compare_column("rotated response", order, j, c.Z, want.value,
                                         most.magnitude, real(order + c.shape.m + 4));
      const double* z = c.Z.data() + j * order;
      const PlainProduct back(
          order, order, [&](Index i, Index l) { return c.u(i, l); }, [&](Index l) { return z[l]; });
      double squares = 0.0, whole = 0.0;
      for (Index i = 0; i < order; ++i) {
        squares += (from(i) - back.value[at(i)]) * (from(i) - back.value[at(i)]);
        whole += from(i) * from(i);
      }
      const double left = std::sqrt(squares), bound = c.defects[at(j)];
      // A bound, but not an idle one.
      if (wrong.empty() && !(bound >= 0.5 * left)) wrong = "a defect is too small";
      if (wrong.empty() && !(bound <= 1e-8 * std::sqrt(whole))) wrong = "a defect is too large";
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

Step shrink_step(const Given& given) {
  given->spectrum->rotate(given->shape.n_responses, given->Y.data(), given->Z.data(),
                          given->defects.data());
  const double entries = real(given->shape.k() * given->shape.count);
  Step step;
  step.work = {16.0 * entries, 10.0 * entries};
  step.run = [=] {
    given->spectrum->shrink(given->columns, given->Z.data(), given->T.data(), given->sums.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    const Index k = c.shape.k();
    const std::vector<double>& s = c.spectrum->values();
    for (Index j = 0; j < c.shape.count; ++j) {
      const SpectrumColumn& column = c.columns[at(j)];
      double tt = 0.0, stt = 0.0, zt = 0.0, zz = 0.0;
      std::string wrong;
      for (Index i = 0; wrong.empty() && i < k; ++i) {
        const double z = c.Z[at(column.response * k + i)], t = z / (s[at(i)] + column.lambda);
        wrong = compare("shrunken", j * k + i, c.T[at(j * k + i)], t, 4.0 * kEps * std::fabs(t));
        tt += t * t;
        stt += s[at(i)] * t * t;
        zt += z * t;
        zz += z * z;
      }
      const double bound = 2.0 * real(k + 8) * kEps;
      const ShrunkSums& found = c.sums[at(j)];
      if (wrong.empty()) wrong = compare("sum of t t", j, found.tt, tt, bound * tt);
      if (wrong.empty()) wrong = compare("sum of s t t", j, found.stt, stt, bound * stt);
      if (wrong.empty()) wrong = compare("sum of z t", j, found.zt, zt, bound * zt);
      if (wrong.empty()) wrong = compare("sum of z z", j, found.zz, zz, bound * zz);
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

Step map_rows_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), m = real(s.m), p = real(s.p), h = real(s.h);
  Step step;
  step.work = {bytes({h * p, s.rows() ? m * p : 0.0, k * k, h * k}),
               2.0 * h * (s.rows() ? m * p + k * k : k * k)};
  step.run = [=] { given->spectrum->map_rows(given->shape.h, given->H.data(), given->HM.data()); };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    std::vector<double> unit(at(c.shape.k()), 0.0);
    for (Index j = 0; j < c.shape.k(); j += kColumnStep) {
      unit[at(j)] = 1.0;
      const PlainProduct column = c.map(unit.data());
      unit[at(j)] = 0.0;
      const auto entry = [&](Index i, Index l) { return c.H[at(l * c.shape.h + i)]; };
      const PlainProduct want(c.shape.h, c.shape.p, entry,
                              [&](Index l) { return column.value[at(l)]; });
      // The engine's sums may run over samples first: |H||A'||U|.
      const PlainProduct most(c.shape.h, c.shape.p, entry,
                              [&](Index l) { return column.magnitude[at(l)]; });
      const std::string wrong = compare_column("H M", c.shape.h, j, c.HM, want.value,
                                               most.magnitude, real(c.shape.m + c.shape.p + 4));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

/// out = left right, with `left` (rows, inner) and `right` (inner, count): a verb that is a
/// product.
Step product_step(const Given& given, Index rows, Index inner, const std::vector<double>& left,
                  const std::vector<double>& right, std::function<void()> run) {
  const double r = real(rows), k = real(inner), count = real(given->shape.count);
  given->out.resize(at(rows * given->shape.count));
  Step step;
  step.work = {bytes({r * k, k * count, r * count}), 2.0 * r * k * count};
  step.run = std::move(run);
  step.check = [=, &left, &right]() -> std::string {
    for (Index j = 0; j < given->shape.count; j += kColumnStep) {
      const PlainProduct want(
          rows, inner, [&](Index i, Index l) { return left[at(l * rows + i)]; },
          [&](Index l) { return right[at(j * inner + l)]; });
      const std::string wrong = compare_column("product", rows, j, given->out, want.value,
                                               want.magnitude, real(inner + 2));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

Step predict_step(const Given& given) {
  given->HM = random_values(given->shape.h * given->shape.k(), -1.0, 1.0, 5);
  return product_step(given, given->shape.h, given->shape.k(), given->HM, given->T, [=] {
    given->spectrum->predict(given->shape.h, given->shape.k(), given->HM.data(), given->shape.count,
                             given->T.data(), given->out.data());
  });
}

Step predict_from_step(const Given& given) {
  given->beta = random_values(given->shape.p * given->shape.count, -1.0, 1.0, 5);
  return product_step(given, given->shape.h, given->shape.p, given->H, given->beta, [=] {
    given->spectrum->predict_from(given->shape.h, given->H.data(), given->shape.count,
                                  given->beta.data(), given->out.data());
  });
}

Step coefficients_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), p = real(s.p), count = real(s.count);
  Step step;
  step.work = {bytes({p * k, k * count, p * count}), 2.0 * p * k * count};
  step.run = [=] {
    given->spectrum->coefficients(given->shape.count, given->T.data(), given->beta.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    for (Index j = 0; j < c.shape.count; j += kColumnStep) {
      const PlainProduct want = c.map(c.T.data() + j * c.shape.k());
      const std::string wrong = compare_column("coefficients", c.shape.p, j, c.beta, want.value,
                                               want.magnitude, real(c.shape.m + c.shape.p + 4));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

/// From points that are a thousandth off, so that there is a gap to be measured and a step to take.
Step refine_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), m = real(s.m), p = real(s.p), count = real(s.count);
  given->spectrum->rotate(s.n_responses, given->Y.data(), given->Z.data(), given->defects.data());
  given->spectrum->shrink(given->columns, given->Z.data(), given->T.data(), given->sums.data());
  const std::vector<double> off = random_values(s.k() * s.count, 0.999, 1.001, 6);
  std::transform(off.begin(), off.end(), given->T.begin(), given->T.begin(), std::multiplies<>());
  given->spectrum->coefficients(s.count, given->T.data(), given->beta.data());
  const std::vector<double> T = given->T, beta = given->beta;
  Step step;
  // A beta; in column space A'r; U' of that; M of what it gives.
  step.work = {bytes({s.rows() ? m * p + k * k + p * k : 2.0 * m * p + 2.0 * k * k, 2.0 * k * count,
                      2.0 * p * count, m * count}),
               2.0 * count * (m * p * (s.rows() ? 1.0 : 2.0) + k * k + p * k)};
  step.prepare = [=] {
    given->T = T;
    given->beta = beta;
  };
  step.run = [=] {
    given->spectrum->refine(given->columns, given->Y.data(), given->T.data(), given->beta.data(),
                            given->measures.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    const Index rows = c.shape.m, features = c.shape.p;
    for (Index j = 0; j < c.shape.count; j += kColumnStep) {
      const double lambda = c.columns[at(j)].lambda;
      const double* y = c.Y.data() + c.columns[at(j)].response * rows;
      const auto residual = [&](const std::vector<double>& b) {
        std::vector<double> r = PlainProduct(
                                    rows, features, [&](Index i, Index l) { return c.a(i, l); },
                                    [&](Index l) { return b[at(j * features + l)]; })
                                    .value;
        for (Index i = 0; i < rows; ++i) r[at(i)] = y[i] - r[at(i)];
        return r;
      };
      const auto squares = [](const double* v, Index size) {
        double sum = 0.0;
        for (Index i = 0; i < size; ++i) sum += v[i] * v[i];
        return sum;
      };
      const std::vector<double> before = residual(beta), after = residual(c.beta);
      const double yy = squares(y, rows);
      const double penalty = 0.5 * lambda * squares(beta.data() + j * features, features);
      const double primal = 0.5 * squares(before.data(), rows) + penalty;
      const double least = 0.5 * squares(after.data(), rows) +
                           0.5 * lambda * squares(c.beta.data() + j * features, features);
      const RidgeMeasure& found = c.measures[at(j)];
      const double bound = 10.0 * real(rows + features) * kEps * yy;
      std::string wrong =
          compare("residual", j, found.residual, squares(before.data(), rows), bound);
      if (wrong.empty()) wrong = compare("penalty", j, found.penalty, penalty, bound);
      // The refined point is the minimum to rounding: stationary, and the gap reaches it.
      for (Index l = 0; wrong.empty() && l < features; ++l) {
        double g = 0.0;
        for (Index i = 0; i < rows; ++i) g += c.a(i, l) * after[at(i)];
        wrong = compare("gradient", j * features + l, g, lambda * c.beta[at(j * features + l)],
                        1e2 * real(rows + features) * kEps * std::sqrt(yy * real(rows)));
      }
      if (wrong.empty() && !(found.gap >= primal - least - bound)) wrong = "a gap is too small";
      if (wrong.empty() && !(found.gap <= 1e-3 * yy)) wrong = "a gap is too large";
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

Step sample_vectors_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double k = real(s.k()), m = real(s.m), p = real(s.p);
  given->out.resize(at(s.m * s.k()));
  Step step;
  if (s.rows()) {
    step.work = {bytes({2.0 * k * k}), 0.0};
  } else {
    step.work = {bytes({m * p, k * k, m * k}), 2.0 * m * p * k};
  }
  step.run = [=] { given->spectrum->sample_vectors(given->out.data()); };
  step.check = [=]() -> std::string {
    SpectrumCase& c = *given;
    if (c.shape.rows()) {
      c.U = c.out;
      return c.check_decomposition();
    }
    for (Index j = 0; j < c.shape.k(); j += kColumnStep) {
      const PlainProduct want(
          c.shape.m, c.shape.p, [&](Index i, Index l) { return c.a(i, l); },
          [&](Index l) { return c.u(l, j); });
      const std::string wrong = compare_column("A U", c.shape.m, j, c.out, want.value,
                                               want.magnitude, real(c.shape.p + 2));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

/// Y - A B, A the system's matrix.
Step residuals_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double m = real(s.m), p = real(s.p), count = real(s.count);
  given->beta = random_values(s.p * s.count, -1.0, 1.0, 5);
  const std::vector<double> start = random_values(s.m * s.count, -1.0, 1.0, 6);
  Step step;
  step.work = {bytes({m * p, p * count, 2.0 * m * count}), 2.0 * m * p * count};
  step.prepare = [=] { given->out = start; };
  step.run = [=] {
    cpu_spectrum_backend().residuals(given->shape.m, given->shape.p, given->system.A.data(),
                                     given->shape.count, given->beta.data(), given->out.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    for (Index j = 0; j < c.shape.count; j += kColumnStep) {
      PlainProduct want(
          c.shape.m, c.shape.p, [&](Index i, Index l) { return c.a(i, l); },
          [&](Index l) { return c.beta[at(j * c.shape.p + l)]; });
      for (Index i = 0; i < c.shape.m; ++i) {
        want.value[at(i)] = start[at(j * c.shape.m + i)] - want.value[at(i)];
        want.magnitude[at(i)] += 1.0;
      }
      const std::string wrong = compare_column("residual", c.shape.m, j, c.out, want.value,
                                               want.magnitude, real(c.shape.p + 4));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

/// A'Z.
Step correlate_step(const Given& given) {
  const SpectrumShape& s = given->shape;
  const double m = real(s.m), p = real(s.p), count = real(s.count);
  const std::vector<double> from = random_values(s.m * s.count, -1.0, 1.0, 6);
  given->out.resize(at(s.p * s.count));
  Step step;
  step.work = {bytes({m * p, m * count, p * count}), 2.0 * m * p * count};
  step.run = [=] {
    cpu_spectrum_backend().correlate(given->shape.m, given->shape.p, given->system.A.data(),
                                     given->shape.count, from.data(), given->out.data());
  };
  step.check = [=]() -> std::string {
    const SpectrumCase& c = *given;
    for (Index j = 0; j < c.shape.count; j += kColumnStep) {
      const PlainProduct want(
          c.shape.p, c.shape.m, [&](Index i, Index l) { return c.a(l, i); },
          [&](Index l) { return from[at(j * c.shape.m + l)]; });
      const std::string wrong = compare_column("A'Z", c.shape.p, j, c.out, want.value,
                                               want.magnitude, real(c.shape.m + 2));
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

/// How many Lanczos steps it takes is not reported: nothing is counted.
Step top_eigenvalue_step(const Given& given) {
  Step step;
  given->out.resize(1);
  step.run = [=] { given->out[0] = cpu_spectrum_backend().top_eigenvalue(given->system); };
  step.check = [=]() -> std::string {
    const double want = given->spectrum->values().back();
    const std::string wrong = given->check_decomposition();
    return wrong.empty() ? compare("top eigenvalue", 0, given->out[0], want, 1e-9 * want) : wrong;
  };
  return step;
}

}  // namespace

void register_spectrum_steps(const Sizes& sizes) {
  const std::pair<const char*, Step (*)(const Given&)> verbs[] = {
      {"spectrum_backend.decompose", decompose_step},
      {"spectrum_backend.residuals", residuals_step},
      {"spectrum_backend.correlate", correlate_step},
      {"spectrum_backend.top_eigenvalue", top_eigenvalue_step},
      {"spectrum.rotate", rotate_step},
      {"spectrum.shrink", shrink_step},
      {"spectrum.map_rows", map_rows_step},
      {"spectrum.predict", predict_step},
      {"spectrum.predict_from", predict_from_step},
      {"spectrum.coefficients", coefficients_step},
      {"spectrum.refine", refine_step},
      {"spectrum.sample_vectors", sample_vectors_step}};
  SpectrumShape wide;
  wide.m = sizes.of(500, 20);
  wide.p = sizes.of(2000, 45);
  wide.n_responses = sizes.of(100, 9);
  wide.count = sizes.of(500, 15);
  wide.h = sizes.of(100, 8);
  SpectrumShape tall = wide;
  std::swap(tall.m, tall.p);
  for (const SpectrumShape& system : {wide, tall}) {
    for (const auto& [verb, make] : verbs) {
      register_step(std::string(verb) + "/" + shape(system.m, system.p),
                    [=, make = make] { return make(std::make_shared<SpectrumCase>(system)); });
    }
  }
}

}  // namespace thresher::bench

#include "backend/spectrum_backend.hpp"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "ridge_case.hpp"
#include "test_device.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

using namespace testing_ridge;
using testing_device::TestDevice;
using Vector = std::vector<double>;

constexpr double kEps = std::numeric_limits<double>::epsilon();

/// Sizes on both sides of nothing, of a warp, of a block and of the diagonal.
struct Shape {
  Index m, p;
  bool delta;
};
const std::vector<Shape> kShapes = {{1, 1, false},    {5, 0, false},   {3, 7, false},
                                    {7, 3, false},    {7, 3, true},    {3, 7, true},
                                    {31, 33, false},  {40, 32, false}, {33, 31, true},
                                    {20, 300, false}, {300, 20, false}};

RidgeSystem system_of(const Shape& shape, unsigned seed) {
  RidgeSystem out;
  out.m = shape.m;
  out.p = shape.p;
  out.A = random_case(shape.m, shape.p, 1, seed).X;
  for (Index j = 0; shape.delta && j < shape.p; ++j) {
    out.delta.push_back(0.1 + 0.5 * static_cast<double>(j % 4));
  }
  return out;
}

Vector random_vector(Index size, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Vector out(at(size));
  for (double& x : out) x = normal(engine);
  return out;
}

/// op(A) x for one column, in long double.
std::vector<Real> times(bool trans, Index m, Index p, const double* A, const std::vector<Real>& x) {
  std::vector<Real> out(at(trans ? p : m), 0.0L);
  for (Index j = 0; j < p; ++j) {
    for (Index i = 0; i < m; ++i) {
      if (trans) {
        out[at(j)] += A[j * m + i] * x[at(i)];
      } else {
        out[at(i)] += A[j * m + i] * x[at(j)];
      }
    }
  }
  return out;
}

Real norm(const std::vector<Real>& x) {
  Real sum = 0.0L;
  for (const Real value : x) sum += value * value;
  return std::sqrt(sum);
}

std::vector<Real> column(const double* x, Index size) { return std::vector<Real>(x, x + size); }

class SpectrumBackendTest : public testing::TestWithParam<const char*> {
 protected:
  SpectrumBackendTest() : device_(GetParam()) {}

  void SetUp() override {
    if (!device_.there()) GTEST_SKIP() << GetParam() << ": " << device_.why_not();
    open();
  }
  void TearDown() override {
    made_.reset();
    device_.check();
  }
  void open() {
    made_.reset();
    if (device_.accelerator() != nullptr) made_ = device_.accelerator()->spectrum_backend();
  }
  const SpectrumBackend& backend() const { return made_ ? *made_ : cpu_spectrum_backend(); }
  emulator::Control* emulator() const { return device_.emulator(); }

 private:
  TestDevice device_;
  std::unique_ptr<SpectrumBackend> made_;
};

INSTANTIATE_TEST_SUITE_P(Devices, SpectrumBackendTest,
                         testing::Values("cpu", "cuda", "cuda_checked"),
                         [](const auto& device) { return std::string(device.param); });

std::string name_of(const Shape& shape) {
  return std::to_string(shape.m) + " x " + std::to_string(shape.p) + (shape.delta ? " delta" : "");
}

/// U (k, k), by the verbs.
Vector eigenvectors(const Spectrum& spectrum) {
  const Index k = spectrum.size();
  Vector U(at(k * k)), unit(at(k * k), 0.0);
  if (spectrum.row_space()) {
    spectrum.sample_vectors(U.data());
  } else {
    for (Index i = 0; i < k; ++i) unit[at(i * k + i)] = 1.0;
    spectrum.coefficients(k, unit.data(), U.data());
  }
  return U;
}

TEST_P(SpectrumBackendTest, DecomposesToItsDefect) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(name_of(shape));
    const RidgeSystem given = system_of(shape, 1);
    const Index m = shape.m, p = shape.p;

    const auto spectrum = backend().decompose(RidgeSystem(given), false);

    ASSERT_TRUE(spectrum);
    const bool rows = !shape.delta && m < p;
    const Index k = rows ? m : p;
    EXPECT_EQ(spectrum->row_space(), rows);
    EXPECT_EQ(spectrum->has_delta(), shape.delta);
    ASSERT_EQ(spectrum->size(), k);
    const Vector U = eigenvectors(*spectrum);
    const Vector& s = spectrum->values();
    Real error = 0.0L, overlap = 0.0L;
    for (Index i = 0; i < k; ++i) {
      if (i > 0) {
        EXPECT_LE(s[at(i - 1)], s[at(i)]);
      }
      const std::vector<Real> u = column(U.data() + i * k, k);
      std::vector<Real> Gu =
          times(!rows, m, p, given.A.data(), times(rows, m, p, given.A.data(), u));
      for (Index l = 0; l < k; ++l) {
        if (shape.delta) Gu[at(l)] += given.delta[at(l)] * u[at(l)];
        const Real e = Gu[at(l)] - s[at(i)] * u[at(l)];
        error += e * e;
      }
      for (Index l = 0; l <= i; ++l) {
        Real dot = l == i ? -1.0L : 0.0L;
        for (Index j = 0; j < k; ++j) dot += u[at(j)] * U[at(l * k + j)];
        overlap = std::max(overlap, std::fabs(dot));
      }
    }
    const double top = k > 0 ? s.back() : 0.0, size = static_cast<double>(k + 1);
    EXPECT_LE(static_cast<double>(std::sqrt(error)), spectrum->defect());
    EXPECT_LE(spectrum->defect(), 1e-13 * size * size * top);
    EXPECT_LE(static_cast<double>(overlap), 100.0 * kEps * size);
    EXPECT_EQ(spectrum->cutoff(), static_cast<double>(std::max(m, p)) * kEps * top);
  }
}

TEST_P(SpectrumBackendTest, ShrinksToTheSolutionAndMeasuresIt) {
  constexpr Index kResponses = 5;
  for (const Shape& shape : kShapes) {
    for (const bool want_map : {false, true}) {
      SCOPED_TRACE(name_of(shape) + (want_map ? " map" : ""));
      const RidgeSystem given = system_of(shape, 2);
      const Index m = shape.m, p = shape.p;
      const Vector Y = random_vector(m * kResponses, 3);
      const auto spectrum = backend().decompose(RidgeSystem(given), want_map);
      ASSERT_TRUE(spectrum);
      const Index k = spectrum->size();
      const double top = k > 0 ? spectrum->values().back() : 1.0;
      // Some responses twice, one not at all, out of order.
      const std::vector<SpectrumColumn> what = {
          {4, 0.1 * top}, {1, top}, {1, 1e-3 * top}, {0, 1e-2 * top}, {2, 10.0 * top}};
      const Index count = static_cast<Index>(what.size());
      Vector Z(at(k * kResponses)), defects(at(kResponses)), T(at(k * count)), beta(at(p * count));
      std::vector<ShrunkSums> sums(at(count));

      spectrum->rotate(kResponses, Y.data(), Z.data(), defects.data());
      spectrum->shrink(what, Z.data(), T.data(), sums.data());
      spectrum->coefficients(count, T.data(), beta.data());

      const Vector U = eigenvectors(*spectrum);
      for (Index r = 0; r < kResponses; ++r) {
        std::vector<Real> rest = column(Y.data() + r * m, m);
        if (!spectrum->row_space()) rest = times(true, m, p, given.A.data(), rest);
        const std::vector<Real> back = times(false, k, k, U.data(), column(Z.data() + r * k, k));
        const Real whole = norm(rest);
        for (Index i = 0; i < k; ++i) rest[at(i)] -= back[at(i)];
        EXPECT_LE(static_cast<double>(norm(rest)), defects[at(r)]);
        if (k > 1) {
          EXPECT_LE(defects[at(r)], 1e-12 * static_cast<double>(k) * (1.0 + std::sqrt(top)) *
                                        static_cast<double>(1.0L + whole));
        }
      }
      for (Index c = 0; c < count; ++c) {
        const double* t = T.data() + c * k;
        const double* z = Z.data() + what[at(c)].response * k;
        Real tt = 0.0L, stt = 0.0L, zt = 0.0L, zz = 0.0L;
        for (Index i = 0; i < k; ++i) {
          const Real s = spectrum->values()[at(i)];
          EXPECT_NEAR(t[i], static_cast<double>(z[i] / (s + what[at(c)].lambda)),
                      4.0 * kEps * std::fabs(t[i]));
          tt += static_cast<Real>(t[i]) * t[i];
          stt += s * t[i] * t[i];
          zt += static_cast<Real>(z[i]) * t[i];
          zz += static_cast<Real>(z[i]) * z[i];
        }
        const double bound = 4.0 * kEps * static_cast<double>(k + 4);
        EXPECT_NEAR(sums[at(c)].tt, static_cast<double>(tt), bound * sums[at(c)].tt);
        EXPECT_NEAR(sums[at(c)].stt, static_cast<double>(stt), bound * sums[at(c)].stt);
        EXPECT_NEAR(sums[at(c)].zt, static_cast<double>(zt), bound * sums[at(c)].zt);
        EXPECT_NEAR(sums[at(c)].zz, static_cast<double>(zz), bound * sums[at(c)].zz);

        // The normal equations.
        std::vector<Real> r = column(Y.data() + what[at(c)].response * m, m);
        const Real whole = norm(times(true, m, p, given.A.data(), r));
        const std::vector<Real> b = column(beta.data() + c * p, p);
        const std::vector<Real> fitted = times(false, m, p, given.A.data(), b);
        for (Index i = 0; i < m; ++i) r[at(i)] -= fitted[at(i)];
        std::vector<Real> g = times(true, m, p, given.A.data(), r);
        for (Index j = 0; j < p; ++j) {
          g[at(j)] -= (what[at(c)].lambda + (shape.delta ? given.delta[at(j)] : 0.0)) * b[at(j)];
        }
        EXPECT_LE(static_cast<double>(norm(g)), 1e-10 * static_cast<double>(whole) + 1e-300);
      }
    }
  }
}

TEST_P(SpectrumBackendTest, LeavesOutNullDirectionsAtLambdaZero) {
  for (const Shape& shape : {Shape{12, 6, false}, Shape{6, 12, false}, Shape{9, 9, false}}) {
    SCOPED_TRACE(name_of(shape));
    RidgeSystem given = system_of(shape, 4);
    const Index m = shape.m, p = shape.p;
    for (Index i = 0; i < m; ++i) given.A[at(3 * m + i)] = given.A[at(i)];
    for (Index j = 0; j < p; ++j) given.A[at(j * m + 3)] = given.A[at(j * m)];
    const Vector Y = random_vector(m, 5);
    const auto spectrum = backend().decompose(RidgeSystem(given), true);
    ASSERT_TRUE(spectrum);
    const Index k = spectrum->size();
    Vector Z(at(k)), T(at(k)), beta(at(p));
    double defect = 0.0;
    ShrunkSums sums;

    spectrum->rotate(1, Y.data(), Z.data(), &defect);
    spectrum->shrink({{0, 0.0}}, Z.data(), T.data(), &sums);
    spectrum->coefficients(1, T.data(), beta.data());
    RidgeMeasure first, second;
    spectrum->refine({{0, 0.0}}, Y.data(), T.data(), beta.data(), &first);
    spectrum->refine({{0, 0.0}}, Y.data(), T.data(), beta.data(), &second);

    Index left_out = 0;
    for (Index i = 0; i < k; ++i) {
      if (spectrum->values()[at(i)] > spectrum->cutoff()) continue;
      ++left_out;
      EXPECT_EQ(T[at(i)], 0.0);
    }
    EXPECT_GE(left_out, 1);
    EXPECT_NEAR(beta[0], beta[3], 1e-9);  // least norm on equal columns
    EXPECT_LE(first.gap, 1e-20 * sums.zz);
    EXPECT_LE(second.gap, 1e-20 * sums.zz);
    EXPECT_EQ(second.penalty, 0.0);
  }
}

TEST_P(SpectrumBackendTest, PredictsRows) {
  for (const Shape& shape : kShapes) {
    for (const Index h : {0, 1, 33}) {
      SCOPED_TRACE(name_of(shape) + " rows " + std::to_string(h));
      const Index p = shape.p, count = 3;
      const Vector H = random_vector(h * p, 6);
      const auto spectrum = backend().decompose(system_of(shape, 7), false);
      ASSERT_TRUE(spectrum);
      const Index k = spectrum->size();
      const Vector T = random_vector(k * count, 8);
      Vector beta(at(p * count)), HM(at(h * k)), direct(at(h * count)), mapped(at(h * count));

      spectrum->coefficients(count, T.data(), beta.data());
      spectrum->predict_from(h, H.data(), count, beta.data(), direct.data());
      spectrum->map_rows(h, H.data(), HM.data());
      spectrum->predict(h, spectrum->size(), HM.data(), count, T.data(), mapped.data());

      for (Index c = 0; c < count; ++c) {
        const std::vector<Real> b = column(beta.data() + c * p, p);
        const std::vector<Real> want = times(false, h, p, H.data(), b);
        const double bound = 1e-13 * static_cast<double>(norm(b)) * std::sqrt(double(p + 1)) * 10.0;
        for (Index i = 0; i < h; ++i) {
          EXPECT_NEAR(direct[at(c * h + i)], static_cast<double>(want[at(i)]), bound);
          EXPECT_NEAR(mapped[at(c * h + i)], static_cast<double>(want[at(i)]), bound);
        }
      }
    }
  }
}

// T and beta a little off: what refine() measures is true of them, and its step mends them.
TEST_P(SpectrumBackendTest, RefineMeasuresAndMends) {
  constexpr Index kResponses = 3;
  for (const Shape& shape : kShapes) {
    for (const bool want_map : {false, true}) {
      SCOPED_TRACE(name_of(shape) + (want_map ? " map" : ""));
      const RidgeSystem given = system_of(shape, 9);
      const Index m = shape.m, p = shape.p;
      const Vector Y = random_vector(m * kResponses, 10);
      const auto spectrum = backend().decompose(RidgeSystem(given), want_map);
      ASSERT_TRUE(spectrum);
      const Index k = spectrum->size();
      const double top = k > 0 ? spectrum->values().back() : 1.0;
      const std::vector<SpectrumColumn> what = {{2, 0.1 * top}, {0, 1e-3 * top}, {0, 2.0 * top}};
      const Index count = static_cast<Index>(what.size());
      Vector Z(at(k * kResponses)), defects(at(kResponses)), T(at(k * count)), beta(at(p * count));
      std::vector<ShrunkSums> sums(at(count));
      spectrum->rotate(kResponses, Y.data(), Z.data(), defects.data());
      spectrum->shrink(what, Z.data(), T.data(), sums.data());
      for (std::size_t i = 0; i < T.size(); ++i)
        T[i] *= 1.0 + 1e-3 * std::cos(static_cast<double>(i));
      spectrum->coefficients(count, T.data(), beta.data());
      const Vector off = beta, off_T = T, U = eigenvectors(*spectrum);
      std::vector<RidgeMeasure> first(at(count)), second(at(count));

      spectrum->refine(what, Y.data(), T.data(), beta.data(), first.data());
      const Vector mended = beta;
      spectrum->refine(what, Y.data(), T.data(), beta.data(), second.data());

      const auto objective = [&](Index c, const double* b, Real* residual, Real* penalty) {
        const std::vector<Real> fitted = times(false, m, p, given.A.data(), column(b, p));
        *residual = *penalty = 0.0L;
        for (Index i = 0; i < m; ++i) {
          const Real r = Y[at(what[at(c)].response * m + i)] - fitted[at(i)];
          *residual += r * r;
        }
        for (Index j = 0; j < p; ++j) {
          const Real e = what[at(c)].lambda + (shape.delta ? given.delta[at(j)] : 0.0);
          *penalty += 0.5L * e * b[j] * b[j];
        }
        return 0.5L * *residual + *penalty;
      };
      for (Index c = 0; c < count; ++c) {
        Real residual = 0.0L, penalty = 0.0L, unused = 0.0L, unused_too = 0.0L;
        const Real before = objective(c, off.data() + c * p, &residual, &penalty);
        const Real after = objective(c, mended.data() + c * p, &unused, &unused_too);
        const double P = static_cast<double>(before);
        const Real size = norm(column(Y.data() + what[at(c)].response * m, m));
        const double yy = static_cast<double>(size * size);
        EXPECT_NEAR(first[at(c)].residual, static_cast<double>(residual), 1e-12 * P);
        EXPECT_NEAR(first[at(c)].penalty, static_cast<double>(penalty), 1e-12 * P);
        EXPECT_GE(first[at(c)].gap, static_cast<double>(before - after) * (1.0 - 1e-9) - 1e-15 * P);
        // The duality gap as it is defined: of the dual points lambda U t and r in row space, the
        // better one; sum g^2 / (2 e) in column space.
        std::vector<Real> r = column(Y.data() + what[at(c)].response * m, m);
        const std::vector<Real> fitted =
            times(false, m, p, given.A.data(), column(off.data() + c * p, p));
        for (Index i = 0; i < m; ++i) r[at(i)] -= fitted[at(i)];
        const Real lambda = what[at(c)].lambda;
        Real gap = 0.0L;
        if (spectrum->row_space()) {
          const std::vector<Real> alpha =
              times(false, k, k, U.data(), column(off_T.data() + c * k, k));
          for (Index i = 0; i < m; ++i) r[at(i)] -= lambda * alpha[at(i)];
          gap = 0.5L * norm(r) * norm(r) * std::min<Real>(1.0L, top / lambda);
        } else {
          const std::vector<Real> g = times(true, m, p, given.A.data(), r);
          for (Index j = 0; j < p; ++j) {
            const Real e = lambda + (shape.delta ? given.delta[at(j)] : 0.0);
            const Real d = g[at(j)] - e * off[at(c * p + j)];
            gap += d * d / (2.0L * e);
          }
        }
        EXPECT_NEAR(first[at(c)].gap, static_cast<double>(gap), 1e-9 * static_cast<double>(gap));
        EXPECT_LE(first[at(c)].gap, 1e-2 * yy);
        EXPECT_LE(second[at(c)].gap, 1e-18 * yy);
      }
    }
  }
}

TEST_P(SpectrumBackendTest, SampleVectorsGiveFittedValues) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(name_of(shape));
    const RidgeSystem given = system_of(shape, 11);
    const Index m = shape.m, p = shape.p;
    const auto spectrum = backend().decompose(RidgeSystem(given), false);
    ASSERT_TRUE(spectrum);
    const Index k = spectrum->size();
    const Vector T = random_vector(k, 12);
    Vector S(at(m * k)), beta(at(p));

    spectrum->sample_vectors(S.data());
    spectrum->coefficients(1, T.data(), beta.data());

    std::vector<Real> t = column(T.data(), k);
    for (Index i = 0; spectrum->row_space() && i < k; ++i) t[at(i)] *= spectrum->values()[at(i)];
    const std::vector<Real> got = times(false, m, k, S.data(), t);
    const std::vector<Real> want = times(false, m, p, given.A.data(), column(beta.data(), p));
    const double size = 1e-12 * static_cast<double>(norm(want) + norm(t));
    for (Index i = 0; i < m; ++i) {
      EXPECT_NEAR(static_cast<double>(got[at(i)]), static_cast<double>(want[at(i)]), size);
    }
  }
}

TEST_P(SpectrumBackendTest, ResidualsAndCorrelations) {
  for (const Index n : {1, 32, 257}) {
    for (const Index p : {0, 1, 33}) {
      for (const Index count : {0, 1, 5}) {
        SCOPED_TRACE(std::to_string(n) + " x " + std::to_string(p) + ", " + std::to_string(count));
        const Vector X = random_vector(n * p, 13), B = random_vector(p * count, 14);
        const Vector Y = random_vector(n * count, 15);
        open();  // X of this round may lie where that of another one did

        for (int again = 0; again < 2; ++again) {
          Vector R = Y, G(at(p * count));
          backend().residuals(n, p, X.data(), count, B.data(), R.data());
          backend().correlate(n, p, X.data(), count, Y.data(), G.data());

          const double bound = 10.0 * kEps * static_cast<double>(n + p);
          for (Index c = 0; c < count; ++c) {
            const std::vector<Real> b = column(B.data() + c * p, p);
            const std::vector<Real> y = column(Y.data() + c * n, n);
            const std::vector<Real> fitted = times(false, n, p, X.data(), b);
            const std::vector<Real> g = times(true, n, p, X.data(), y);
            for (Index i = 0; i < n; ++i) {
              EXPECT_NEAR(R[at(c * n + i)], static_cast<double>(y[at(i)] - fitted[at(i)]),
                          bound * 4.0 * static_cast<double>(1.0L + norm(b)));
            }
            for (Index j = 0; j < p; ++j) {
              EXPECT_NEAR(G[at(c * p + j)], static_cast<double>(g[at(j)]),
                          bound * 4.0 * static_cast<double>(norm(y)));
            }
          }
        }
      }
    }
  }
}

TEST_P(SpectrumBackendTest, TopEigenvalueTwice) {
  for (const Shape& shape : kShapes) {
    if (shape.delta) continue;
    SCOPED_TRACE(name_of(shape));
    const RidgeSystem given = system_of(shape, 16);
    const auto spectrum = backend().decompose(RidgeSystem(given), false);
    ASSERT_TRUE(spectrum);
    const double want = spectrum->size() > 0 ? spectrum->values().back() : 0.0;

    const double top = backend().top_eigenvalue(given);

    EXPECT_NEAR(top, want, 1e-10 * want);
    EXPECT_EQ(backend().top_eigenvalue(given), top);
  }
}

/// All that the verbs of one spectrum answer, in one row.
Vector answers(const Spectrum& spectrum, const RidgeSystem& given, Index n_columns) {
  const Index k = spectrum.size(), p = given.p, m = given.m, n_responses = 7, h = 9;
  const Vector Y = random_vector(m * n_responses, 17), H = random_vector(h * p, 18);
  std::vector<SpectrumColumn> what;
  for (Index c = 0; c < n_columns; ++c) {
    what.push_back({c * n_responses / n_columns, 1e-2 * static_cast<double>(1 + c % 11)});
  }
  Vector Z(at(k * n_responses)), defects(at(n_responses)), T(at(k * n_columns));
  Vector beta(at(p * n_columns)), HM(at(h * k)), fitted(at(h * n_columns));
  std::vector<ShrunkSums> sums(at(n_columns));
  std::vector<RidgeMeasure> measures(at(n_columns));
  spectrum.rotate(n_responses, Y.data(), Z.data(), defects.data());
  spectrum.shrink(what, Z.data(), T.data(), sums.data());
  spectrum.coefficients(n_columns, T.data(), beta.data());
  spectrum.refine(what, Y.data(), T.data(), beta.data(), measures.data());
  spectrum.map_rows(h, H.data(), HM.data());
  spectrum.predict(h, spectrum.size(), HM.data(), n_columns, T.data(), fitted.data());
  Vector out = T;
  out.insert(out.end(), beta.begin(), beta.end());
  out.insert(out.end(), fitted.begin(), fitted.end());
  for (const ShrunkSums& one : sums) out.insert(out.end(), {one.tt, one.stt, one.zt, one.zz});
  for (const RidgeMeasure& one : measures) out.insert(out.end(), {one.residual, one.penalty});
  return out;
}

TEST_P(SpectrumBackendTest, SameBitsFromSeveralThreads) {
  const RidgeSystem tall = system_of({30, 12, false}, 19), wide = system_of({12, 30, false}, 20);
  const auto first = backend().decompose(RidgeSystem(tall), true);
  const auto second = backend().decompose(RidgeSystem(wide), false);
  ASSERT_TRUE(first && second);
  const Vector want_first = answers(*first, tall, 20), want_second = answers(*second, wide, 20);

  std::vector<Vector> got(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < got.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 3; ++round) {
        got[t] = t % 2 == 0 ? answers(*first, tall, 20) : answers(*second, wide, 20);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  for (std::size_t t = 0; t < got.size(); ++t) {
    EXPECT_EQ(got[t], t % 2 == 0 ? want_first : want_second);
  }
}

// A device with little memory: columns go in several chunks and X in panels, to the same answers.
TEST_P(SpectrumBackendTest, ChunksDoNotShow) {
  if (emulator() == nullptr) GTEST_SKIP() << GetParam() << ": its memory cannot be made small";
  const std::vector<RidgeSystem> given = {system_of({30, 12, false}, 21),
                                          system_of({12, 30, false}, 22)};
  const Index n = 60, p = 300, count = 40;
  const Vector X = random_vector(n * p, 23), B = random_vector(p * count, 24);
  const auto all = [&] {
    open();
    Vector out;
    for (const RidgeSystem& one : given) {
      const auto spectrum = backend().decompose(RidgeSystem(one), false);
      const Vector part = answers(*spectrum, one, 150);
      out.insert(out.end(), part.begin(), part.end());
    }
    Vector R = random_vector(n * count, 25), G(at(p * count));
    backend().residuals(n, p, X.data(), count, B.data(), R.data());
    backend().correlate(n, p, X.data(), count, R.data(), G.data());
    out.insert(out.end(), R.begin(), R.end());
    out.insert(out.end(), G.begin(), G.end());
    return out;
  };
  const Vector want = all();
  emulator()->clear_calls();
  (void)all();
  const long gemms = emulator()->calls("cublasDgemm_64");
  emulator::Config config = emulator()->config();
  config.memory = emulator()->bytes_in_use() + (std::size_t{96} << 10);
  emulator()->configure(config);
  emulator()->clear_calls();

  const Vector got = all();

  EXPECT_GT(emulator()->calls("cublasDgemm_64"), 2 * gemms);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], 1e-10 * (1.0 + std::fabs(want[i]))) << i;
  }
}

TEST_P(SpectrumBackendTest, EigensolverThatFailsGivesNull) {
  if (emulator() == nullptr)
    GTEST_SKIP() << GetParam() << ": its eigensolver cannot be made to fail";
  emulator()->fail_solver(1, 3);

  EXPECT_FALSE(backend().decompose(system_of({9, 5, false}, 26), true));
  EXPECT_TRUE(backend().decompose(system_of({9, 5, false}, 26), true));
}

// Every call of CUDA and its libraries fails once: an Error, nothing kept, and the next run is
// right.
TEST_P(SpectrumBackendTest, CallsMayFail) {
  if (emulator() == nullptr) GTEST_SKIP() << GetParam() << ": its calls cannot be made to fail";
  const RidgeSystem given = system_of({12, 20, false}, 27);
  const Vector X = random_vector(8 * 3, 28), B = random_vector(3 * 2, 29);
  const auto all = [&] {
    open();
    const auto spectrum = backend().decompose(RidgeSystem(given), true);
    Vector out = answers(*spectrum, given, 5);
    Vector R = random_vector(8 * 2, 30), G(6);
    backend().residuals(8, 3, X.data(), 2, B.data(), R.data());
    backend().correlate(8, 3, X.data(), 2, R.data(), G.data());
    out.insert(out.end(), R.begin(), R.end());
    out.insert(out.end(), G.begin(), G.end());
    out.push_back(backend().top_eigenvalue(given));
    return out;
  };
  const Vector want = all();
  open();
  const std::size_t empty = emulator()->bytes_in_use();
  emulator()->clear_calls();
  (void)all();
  const long calls = emulator()->total_calls();
  ASSERT_GT(calls, 100);

  const auto expect_clean_failure = [&](long nth, bool for_good) {
    SCOPED_TRACE((for_good ? "from call " : "call ") + std::to_string(nth));
    for_good ? emulator()->fail_any_from(nth) : emulator()->fail_any(nth);
    bool thrown = false;
    try {
      (void)all();
    } catch (const Error& error) {
      thrown = true;
      EXPECT_TRUE(error.code() == Errc::kDevice || error.code() == Errc::kOutOfMemory);
    }
    emulator()->clear_faults();
    if (!thrown) return;  // a release: noted, and what it releases is gone
    open();
    EXPECT_EQ(emulator()->bytes_in_use(), empty);
  };
  for (long nth = 1; nth <= calls; nth += nth < 60 ? 1 : 11) expect_clean_failure(nth, false);
  for (const long nth : {1L, calls / 2, calls}) expect_clean_failure(nth, true);
  EXPECT_EQ(all(), want);
}

}  // namespace
}  // namespace thresher

#include <algorithm>
#include <cmath>
#include <memory>

#include "backend/cpu_proximal_backend.hpp"
#include "step.hpp"

namespace thresher::bench {
namespace {

/// One batch: `p` of 2 p features selected, `s` slots. What the verbs read is never written, but
/// coef and previous, which prox_step moves.
template <class T>
struct ProximalCase {
  Index n, p, s;
  std::vector<T> X, coef, previous, grad, step_size, l1, l2;
  std::vector<T> fitted, fitted_previous, fitted_next, response, weight, residual, momentum;
  std::vector<double> lipschitz, half_loss, out, second;
  std::vector<Index> selected;
  std::unique_ptr<CpuProximalBackend<T>> backend;

  ProximalCase(Index rows, Index features, Index slots) : n(rows), p(features), s(slots) {
    unsigned seed = 0;
    const auto draw = [&](Index size, double least, double most) {
      const std::vector<double> v = random_values(size, least, most, ++seed);
      return std::vector<T>(v.begin(), v.end());
    };
    X = draw(n * 2 * p, -1.0, 1.0);
    for (std::vector<T>* v : {&coef, &previous, &grad}) *v = draw(p * s, -1.0, 1.0);
    step_size = draw(p * s, 0.5, 1.0);
    l1 = draw(p * s, 0.1, 1.0);
    l2 = draw(p * s, 0.1, 1.0);
    for (Index e = 0; e < p * s; e += 2) l2[at(e)] = T(0);  // of a Lasso
    for (std::vector<T>* v : {&fitted, &fitted_previous, &fitted_next, &response, &residual}) {
      *v = draw(n * s, -1.0, 1.0);
    }
    weight.assign(at(n * s), static_cast<T>(1.0 / real(n)));
    momentum = draw(s, 0.0, 0.9);
    lipschitz.assign(at(s), 1.0);
    half_loss = random_values(s, 0.5, 1.0, ++seed);
    out.resize(at(s));
    second.resize(at(s));
    for (Index j = 0; j < p; ++j) selected.push_back(2 * j + 1);
    backend = std::make_unique<CpuProximalBackend<T>>(X.data(), n, 2 * p);
    backend->select_features(selected);
  }

  MatrixView<T> view(std::vector<T>& v) const {
    return MatrixView<T>::column_major(v.data(), static_cast<Index>(v.size()) / s, s);
  }
  MatrixView<const T> read(const std::vector<T>& v) const {
    return MatrixView<const T>::column_major(v.data(), static_cast<Index>(v.size()) / s, s);
  }
  double x(Index i, Index j) const { return value(X, selected[at(j)] * n + i); }
  static double value(const std::vector<T>& v, Index e) { return static_cast<double>(v[at(e)]); }
  /// v + momentum (v - before), entry e of slot b.
  double ahead(const std::vector<T>& v, const std::vector<T>& before, Index b, Index e) const {
    return value(v, e) + value(momentum, b) * (value(v, e) - value(before, e));
  }

  void predict() { backend->predict(Predict<T>{read(coef), view(fitted)}); }

  std::string check_fitted() const {
    for (Index e = 0; e < n * s; ++e) {
      double want = 0.0, magnitude = 0.0;
      for (Index j = 0; j < p; ++j) {
        const double term = x(e % n, j) * value(coef, e / n * p + j);
        want += term;
        magnitude += std::fabs(term);
      }
      const std::string wrong =
          compare("fitted", e, value(fitted, e), want, 2.0 * real(p + 2) * kRounding * magnitude);
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  static constexpr double kRounding = static_cast<double>(std::numeric_limits<T>::epsilon());
  static constexpr double kBytes = sizeof(T);
  static constexpr bool kSingle = sizeof(T) == 4;
};

/// A new case with a step on it, so that no verb sees what another one has done.
template <class T>
using Made = std::shared_ptr<ProximalCase<T>>;

template <class T>
Step select_step(const Made<T>& given) {
  Step step;
  step.work.bytes = 2.0 * given->kBytes * real(given->n * given->p);
  step.prepare = [=] { given->backend->select_features({}); };
  step.run = [=] { given->backend->select_features(given->selected); };
  step.check = [=] {
    given->predict();
    return given->check_fitted();
  };
  return step;
}

template <class T>
Step predict_step(const Made<T>& given) {
  const double n = real(given->n), p = real(given->p), s = real(given->s);
  Step step;
  step.work = {given->kBytes * (n * p + p * s + n * s), 2.0 * n * p * s, 0.0, given->kSingle};
  step.run = [=] { given->predict(); };
  step.check = [=] { return given->check_fitted(); };
  return step;
}

template <class T>
Step correlate_step(const Made<T>& given) {
  const double n = real(given->n), p = real(given->p), s = real(given->s);
  Step step;
  step.work = {given->kBytes * (n * p + p * s + 5.0 * n * s), 2.0 * n * p * s, 0.0, given->kSingle};
  step.run = [=] {
    ProximalCase<T>& c = *given;
    c.backend->correlate(Correlate<T>{c.read(c.fitted), c.read(c.fitted_previous), c.momentum,
                                      c.read(c.response), c.read(c.weight), true,
                                      c.view(c.residual), c.view(c.grad), c.out});
  };
  step.check = [=]() -> std::string {
    const ProximalCase<T>& c = *given;
    const double eps = c.kRounding;
    for (Index b = 0; b < c.s; ++b) {
      std::vector<double> r(at(c.n));
      double mean = 0.0, loss = 0.0;
      for (Index i = 0; i < c.n; ++i) {
        const Index e = b * c.n + i;
        r[at(i)] = c.value(c.response, e) - c.ahead(c.fitted, c.fitted_previous, b, e);
        mean += r[at(i)] / n;
      }
      for (Index i = 0; i < c.n; ++i) {
        r[at(i)] -= mean;
        loss += 0.5 * r[at(i)] * r[at(i)] / n;
        const Index e = b * c.n + i;  // values are below 4
        const std::string wrong =
            compare("residual", e, c.value(c.residual, e), r[at(i)] / n, 64.0 * eps / n);
        if (!wrong.empty()) return wrong;
      }
      std::string wrong = compare("half loss", b, c.out[at(b)], loss, 1e3 * eps);
      for (Index j = 0; wrong.empty() && j < c.p; ++j) {
        double want = 0.0, magnitude = 0.0;
        for (Index i = 0; i < c.n; ++i) {
          const double term = c.x(i, j) * r[at(i)] / n;
          want -= term;
          magnitude += std::fabs(term);
        }
        const Index e = b * c.p + j;
        wrong = compare("gradient", e, c.value(c.grad, e), want,
                        2.0 * (n + 2.0) * eps * magnitude + 64.0 * eps);
      }
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

template <class T>
Step prox_step_step(const Made<T>& given) {
  const std::vector<T> coef = given->coef, previous = given->previous;
  Step step;
  step.work.bytes = 8.0 * given->kBytes * real(given->p * given->s);
  step.prepare = [=] {
    given->coef = coef;
    given->previous = previous;
  };
  step.run = [=] {
    ProximalCase<T>& c = *given;
    c.backend->prox_step(ProxStep<T>{c.view(c.coef), c.view(c.previous), c.read(c.grad),
                                     c.read(c.step_size), c.read(c.l1), c.read(c.l2), c.momentum,
                                     c.out, c.second});
  };
  step.check = [=]() -> std::string {
    const ProximalCase<T>& c = *given;
    const double bound = 64.0 * c.kRounding;  // values are below 4
    for (Index b = 0; b < c.s; ++b) {
      double uphill = 0.0, length = 0.0;
      for (Index j = 0; j < c.p; ++j) {
        const Index e = b * c.p + j;
        const double t = c.value(c.step_size, e), before = c.value(coef, e);
        const double z = c.ahead(coef, previous, b, e);
        const double v = z - t * c.value(c.grad, e), a = t * c.value(c.l1, e);
        const double next = (v > a ? v - a : v < -a ? v + a : 0.0) / (1.0 + t * c.value(c.l2, e));
        uphill += (z - next) * (next - before) / t;
        length += (next - z) * (next - z) / t;
        std::string wrong = compare("coefficient", e, c.value(c.coef, e), next, bound);
        if (wrong.empty()) wrong = compare("previous", e, c.value(c.previous, e), before, 0.0);
        if (!wrong.empty()) return wrong;
      }
      const double sum_bound = 16.0 * real(c.p) * bound;
      std::string wrong = compare("uphill", b, c.out[at(b)], uphill, sum_bound);
      if (wrong.empty()) wrong = compare("length", b, c.second[at(b)], length, sum_bound);
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

template <class T>
Step curvature_step(const Made<T>& given) {
  Step step;
  step.work.bytes = 4.0 * given->kBytes * real(given->n * given->s);
  step.run = [=] {
    ProximalCase<T>& c = *given;
    c.backend->curvature(Curvature<T>{c.read(c.fitted_next), c.read(c.fitted),
                                      c.read(c.fitted_previous), c.momentum, c.read(c.weight), true,
                                      c.out, c.second});
  };
  step.check = [=]() -> std::string {
    const ProximalCase<T>& c = *given;
    const double n = real(c.n);
    for (Index b = 0; b < c.s; ++b) {
      double mean = 0.0, change = 0.0, size = 0.0;
      const auto moved = [&](Index e) {
        return c.value(c.fitted_next, e) - c.ahead(c.fitted, c.fitted_previous, b, e);
      };
      for (Index e = b * c.n; e < (b + 1) * c.n; ++e) mean += moved(e) / n;
      for (Index e = b * c.n; e < (b + 1) * c.n; ++e) {
        change += (moved(e) - mean) * (moved(e) - mean) / n;
        size += c.value(c.fitted_next, e) * c.value(c.fitted_next, e) / n;
      }
      const double bound = 1e3 * c.kRounding;  // values are below 4
      std::string wrong = compare("squared change", b, c.out[at(b)], change, bound);
      if (wrong.empty()) wrong = compare("squared size", b, c.second[at(b)], size, bound);
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

template <class T>
Step gap_step(const Made<T>& given) {
  Step step;
  step.work.bytes = 6.0 * given->kBytes * real(given->p * given->s);
  step.run = [=] {
    ProximalCase<T>& c = *given;
    c.backend->estimate_gap(GapEstimate<T>{c.read(c.coef), c.read(c.previous), c.momentum,
                                           c.read(c.grad), c.read(c.step_size), c.read(c.l1),
                                           c.read(c.l2), c.lipschitz, c.half_loss, c.out});
  };
  step.check = [=]() -> std::string {
    const ProximalCase<T>& c = *given;
    for (Index b = 0; b < c.s; ++b) {
      // The largest scale at which no feature without an L2 term, or none at all, exceeds its a.
      double without_l2 = 1.0, any = 1.0, magnitude = 0.0;
      for (Index e = b * c.p; e < (b + 1) * c.p; ++e) {
        const double share = c.value(c.l1, e) / std::fabs(c.value(c.grad, e));
        any = std::min(any, share);
        if (c.l2[at(e)] == T(0)) without_l2 = std::min(without_l2, share);
      }
      const auto gap = [&](double scale) {
        double sum = (1.0 - scale) * (1.0 - scale) * c.half_loss[at(b)];
        for (Index e = b * c.p; e < (b + 1) * c.p; ++e) {
          const double a = c.value(c.l1, e), l2 = c.value(c.l2, e), g = -c.value(c.grad, e);
          const double z = c.ahead(c.coef, c.previous, b, e);
          const double over = std::max(0.0, scale * std::fabs(g) - a);
          sum += a * std::fabs(z) + 0.5 * l2 * z * z - scale * z * g;
          if (l2 > 0.0) sum += over * over / (2.0 * l2);
          magnitude += 4.0 + (l2 > 0.0 ? over * over / l2 : 0.0);
        }
        return sum;
      };
      const double want = std::min(gap(without_l2), gap(any));
      const std::string wrong = compare("gap", b, c.out[at(b)], want, 1e-12 * magnitude);
      if (!wrong.empty()) return wrong;
    }
    return {};
  };
  return step;
}

template <class T>
void register_verbs(const char* precision, Index n, Index p, Index s) {
  const std::pair<const char*, Step (*)(const Made<T>&)> verbs[] = {
      {"select_features", select_step<T>}, {"predict", predict_step<T>},
      {"correlate", correlate_step<T>},    {"prox_step", prox_step_step<T>},
      {"curvature", curvature_step<T>},    {"estimate_gap", gap_step<T>}};
  for (const auto& [verb, make] : verbs) {
    // With one slot products go another way; the other verbs would measure the clock.
    if (s == 1 && make != predict_step<T> && make != correlate_step<T>) continue;
    register_step("proximal_backend." + std::string(verb) + "/" + precision + "/" + shape(n, p) +
                      "/slots:" + std::to_string(s),
                  [=, make = make] { return make(std::make_shared<ProximalCase<T>>(n, p, s)); });
  }
}

}  // namespace

void register_proximal_steps(const Sizes& sizes) {
  const Index n = sizes.of(500, 30), p = sizes.of(2000, 50);
  register_verbs<double>("double", n, p, 1);
  register_verbs<double>("double", n, p, sizes.of(16, 5));
  register_verbs<float>("float", n, p, sizes.of(16, 5));
}

}  // namespace thresher::bench

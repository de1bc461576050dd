#pragma once

#include "backend/spectrum_backend.hpp"

namespace thresher {

/// The CPU's verbs, for a test whose device differs in what it decomposes.
class CpuSpectrumVerbs : public SpectrumBackend {
 public:
  void residuals(Index n, Index p, const double* X, Index count, const double* B,
                 double* R) const override {
    cpu_spectrum_backend().residuals(n, p, X, count, B, R);
  }
  void correlate(Index n, Index p, const double* X, Index count, const double* Z,
                 double* G) const override {
    cpu_spectrum_backend().correlate(n, p, X, count, Z, G);
  }
  double top_eigenvalue(const RidgeSystem& system) const override {
    return cpu_spectrum_backend().top_eigenvalue(system);
  }
};

}  // namespace thresher

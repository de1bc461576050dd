#pragma once

// Scalar proximal operators, shared by the CPU backend and the CUDA kernels.
// Needs no CUDA header, so the CPU build tests the very lines the GPU runs.

#include <cmath>

#include "host_device.hpp"

namespace thresher {

/// argmin_u  (u - v)^2 / 2 + threshold * |u|,  threshold >= 0.
template <class T>
THRESHER_HOST_DEVICE inline T soft_threshold(T v, T threshold) {
  using std::copysign;
  using std::fabs;
  const T excess = fabs(v) - threshold;
  if (excess > T(0)) return copysign(excess, v);
  return excess - excess;  // +0; unlike a literal 0 it keeps a NaN a NaN
}

/// argmin_u  (u - v)^2 / (2 * step_size) + l1 * |u| + l2 / 2 * u^2,  with l1 = a_j and l2 = e_j of
/// the one objective.
template <class T>
THRESHER_HOST_DEVICE inline T prox_elastic_net(T v, T step_size, T l1, T l2) {
  return soft_threshold(v, step_size * l1) / (T(1) + step_size * l2);
}

}  // namespace thresher

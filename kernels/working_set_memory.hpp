#pragma once

#include <vector>

#include "device_memory.hpp"
#include "working_set_state.hpp"

namespace thresher::cuda {

/// Device memory that is given back all at once.
class WorkingSetMemory {
 public:
  /// `size` elements, not initialised; null for none.
  template <class T>
  T* take(Index size) {
    if (size == 0) return nullptr;
    memory_.emplace_back(static_cast<Index>(checked_bytes<T>(size)));
    return reinterpret_cast<T*>(memory_.back().data());
  }

  /// Everything WorkingSetState holds per slot but the problems, for n_slots slots of the sizes
  /// that stand in it. With projections w o q and its products get memory of their own.
  void take_slots(Index n_slots, bool own_gram, bool projections, WorkingSetState& state);

 private:
  std::vector<DeviceArray<unsigned char>> memory_;
};

/// What decides how much a working set may hold.
struct WorkingSetNeeds {
  bool l2_terms = false;       ///< supports are not bounded by the rank of X
  bool every_feature = false;  ///< Gram mode, or lambda = 0
};

/// Fills the sizes of a state for X (n, p).
void set_sizes(Index n, Index p, const WorkingSetNeeds& needs, WorkingSetState& state);

/// Rows of half-precision operands for n rows of X: whole units of 16 bytes.
constexpr Index half_rows(Index n) { return (n + 7) / 8 * 8; }

}  // namespace thresher::cuda

#include "working_set_memory.hpp"

#include <algorithm>

namespace thresher::cuda {
namespace {

// Room in a working set beside twice the largest support (design section 6).
constexpr Index kWorkingSetFloor = 1024;
// Features an active set may hold beyond the rank of X: an entrant comes before another leaves.
constexpr Index kActiveSlack = 16;
// With an L2 term supports are not bounded by n: this many times n or the floor above, if p allows.
constexpr Index kElasticNetFactor = 4;

}  // namespace

void set_sizes(Index n, Index p, const WorkingSetNeeds& needs, WorkingSetState& state) {
  state.n = n;
  state.p = p;
  state.n_words = (p + 31) / 32;
  const Index rank = std::min(n, p);
  const Index support = std::min(
      p, needs.l2_terms ? std::max(kWorkingSetFloor, kElasticNetFactor * n) : rank + kActiveSlack);
  state.capacity =
      needs.every_feature
          ? p
          : std::min(p, std::max(kWorkingSetFloor, needs.l2_terms ? support : 2 * rank));
  state.active_capacity = std::min(state.capacity, support);
  state.scratch_size = 4 * state.capacity + 6 * state.active_capacity;
}

void WorkingSetMemory::take_slots(Index n_slots, bool own_gram, bool projections,
                                  WorkingSetState& state) {
  const Index n = state.n, p = state.p, s = n_slots;
  const Index c = state.capacity, a = state.active_capacity;
  state.response = take<double>(n * s);
  state.held_out_weight = take<double>(n * s);
  state.residual = take<double>(n * s);
  state.weighted = take<double>(n * s);
  // Without projections w o q is w o r. The kernels write the two one after the other.
  state.projected = projections ? take<double>(n * s) : state.weighted;
  state.feature = take<int>(c * s);
  state.n_working = take<int>(s);
  state.n_gram = take<int>(s);
  state.in_working = take<std::uint8_t>(p * s);
  state.coef = take<double>(c * s);
  state.grad = take<double>(c * s);
  state.grad_projected = projections ? take<double>(c * s) : state.grad;
  state.gram = own_gram ? take<double>(c * c * s) : nullptr;
  state.place = take<std::uint8_t>(c * s);
  state.active = take<int>(a * s);
  state.sign = take<int>(a * s);
  state.frozen = take<double>(a * s);
  state.inverse = take<double>(a * a * s);
  state.n_active = take<int>(s);
  state.scratch = take<double>(state.scratch_size * s);
  state.moved = take<int>(c * s);
  state.is_moved = take<std::uint8_t>(c * s);
  state.exact = take<double>(p * s);
  state.mask = take<unsigned>(state.n_words * s);
  state.sums = take<SlotSums>(s);
  state.report = take<SlotReport>(s);
}

}  // namespace thresher::cuda

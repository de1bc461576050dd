#pragma once

#include <vector>

#include "thresher/views.hpp"

namespace thresher {

/// How shrunken coordinates t = z / (s + lambda) of a whole grid follow from those of few of its
/// lambdas. Within a block of directions
///
///     1 / (s_i + lambda_l) = (1 + d) sum_j weight(j, l) / (s_i + node_j),
///     |d| <= (k + 128 nodes) u,   sum_j |weight(j, l)| / (s_i + node_j) <= 16 / (s_i + lambda_l),
///
/// k all directions, u one rounding, by which a product over all k may be k u off anyway; the
/// second part is the rounding of weights. Nodes are lambdas of the grid and stand for themselves;
/// 0 always is one.
struct RidgeNodes {
  struct Block {
    Index first = 0;  ///< directions first .. first + size - 1
    Index size = 0;
    std::vector<Index> node;  ///< into the grid
  };
  std::vector<Block> blocks;
  Index count = 0;             ///< nodes of all blocks
  std::vector<double> weight;  ///< (count, grid); empty: one block, whose nodes are the grid
};

/// s ascending, >= 0; lambda >= 0.
RidgeNodes ridge_nodes(const std::vector<double>& s, const std::vector<double>& lambda);

}  // namespace thresher

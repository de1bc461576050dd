#pragma once

// One simulated problem, set up as the engines get it.

#include <memory>
#include <utility>
#include <vector>

#include "library_case.hpp"
#include "setup/problem.hpp"

namespace thresher::testing_library {

struct ProblemCase {
  ProblemCase(Index n_rows, Index n_features, double l1_ratio, Index n_held_out = 0)
      : table(n_rows, n_features, 1), pool(1), columns(table.data().X, true, {}, pool, false) {
    const bool weighted = n_held_out > 0;
    std::vector<double> weight(at(n_rows));
    for (Index i = n_held_out; i < n_rows; ++i) {
      weight[at(i)] = weighted ? 1.0 + static_cast<double>(i % 3) : 1.0;
    }
    for (Index i = 0; i < n_held_out; ++i) problem.held_out.push_back(i);
    problem.l1_ratio = l1_ratio;
    problem.rows = make_row_weightings(columns, {weight}, pool).front();
    problem.penalties = make_penalties(table.data(), Options{}, columns, *problem.rows);
    problem.y = std::make_shared<Response>(
        make_response(table.Y, std::vector<double>(at(n_rows), 1.0), true));
    finish_problem(columns, problem);
  }

  Table table;
  ThreadPool pool;
  Columns columns;
  Problem problem;
};

}  // namespace thresher::testing_library

#include "relations/relation_table.hpp"

#include <algorithm>
#include <cstddef>

namespace thresher {
namespace {

constexpr const char* kNoL1 = "the ridge engine knows no L1 term";
constexpr const char* kNoLimit = "an eigendecomposition has no iteration to stop at";
constexpr const char* kNoScreening =
    "only the active set screens, looks ahead or works in low precision";
constexpr const char* kNoModes = "only the active set has a Gram and a residual mode";
constexpr const char* kComparedInDouble = "a second implementation is compared in double";

}  // namespace

const std::vector<RelationRow>& relations() {
  static const std::vector<RelationRow> list = {
      {1, "KKT conditions hold, recomputed from X, y and the coefficients"},
      {2, "the reported objective is the objective recomputed from its definition"},
      {3, "the recomputed gap is in [-1e-12, tol] whenever a fit says converged"},
      {4, "lambda >= lambda_max gives exactly 0 where u > 0; 0.9 lambda_max does not"},
      {5, "Ridge equals its closed form, n > p and n < p"},
      {6, "orthonormal X: closed form"},
      {7, "p = 1: closed form"},
      {8, "y * c with lambda * c and v / c scales the coefficients by c"},
      {9, "X * c with lambda * c, v * c, d * c^2 leaves fitted values alone, also standardized"},
      {10, "a column with its sign flipped flips its coefficient"},
      {11, "permuted columns permute the coefficients"},
      {12, "permuted rows change nothing"},
      {13, "all rows twice change nothing"},
      {14, "an integer row weight is a repeated row"},
      {15, "a zero weight is a row removed, whatever it holds"},
      {16, "weights * 1e9 and * 1e-9 change nothing"},
      {17, "an appended zero column gets exactly 0"},
      {18, "an appended constant column gets exactly 0 with an intercept"},
      {19, "y + c moves the intercept alone"},
      {20, "X + c moves the intercept alone"},
      {21, "a duplicated column (v, d doubled on both copies) leaves fitted values alone"},
      {22, "under L2 a duplicated column is split equally"},
      {23, "along the path the objective, the loss and the penalty are monotone"},
      {24, "Elastic Net is the Lasso on augmented rows"},
      {25, "a warm start from junk is a cold start"},
      {26, "a batch is its problems one by one"},
      {27, "a NaN response is refused or flagged by name, the others unharmed"},
      {28, "y -> -y turns every sign"},
      {29, "rotated rows change nothing (equal weights, no intercept)"},
      {30, "same bits again, for any number of threads and any tile size"},
      {31, "iteration limit 1: the status says so and the gap is above tol"},
      {32, "inputs are unchanged, bit for bit"},
      {33, "row-major, column-major and strided views give the same bits"},
      {34, "predict is X b + b0; with an intercept the weighted mean residual is 0"},
      {35, "objective within 1e-8 of a second implementation"},
      {36, "NaN or infinity in any input is refused"},
      {37, "small true coefficients are kept"},
      {38, "screening, look-ahead, skip and low precision on = off; an adversarial column enters"},
      {39, "Gram mode = residual mode"},
      {40, "factor 0 = unpenalised, infinity = absent; a suboptimal point shows its gap"},
      {41, "standardize = factors s, s^2 = scaling X by hand, inside every fold"},
      {42, "a fold's answer is a fit of its rows alone"},
      {43, "degenerate shapes and data end well"},
      {44, "the dropout term is the average over all dropout masks"},
      {45, "columns whose scales span 1e10 converge"},
      {46, "tiny integer problems equal exact rational arithmetic"},
  };
  return list;
}

std::string reason_for_gap(int relation, const EngineUnderTest& engine) {
  const bool active_set = engine.engine == Engine::kActiveSet;
  switch (relation) {
    case 4:
    case 24:
      return engine.is_ridge() ? kNoL1 : "";
    case 31:
      return engine.is_ridge() ? kNoLimit : "";
    case 35:
      return engine.is_float ? kComparedInDouble : "";
    case 38:
      return active_set || engine.engine == Engine::kAuto ? "" : kNoScreening;
    case 39:
      return active_set ? "" : kNoModes;
    default:
      return "";
  }
}

std::string relation_document() {
  const std::vector<EngineUnderTest>& engines = engines_under_test();
  std::vector<std::string> reasons;
  std::string out =
      "# Relations\n\n"
      "What every engine must satisfy, and where it is checked. The table is printed by\n"
      "`relation_tests` (`tests/relations/relation_table.cpp`); a test fails if this page "
      "differs.\n"
      "The number of a relation is in the name of its test: `Relation.R09_...`.\n"
      "`./run test-faults` plants faults in the library, one at a time, and checks that a named\n"
      "test fails for each: `tests/faults/results.txt`.\n"
      "The same tests run on the CUDA backends, executed by the emulator of `tests/cuda_on_cpu`, "
      "for\n"
      "every engine but the reference, under three orders of threads (`relations_on_...` in "
      "ctest).\n"
      "`2` means run on double and on float X, `1` on double alone, `-` not run; letters name the\n"
      "reason below.\n\n"
      "| | relation | reference | proximal gradient | active set, Gram | active set, residual | "
      "ridge | auto |\n|---|---|---|---|---|---|---|---|\n";
  const std::size_t half = engines.size() / 2;  // doubles first, then the same engines in float
  for (const RelationRow& relation : relations()) {
    out += "| " + std::to_string(relation.number) + " | " + relation.text + " |";
    for (std::size_t k = 0; k < half; ++k) {
      int runs = 0;
      std::string letters;
      for (const EngineUnderTest& engine : {engines[k], engines[k + half]}) {
        const std::string reason = reason_for_gap(relation.number, engine);
        if (reason.empty()) {
          ++runs;
          continue;
        }
        auto known = std::find(reasons.begin(), reasons.end(), reason);
        if (known == reasons.end()) known = reasons.insert(reasons.end(), reason);
        letters = std::string(" ") + static_cast<char>('a' + (known - reasons.begin()));
      }
      out += " " + (runs == 0 ? std::string("-") : std::to_string(runs)) + letters + " |";
    }
    out += "\n";
  }
  out += "\n";
  for (std::size_t k = 0; k < reasons.size(); ++k) {
    out += std::string("- ") + static_cast<char>('a' + k) + ": " + reasons[k] + "\n";
  }
  return out;
}

}  // namespace thresher

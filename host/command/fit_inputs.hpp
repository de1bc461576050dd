#pragma once

#include <string>
#include <vector>

#include "command/arguments.hpp"
#include "readers/matrix_file.hpp"
#include "thresher/options.hpp"

namespace thresher::command {

/// Everything `path` and `cv` read, and the views of it that the library takes. The views point
/// into the vectors, whose memory stays where it is when the struct is moved.
struct FitInputs {
  MatrixFile X, Y;
  std::vector<double> weights, l1_factors, l2_factors, fixed_l2, lambda_grid;
  std::vector<Index> fold_id;
  std::vector<std::string> feature_names, response_names;  ///< empty: none
  std::vector<std::string> warnings;                       ///< suspicious, not wrong

  Data data;
  Options options;
  CvOptions cv;
};

/// Reads the files. What the library itself checks (sizes of factors, values) is left to it.
/// Throws   Error{kFile}, Error{kInvalidArgument}, Error{kOutOfMemory}
FitInputs read_fit_inputs(const FitArguments& arguments);

/// The values of a file as doubles, column after column.
std::vector<double> column_major_values(MatrixFile&& file);

}  // namespace thresher::command

#pragma once

#include <string>
#include <vector>

#include "readers/byte_source.hpp"
#include "readers/matrix_file.hpp"

namespace thresher {

// One function per format behind read_matrix; contracts and refusals as stated there.

MatrixFile read_npy(ByteSource& source, const ReadOptions& options);

/// The first row is a header if it holds names, or if it counts 0, 1, 2, ... after an empty field
/// (pandas). Names and numbers mixed are refused: a name that looks like a number is quoted. The
/// first column holds row names if its first entry below the header is text, or quoted where the
/// next is not (R), or if the header's first field is empty (R, pandas). The header may lack the
/// field above the row names (R's write.table).
MatrixFile read_csv(ByteSource& source, char separator, const ReadOptions& options);

/// Indices count from 1, or from 0 if any index is 0; they must ascend within a line. There are as
/// many columns as the largest index says. `#` starts a comment. qid is refused: nothing uses it.
MatrixFile read_svmlight(ByteSource& source, const ReadOptions& options);

/// coordinate (repeated entries are added) and array; real, double, integer, pattern (entries are
/// 1); general and symmetric.
MatrixFile read_matrix_market(ByteSource& source, const ReadOptions& options);

/// read_names, from a stream.
std::vector<std::string> read_name_lines(ByteSource& source);

}  // namespace thresher

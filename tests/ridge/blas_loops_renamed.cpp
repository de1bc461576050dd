// blas_loops.cpp once more, in namespace thresher::loops. Its headers come first, so that the
// macro renames nothing but the namespace.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/blas.hpp"

#define blas loops
#include "backend/blas_loops.cpp"

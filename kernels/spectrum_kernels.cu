// One translation unit, as in proximal_kernels.cu.
#include "column_squares.cu"
#include "complete_gram.cu"
#include "correct_spectrum.cu"
#include "measure_ridge.cu"
#include "shrink_spectrum.cu"

// One translation unit: nvcc and the emulator's compiler spend most of a small one on headers.
#include "chunk_sums.cu"
#include "curvature.cu"
#include "direct_columns.cu"
#include "gap_estimate.cu"
#include "gather_columns.cu"
#include "prox_step.cu"
#include "residual_step.cu"

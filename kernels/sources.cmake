# What libthresher_cuda is made of; also read by tests/cuda_on_cpu, which compiles the same files for
# the CPU. One .cu = one step = one kernel family and its launcher.
set(THRESHER_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/chunk_sums.cu
  ${CMAKE_CURRENT_LIST_DIR}/column_squares.cu
  ${CMAKE_CURRENT_LIST_DIR}/complete_gram.cu
  ${CMAKE_CURRENT_LIST_DIR}/correct_spectrum.cu
  ${CMAKE_CURRENT_LIST_DIR}/curvature.cu
  ${CMAKE_CURRENT_LIST_DIR}/direct_columns.cu
  ${CMAKE_CURRENT_LIST_DIR}/gap_estimate.cu
  ${CMAKE_CURRENT_LIST_DIR}/gather_columns.cu
  ${CMAKE_CURRENT_LIST_DIR}/measure_ridge.cu
  ${CMAKE_CURRENT_LIST_DIR}/prox_step.cu
  ${CMAKE_CURRENT_LIST_DIR}/residual_step.cu
  ${CMAKE_CURRENT_LIST_DIR}/shrink_spectrum.cu)
set(THRESHER_CUDA_HOST_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/cuda_check.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_context.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_device.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_lane.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_proximal_backend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_spectrum_backend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/staged_upload.cpp)

# What libthresher_cuda is made of; also read by tests/cuda_on_cpu, which compiles the same files for
# the CPU. One .cu = one step = one kernel family and its launcher.
set(THRESHER_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/gather_columns.cu)
set(THRESHER_CUDA_HOST_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/cuda_check.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_context.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_device.cpp)

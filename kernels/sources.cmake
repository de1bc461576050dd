# What libthresher_cuda is made of; also read by tests/cuda_on_cpu, which compiles the same files
# for the CPU. One step = one .cu with one kernel family and its launcher; *_kernels.cu includes
# those of one backend, to be compiled together.
set(THRESHER_CUDA_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/proximal_kernels.cu
  ${CMAKE_CURRENT_LIST_DIR}/spectrum_kernels.cu
  ${CMAKE_CURRENT_LIST_DIR}/working_set_kernels.cu)
set(THRESHER_CUDA_HOST_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/cuda_check.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_context.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_device.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_lane.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_proximal_backend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_spectrum_backend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/cuda_working_set_backend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/staged_copies.cpp
  ${CMAKE_CURRENT_LIST_DIR}/working_set_memory.cpp)

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "cuda_check.hpp"
#include "thresher/error.hpp"
#include "thresher/views.hpp"

namespace thresher::cuda {

/// size * sizeof(T) bytes. Throws Error{kOutOfMemory} if that does not fit in 63 bits.
template <class T>
std::size_t checked_bytes(Index size) {
  if (size < 0 || size > std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T))) {
    throw Error(Errc::kOutOfMemory, "device memory: size must be in [0, 2^63 / " +
                                        std::to_string(sizeof(T)) + "), got " +
                                        std::to_string(size));
  }
  return static_cast<std::size_t>(size) * sizeof(T);
}

/// `size` elements of T in device memory, not initialised. Freed at the end, also after errors.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(Index size) : size_(size) {
    if (size == 0) return;
    void* memory = nullptr;
    const std::size_t bytes = checked_bytes<T>(size);
    check(cudaMalloc(&memory, bytes), name_of_allocation("cudaMalloc", bytes).c_str());
    data_ = static_cast<T*>(memory);
  }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() {
    if (data_ != nullptr) note_failure(cudaFree(data_));
  }

  T* data() const { return data_; }
  Index size() const { return size_; }

  void zero(cudaStream_t stream) {
    if (size_ > 0)
      check(cudaMemsetAsync(data_, 0, checked_bytes<T>(size_), stream), "cudaMemsetAsync");
  }

 private:
  T* data_ = nullptr;
  Index size_ = 0;
};

/// `size` elements of T in page-locked host memory, for copies that overlap with work.
template <class T>
class PinnedArray {
 public:
  PinnedArray() = default;
  explicit PinnedArray(Index size) : size_(size) {
    if (size == 0) return;
    void* memory = nullptr;
    const std::size_t bytes = checked_bytes<T>(size);
    check(cudaMallocHost(&memory, bytes), name_of_allocation("cudaMallocHost", bytes).c_str());
    data_ = static_cast<T*>(memory);
  }
  PinnedArray(PinnedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  PinnedArray& operator=(PinnedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~PinnedArray() {
    if (data_ != nullptr) note_failure(cudaFreeHost(data_));
  }

  T* data() const { return data_; }
  Index size() const { return size_; }
  T& operator[](Index i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  Index size_ = 0;
};

/// Copies that the stream orders. Host memory must stay as it is until the stream has passed them.
template <class T>
void copy_to_device(const T* from, Index size, T* to, cudaStream_t stream) {
  if (size == 0) return;
  check(cudaMemcpyAsync(to, from, checked_bytes<T>(size), cudaMemcpyHostToDevice, stream),
        "cudaMemcpyAsync to the device");
}
template <class T>
void copy_to_host(const T* from, Index size, T* to, cudaStream_t stream) {
  if (size == 0) return;
  check(cudaMemcpyAsync(to, from, checked_bytes<T>(size), cudaMemcpyDeviceToHost, stream),
        "cudaMemcpyAsync to the host");
}
template <class T>
void copy_on_device(const T* from, Index size, T* to, cudaStream_t stream) {
  if (size == 0) return;
  check(cudaMemcpyAsync(to, from, checked_bytes<T>(size), cudaMemcpyDeviceToDevice, stream),
        "cudaMemcpyAsync on the device");
}

/// A new array with these values; waits until they are there.
template <class T>
DeviceArray<T> to_device(std::span<const T> values, cudaStream_t stream) {
  DeviceArray<T> out(static_cast<Index>(values.size()));
  copy_to_device(values.data(), out.size(), out.data(), stream);
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return out;
}

}  // namespace thresher::cuda

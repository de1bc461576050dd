#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "cuda_check.hpp"
#include "device_memory.hpp"

namespace thresher::bench {

/// Host memory of a device array; waits for the stream.
template <class T>
std::vector<T> fetch(const T* from, Index size, cudaStream_t stream) {
  std::vector<T> out(static_cast<std::size_t>(size));
  cuda::copy_to_host(from, size, out.data(), stream);
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return out;
}

/// Device time between two points of a stream.
class DeviceTimer {
 public:
  DeviceTimer() {
    cuda::check(cudaEventCreate(&start_), "cudaEventCreate");
    cuda::check(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~DeviceTimer() {
    cuda::note_failure(cudaEventDestroy(start_));
    cuda::note_failure(cudaEventDestroy(stop_));
  }
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  /// Seconds that `work` takes on the device. `flush`, if it has any, is overwritten before, so
  /// that the work finds nothing of its own in the cache.
  template <class Work>
  double seconds(cudaStream_t stream, Work&& work,
                 const cuda::DeviceArray<unsigned char>* flush = nullptr) {
    if (flush != nullptr && flush->size() > 0) {
      cuda::check(
          cudaMemsetAsync(flush->data(), 1, static_cast<std::size_t>(flush->size()), stream),
          "cudaMemsetAsync");
    }
    cuda::check(cudaEventRecord(start_, stream), "cudaEventRecord");
    work();
    cuda::check(cudaEventRecord(stop_, stream), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0.0F;
    cuda::check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

/// Median and spread of repeated timings.
struct Timing {
  double median = 0.0, least = 0.0, most = 0.0;
  Index repetitions = 0;
};

template <class Work>
Timing time_repeatedly(DeviceTimer& timer, cudaStream_t stream, Index repetitions, Work&& work,
                       const cuda::DeviceArray<unsigned char>* flush = nullptr) {
  timer.seconds(stream, work, flush);  // loads the module, makes the library's choices
  std::vector<double> all;
  for (Index k = 0; k < repetitions; ++k) all.push_back(timer.seconds(stream, work, flush));
  std::sort(all.begin(), all.end());
  return {all[all.size() / 2], all.front(), all.back(), repetitions};
}

/// One JSON object on one line of standard output; gpu_check.py reads them.
class Line {
 public:
  explicit Line(const char* kind) { text("kind", kind); }
  Line& text(const char* key, const std::string& value) {
    return raw(key, "\"" + value + "\"");  // values are our own words: nothing to escape
  }
  Line& number(const char* key, double value) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.6g", value);
    return raw(key, value - value == 0.0 ? buffer : "null");
  }
  Line& whole(const char* key, Index value) { return raw(key, std::to_string(value)); }
  Line& flag(const char* key, bool value) { return raw(key, value ? "true" : "false"); }
  Line& timing(const Timing& t) {
    return number("seconds", t.median)
        .number("least", t.least)
        .number("most", t.most)
        .whole("repetitions", t.repetitions);
  }
  void print() const {
    std::printf("{%s}\n", body_.c_str());
    std::fflush(stdout);
  }

 private:
  Line& raw(const char* key, const std::string& value) {
    body_ += (body_.empty() ? "\"" : ", \"") + std::string(key) + "\": " + value;
    return *this;
  }
  std::string body_;
};

}  // namespace thresher::bench

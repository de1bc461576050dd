// The host side of the CUDA runtime API: memory, streams, events, errors, the device's description,
// fault injection and the control interface. Prototypes come from the toolkit's own headers; what
// is not defined here is a link error.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "emulator_core.hpp"

namespace {

struct Operation {
  std::vector<std::pair<cudaStream_t, std::uint64_t>> after;  // streams and how far they must be
  std::function<void()> work;                                 // empty: only waits
};

}  // namespace

struct CUstream_st {
  bool blocking = true;  // with respect to the legacy stream
  std::deque<Operation> queue;
  std::uint64_t issued = 0;
  std::uint64_t finished = 0;
};

struct CUevent_st {
  cudaStream_t stream = nullptr;
  std::uint64_t position = 0;
  bool timing = true;
  std::shared_ptr<double> seconds;  // when it happened; negative: not yet; null: never recorded
};

namespace thresher::emulator {
namespace {

constexpr std::size_t kMostReports = 200;
constexpr std::size_t kMostLogged = 100'000;
constexpr int kStrictExit = 97;

// An H100 SXM.
constexpr int kMultiprocessors = 132;
constexpr int kSharedPerBlock = 49152;
constexpr int kSharedPerBlockOptIn = 232448;
constexpr int kSharedPerMultiprocessor = 233472;
constexpr int kReservedShared = 1024;
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kThreadsPerBlock = 1024;
constexpr int kBlocksPerMultiprocessor = 32;
constexpr std::size_t kMostParameterBytes = 32764;

struct Fault {
  std::string api;  // empty: any
  long left;
  bool for_good;
  int code;
};

struct Device {
  Config config;
  Random random;
  std::uint64_t generation = 1;
  std::vector<Fault> faults;
  long kernel_left = 0;
  int kernel_code = 0;
  long solver_left = 0;
  int solver_info = 0;
  std::map<std::string, long> calls;
  long total_calls = 0;
  std::vector<const char*> log;
  std::vector<std::string> reports;
  cudaError_t last_error = cudaSuccess;
  cudaError_t sticky = cudaSuccess;
  std::map<const void*, std::size_t> pinned;
  std::vector<cudaStream_t> streams;  // in the order of creation: runs must not depend on addresses
  std::set<cudaEvent_t> events;
  std::map<const void*, int> most_dynamic_shared;
  std::map<std::string, int> handles;
  CUstream_st legacy;
};

const char* environment_text(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

template <class Enum>
Enum environment_choice(const char* name, std::initializer_list<std::pair<const char*, Enum>> known,
                        Enum otherwise) {
  const std::string text = environment_text(name);
  if (text.empty()) return otherwise;
  for (const auto& [word, value] : known) {
    if (text == word) return value;
  }
  std::fprintf(stderr, "emulator: %s has no value '%s'\n", name, text.c_str());
  std::_Exit(kStrictExit);
}

std::uint64_t environment_number(const char* name, std::uint64_t otherwise) {
  const std::string text = environment_text(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (*end == '\0') return value;
  std::fprintf(stderr, "emulator: %s must be a number, got '%s'\n", name, text.c_str());
  std::_Exit(kStrictExit);
}

Config environment_config() {
  Config out;
  out.order = environment_choice("THRESHER_EMULATOR_ORDER",
                                 {std::pair{"in-order", Order::kInOrder},
                                  {"reverse", Order::kReverse},
                                  {"random", Order::kRandom},
                                  {"skewed", Order::kSkewed}},
                                 out.order);
  out.streams = environment_choice(
      "THRESHER_EMULATOR_STREAMS",
      {std::pair{"eager", Streams::kEager}, {"lazy", Streams::kLazy}, {"random", Streams::kRandom}},
      out.streams);
  out.seed = environment_number("THRESHER_EMULATOR_SEED", out.seed);
  out.memory = environment_number("THRESHER_EMULATOR_MEMORY", out.memory);
  out.protect = environment_number("THRESHER_EMULATOR_PROTECT", out.protect ? 1 : 0) != 0;
  return out;
}

void seed_device(Device& device) {
  device.random.state = device.config.seed * 0x2545F4914F6CDD1Du + 77;
  scheduler_reset(device.config.seed);
}

Device& device() {
  static Device& instance = *[] {
    Device* made = new Device;
    made->config = environment_config();
    seed_device(*made);
    return made;
  }();
  return instance;
}

cudaError_t fail_with(cudaError_t status) {
  if (status != cudaSuccess) device().last_error = status;
  return status;
}

CUstream_st* resolve(cudaStream_t stream) {
  const bool legacy =
      stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
  return legacy ? &device().legacy : stream;
}

bool is_live(const CUstream_st* stream) {
  const std::vector<cudaStream_t>& streams = device().streams;
  return stream == &device().legacy ||
         std::find(streams.begin(), streams.end(), stream) != streams.end();
}

void run_until(CUstream_st* stream, std::uint64_t position) {
  if (stream->finished >= position) return;
  ArenaAccess access;
  while (stream->finished < position) {
    const Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    for (const auto& [other, reached] : operation.after) {
      if (is_live(other)) run_until(other, reached);
    }
    if (operation.work) operation.work();
    ++stream->finished;
  }
}

void finish(CUstream_st* stream) { run_until(stream, stream->issued); }

void finish_all() {
  finish(&device().legacy);
  for (CUstream_st* stream : device().streams) finish(stream);
}

/// Streams::kRandom: the device got on with something meanwhile.
void progress() {
  Device& d = device();
  if (d.config.streams != Streams::kRandom) return;
  std::vector<CUstream_st*> busy;
  if (!d.legacy.queue.empty()) busy.push_back(&d.legacy);
  for (CUstream_st* stream : d.streams) {
    if (!stream->queue.empty()) busy.push_back(stream);
  }
  if (busy.empty()) return;
  for (unsigned steps = d.random.below(4); steps > 0; --steps) {
    CUstream_st* stream = busy[d.random.below(static_cast<std::uint32_t>(busy.size()))];
    if (!stream->queue.empty()) run_until(stream, stream->finished + 1);
  }
}

void append(CUstream_st* stream, Operation operation) {
  Device& d = device();
  if (stream == &d.legacy) {
    for (CUstream_st* other : d.streams) {
      if (other->blocking) operation.after.push_back({other, other->issued});
    }
  } else if (stream->blocking) {
    operation.after.push_back({&d.legacy, d.legacy.issued});
  }
  stream->queue.push_back(std::move(operation));
  ++stream->issued;
  if (d.config.streams == Streams::kEager) finish(stream);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool has_happened(const CUevent_st* event) { return !event->seconds || *event->seconds >= 0.0; }

bool is_pinned(const void* p) {
  const auto& pinned = device().pinned;
  auto it = pinned.upper_bound(p);
  if (it == pinned.begin()) return false;
  --it;
  return p < static_cast<const char*>(it->first) + it->second;
}

/// A range that starts in page-locked memory must end there.
bool pinned_range_fits(const void* p, std::size_t bytes) {
  if (!is_pinned(p)) return true;
  const auto it = std::prev(device().pinned.upper_bound(p));
  const char* end = static_cast<const char*>(it->first) + it->second;
  return bytes <= static_cast<std::size_t>(end - static_cast<const char*>(p));
}

void copy(void* to, const void* from, std::size_t bytes) {
  if (device().sticky != cudaSuccess) return;
  if (arena_contains(from) && !arena_contains(to)) {
    shadow_check_initialised(from, bytes, "cudaMemcpy");
  }
  std::memmove(to, from, bytes);
  if (arena_contains(to)) shadow_set_initialised(to, bytes, true);
}

cudaError_t check_copy(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  if (!to || !from) return cudaErrorInvalidValue;
  const bool to_device = arena_contains(to), from_device = arena_contains(from);
  if (kind != cudaMemcpyDefault) {
    const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (wants_to != to_device || wants_from != from_device) {
      report("cudaMemcpy: the direction does not match the pointers");
      return cudaErrorInvalidValue;
    }
  }
  if (to_device && !arena_check(to, bytes, "cudaMemcpy destination")) return cudaErrorInvalidValue;
  if (from_device && !arena_check(from, bytes, "cudaMemcpy source")) return cudaErrorInvalidValue;
  if (!pinned_range_fits(to, bytes) || !pinned_range_fits(from, bytes)) {
    report("cudaMemcpy runs past the end of page-locked host memory");
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

struct ErrorName {
  cudaError_t code;
  const char* name;
  const char* text;
};
constexpr ErrorName kErrorNames[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorCudartUnloading, "cudaErrorCudartUnloading", "driver shutting down"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge",
     "too many blocks in cooperative launch"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorName* find_error(cudaError_t code) {
  for (const ErrorName& known : kErrorNames) {
    if (known.code == code) return &known;
  }
  return nullptr;
}

void reset_device(const Config& config) {
  Device& d = device();
  for (CUstream_st* stream : d.streams) delete stream;
  for (CUevent_st* event : d.events) delete event;
  for (const auto& [p, bytes] : d.pinned) std::free(const_cast<void*>(p));
  const std::uint64_t generation = d.generation + 1;
  d = Device{};
  d.config = config;
  d.generation = generation;
  arena_reset();
  arena_clear_peak();
  seed_device(d);
}

std::string describe_leaks() {
  const Device& d = device();
  std::string text;
  const auto add = [&text](std::size_t count, const std::string& what) {
    if (count > 0) text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + what;
  };
  add(arena_bytes_in_use(), "bytes of device memory");
  add(d.streams.size(), "streams");
  add(d.events.size(), "events");
  add(d.pinned.size(), "page-locked host blocks");
  for (const auto& [kind, count] : d.handles) add(static_cast<std::size_t>(count), kind);
  return text;
}

class DeviceControl final : public Control {
  using Lock = std::lock_guard<std::recursive_mutex>;

 public:
  Config environment() const override { return environment_config(); }
  void reset(const Config& config) override {
    const Lock lock(big_lock());
    reset_device(config);
  }
  void configure(const Config& config) override {
    const Lock lock(big_lock());
    finish_all();
    device().config = config;
    seed_device(device());
  }
  Config config() const override { return device().config; }

  void fail(const char* api, long nth, int code) override { plant({api, nth, false, code}); }
  void fail_from(const char* api, long nth, int code) override { plant({api, nth, true, code}); }
  void fail_any(long nth) override { plant({"", nth, false, 0}); }
  void fail_any_from(long nth) override { plant({"", nth, true, 0}); }
  void fail_kernel(long nth, int code) override {
    const Lock lock(big_lock());
    device().kernel_left = nth;
    device().kernel_code = code;
  }
  void fail_solver(long nth, int info) override {
    const Lock lock(big_lock());
    device().solver_left = nth;
    device().solver_info = info;
  }
  void clear_faults() override {
    const Lock lock(big_lock());
    device().faults.clear();
    device().kernel_left = device().solver_left = 0;
  }

  long calls(const char* api) const override {
    const Lock lock(big_lock());
    const auto it = device().calls.find(api);
    return it == device().calls.end() ? 0 : it->second;
  }
  long total_calls() const override { return device().total_calls; }
  std::vector<std::string> call_log() const override {
    const Lock lock(big_lock());
    return {device().log.begin(), device().log.end()};
  }
  void clear_calls() override {
    const Lock lock(big_lock());
    device().calls.clear();
    device().log.clear();
    device().total_calls = 0;
  }

  std::vector<std::string> reports() override {
    const Lock lock(big_lock());
    arena_check_red_zones();
    return device().reports;
  }
  void clear_reports() override {
    const Lock lock(big_lock());
    device().reports.clear();
  }
  std::string leaks() const override {
    const Lock lock(big_lock());
    return describe_leaks();
  }
  std::size_t bytes_in_use() const override { return arena_bytes_in_use(); }
  std::size_t peak_bytes() const override { return arena_peak_bytes(); }
  void clear_peak() override { arena_clear_peak(); }
  std::uint64_t kernels_run() const override { return scheduler_kernels_run(); }
  bool checks_accesses() const override { return shadow_active(); }

  void open_memory() override {
    const Lock lock(big_lock());
    access_.push_back(std::make_unique<ArenaAccess>());
  }
  void close_memory() override {
    const Lock lock(big_lock());
    access_.pop_back();
  }
  void run_only_blocks(const std::vector<std::uint64_t>& blocks) override {
    scheduler_run_only_blocks(blocks);
  }

 private:
  static void plant(Fault fault) {
    const Lock lock(big_lock());
    device().faults.push_back(std::move(fault));
  }

  std::vector<std::unique_ptr<ArenaAccess>> access_;
};

/// Runs after the destructors of the program's static objects, so what they release is no leak.
__attribute__((destructor)) void report_at_exit() {
  if (std::string(environment_text("THRESHER_EMULATOR_STRICT")) != "1") return;
  Control& control = *thresher_emulator_control();
  const std::vector<std::string> reports = control.reports();
  const std::string leaks = control.leaks();
  if (reports.empty() && leaks.empty()) return;
  for (const std::string& text : reports) std::fprintf(stderr, "emulator: %s\n", text.c_str());
  if (!leaks.empty()) std::fprintf(stderr, "emulator: leaked %s\n", leaks.c_str());
  std::fflush(nullptr);
  _exit(kStrictExit);
}

}  // namespace

std::recursive_mutex& big_lock() {
  static std::recursive_mutex& mutex = *new std::recursive_mutex;
  return mutex;
}

const Config& config() { return device().config; }

void report(const std::string& text) {
  const std::lock_guard lock(big_lock());
  if (device().reports.size() < kMostReports) device().reports.push_back(text);
}

Entry::Entry(const char* api, int failure) : lock_(big_lock()) {
  Device& d = device();
  ++d.calls[api];
  ++d.total_calls;
  if (d.log.size() < kMostLogged) d.log.push_back(api);
  progress();
  for (Fault& fault : d.faults) {
    if (!fault.api.empty() && fault.api != api) continue;
    if (fault.left > 1) {
      --fault.left;
    } else if (fault.left == 1) {
      if (!fault.for_good) fault.left = 0;
      fault_ = fault.api.empty() ? failure : fault.code;
    }
  }
}

bool stream_is_live(cudaStream_t stream) { return is_live(resolve(stream)); }
void enqueue(cudaStream_t stream, std::function<void()> work) {
  append(resolve(stream), {{}, std::move(work)});
}
void finish_stream(cudaStream_t stream) { finish(resolve(stream)); }
cudaError_t sticky_error() { return device().sticky; }
void count_handles(const char* kind, int change) { device().handles[kind] += change; }
int planted_solver_info() {
  Device& d = device();
  return d.solver_left > 0 && --d.solver_left == 0 ? d.solver_info : 0;
}
std::uint64_t device_generation() { return device().generation; }

void check_argument(const void* pointer) {
  if (pointer && !arena_contains(pointer) && !is_pinned(pointer)) {
    report("a kernel is given a pageable host pointer");
  }
}

cudaError_t launch(const cudaLaunchConfig_t* config, const void* kernel, std::size_t param_bytes,
                   std::shared_ptr<const KernelCall> call) {
  const Entry entry("cudaLaunchKernelEx", cudaErrorMemoryAllocation);
  Device& d = device();
  if (d.sticky != cudaSuccess) return d.sticky;
  if (entry.fault()) return fail_with(static_cast<cudaError_t>(entry.fault()));
  if (!stream_is_live(config->stream)) {
    report("launch on a stream that is not alive");
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  const dim3 grid = config->gridDim, block = config->blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535) {
    return fail_with(cudaErrorInvalidConfiguration);
  }
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 || block.y > 1024 ||
      block.z > 64 || std::size_t{block.x} * block.y * block.z > kThreadsPerBlock) {
    return fail_with(cudaErrorInvalidConfiguration);
  }
  const auto opted = d.most_dynamic_shared.find(kernel);
  const int most = opted == d.most_dynamic_shared.end() ? kSharedPerBlock
                                                        : std::max(opted->second, kSharedPerBlock);
  if (config->dynamicSmemBytes > static_cast<std::size_t>(most) ||
      param_bytes > kMostParameterBytes) {
    return fail_with(cudaErrorInvalidValue);
  }
  bool cooperative = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeCooperative) {
      cooperative = config->attrs[i].val.cooperative != 0;
    }
  }
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (cooperative && std::size_t{grid.x} * grid.y * grid.z >
                         kMultiprocessors * (kThreadsPerMultiprocessor / threads)) {
    return fail_with(cudaErrorCooperativeLaunchTooLarge);
  }
  const Launch shape{grid, block, config->dynamicSmemBytes, cooperative};
  enqueue(config->stream, [shape, call = std::move(call)] {
    Device& running = device();
    if (running.sticky != cudaSuccess) return;
    const bool planted = running.kernel_left > 0 && --running.kernel_left == 0;
    const int code = planted ? running.kernel_code : run_grid(shape, *call);
    if (code != 0) running.sticky = static_cast<cudaError_t>(code);
  });
  return cudaSuccess;
}

}  // namespace thresher::emulator

thresher::emulator::Control* thresher_emulator_control() {
  static auto& control = *new thresher::emulator::DeviceControl;
  return &control;
}

using namespace thresher::emulator;

// An ordinary entry point: an error that sticks or is planted comes back at once.
#define THRESHER_ENTER(NAME)                                  \
  const Entry entry(#NAME, cudaErrorMemoryAllocation);        \
  if (device().sticky != cudaSuccess) return device().sticky; \
  if (entry.fault()) return fail_with(static_cast<cudaError_t>(entry.fault()))
// One that releases or waits does so first and reports then.
#define THRESHER_ENTER_ANYWAY(NAME) const Entry entry(#NAME, cudaErrorMemoryAllocation)
#define THRESHER_LEAVE()                                                    \
  return entry.fault() ? fail_with(static_cast<cudaError_t>(entry.fault())) \
                       : fail_with(device().sticky)

extern "C" {

// ---- errors ----

cudaError_t cudaGetLastError() {
  const std::lock_guard lock(big_lock());
  const cudaError_t error = std::exchange(device().last_error, cudaSuccess);
  return device().sticky != cudaSuccess ? device().sticky : error;
}
cudaError_t cudaPeekAtLastError() {
  const std::lock_guard lock(big_lock());
  return device().sticky != cudaSuccess ? device().sticky : device().last_error;
}
const char* cudaGetErrorName(cudaError_t error) {
  const ErrorName* known = find_error(error);
  return known ? known->name : "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  const ErrorName* known = find_error(error);
  return known ? known->text : "unrecognized error code";
}

// ---- the device ----

cudaError_t cudaGetDeviceCount(int* count) {
  THRESHER_ENTER(cudaGetDeviceCount);
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  THRESHER_ENTER(cudaSetDevice);
  return fail_with(index == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* index) {
  THRESHER_ENTER(cudaGetDevice);
  *index = 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  THRESHER_ENTER(cudaDriverGetVersion);
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  THRESHER_ENTER(cudaRuntimeGetVersion);
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int index) {
  THRESHER_ENTER(cudaGetDeviceProperties);
  if (index != 0) return fail_with(cudaErrorInvalidDevice);
  *out = cudaDeviceProp{};
  std::snprintf(out->name, sizeof out->name, "NVIDIA H100 80GB HBM3 (emulated on the CPU)");
  out->major = 9;
  out->minor = 0;
  out->multiProcessorCount = kMultiprocessors;
  out->warpSize = 32;
  out->totalGlobalMem = config().memory;
  out->sharedMemPerBlock = kSharedPerBlock;
  out->sharedMemPerBlockOptin = kSharedPerBlockOptIn;
  out->sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  out->reservedSharedMemPerBlock = kReservedShared;
  out->regsPerBlock = out->regsPerMultiprocessor = 65536;
  out->maxThreadsPerBlock = kThreadsPerBlock;
  out->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  out->maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
  out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
  out->maxThreadsDim[2] = 64;
  out->maxGridSize[0] = 2147483647;
  out->maxGridSize[1] = out->maxGridSize[2] = 65535;
  out->totalConstMem = 65536;
  out->l2CacheSize = 50 << 20;
  out->memoryBusWidth = 5120;
  out->asyncEngineCount = 3;
  out->concurrentKernels = out->cooperativeLaunch = out->unifiedAddressing = 1;
  out->memoryPoolsSupported = out->streamPrioritiesSupported = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  THRESHER_ENTER(cudaDeviceGetAttribute);
  if (index != 0) return fail_with(cudaErrorInvalidDevice);
  static constexpr std::pair<cudaDeviceAttr, int> kAttributes[] = {
      {cudaDevAttrMultiProcessorCount, kMultiprocessors},
      {cudaDevAttrMaxSharedMemoryPerBlock, kSharedPerBlock},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, kSharedPerBlockOptIn},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, kSharedPerMultiprocessor},
      {cudaDevAttrReservedSharedMemoryPerBlock, kReservedShared},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
      {cudaDevAttrMaxThreadsPerBlock, kThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, kThreadsPerMultiprocessor},
      {cudaDevAttrMaxBlocksPerMultiprocessor, kBlocksPerMultiprocessor},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrL2CacheSize, 50 << 20},
      {cudaDevAttrCooperativeLaunch, 1},
      {cudaDevAttrMemoryPoolsSupported, 1},
  };
  for (const auto& [known, its_value] : kAttributes) {
    if (known != attribute) continue;
    *value = its_value;
    return cudaSuccess;
  }
  report("cudaDeviceGetAttribute: attribute " + std::to_string(attribute) + " is not emulated");
  return fail_with(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  THRESHER_ENTER(cudaMemGetInfo);
  *total_bytes = config().memory;
  *free_bytes = *total_bytes - std::min(*total_bytes, arena_bytes_in_use());
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  THRESHER_ENTER_ANYWAY(cudaDeviceSynchronize);
  finish_all();
  THRESHER_LEAVE();
}

// ---- memory ----

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  THRESHER_ENTER(cudaMalloc);
  if (!p) return fail_with(cudaErrorInvalidValue);
  *p = bytes > 0 ? arena_allocate(bytes, Memory::kGlobal) : nullptr;
  return fail_with(*p || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation);
}

static cudaError_t free_device(void* p, const char* api) {
  if (!p || arena_free(p)) return cudaSuccess;
  report(std::string(api) + ": freed before or never allocated: " + arena_describe(p));
  return fail_with(cudaErrorInvalidValue);
}

cudaError_t cudaFree(void* p) {
  THRESHER_ENTER_ANYWAY(cudaFree);
  finish_all();  // as the real one does
  const cudaError_t status = free_device(p, "cudaFree");
  if (status != cudaSuccess) return status;
  THRESHER_LEAVE();
}
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t stream) {
  THRESHER_ENTER(cudaMallocAsync);
  if (!p) return fail_with(cudaErrorInvalidValue);
  if (!stream_is_live(stream)) return fail_with(cudaErrorInvalidResourceHandle);
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = arena_allocate(bytes, Memory::kGlobal);
  if (!*p) {  // memory whose release is only enqueued may serve
    finish_all();
    *p = arena_allocate(bytes, Memory::kGlobal);
  }
  return fail_with(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  THRESHER_ENTER_ANYWAY(cudaFreeAsync);
  if (!stream_is_live(stream)) return fail_with(cudaErrorInvalidResourceHandle);
  enqueue(stream, [p] { free_device(p, "cudaFreeAsync"); });
  THRESHER_LEAVE();
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  THRESHER_ENTER(cudaMallocHost);
  if (!p) return fail_with(cudaErrorInvalidValue);
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = std::malloc(bytes);
  if (!*p) return fail_with(cudaErrorMemoryAllocation);
  std::memset(*p, 0xFF, bytes);
  device().pinned[*p] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  return cudaMallocHost(p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  THRESHER_ENTER_ANYWAY(cudaFreeHost);
  finish_all();
  if (p && device().pinned.erase(p) == 0) {
    report("cudaFreeHost: freed before or never allocated");
    return fail_with(cudaErrorInvalidValue);
  }
  std::free(p);
  THRESHER_LEAVE();
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  THRESHER_ENTER(cudaMemcpyAsync);
  if (!stream_is_live(stream)) {
    report("cudaMemcpyAsync on a stream that is not alive");
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  const cudaError_t status = check_copy(to, from, bytes, kind);
  if (status != cudaSuccess || bytes == 0) return fail_with(status);
  if (!arena_contains(from) && arena_contains(to) && !is_pinned(from)) {
    // Pageable memory is staged before the call returns: the caller may change it at once.
    const char* source = static_cast<const char*>(from);
    enqueue(stream, [to, staged = std::vector<char>(source, source + bytes)] {
      copy(to, staged.data(), staged.size());
    });
  } else {
    enqueue(stream, [to, from, bytes] { copy(to, from, bytes); });
    if (!arena_contains(to) && !is_pinned(to)) finish_stream(stream);  // pageable: done on return
  }
  return fail_with(device().sticky);
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  THRESHER_ENTER_ANYWAY(cudaMemcpy);
  if (device().sticky == cudaSuccess && entry.fault() == 0) {
    const cudaError_t status = check_copy(to, from, bytes, kind);
    if (status != cudaSuccess) return fail_with(status);
    if (bytes > 0) enqueue(nullptr, [to, from, bytes] { copy(to, from, bytes); });
  }
  finish_stream(nullptr);
  THRESHER_LEAVE();
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  THRESHER_ENTER(cudaMemcpy2DAsync);
  if (!stream_is_live(stream)) return fail_with(cudaErrorInvalidResourceHandle);
  if (width > to_pitch || width > from_pitch) return fail_with(cudaErrorInvalidPitchValue);
  if (width == 0 || height == 0) return cudaSuccess;
  char* target = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
  for (const std::size_t row : {std::size_t{0}, height - 1}) {
    const cudaError_t status =
        check_copy(target + row * to_pitch, source + row * from_pitch, width, kind);
    if (status != cudaSuccess) return fail_with(status);
  }
  enqueue(stream, [=] {
    for (std::size_t row = 0; row < height; ++row) {
      copy(target + row * to_pitch, source + row * from_pitch, width);
    }
  });
  const bool pageable =
      (!arena_contains(to) && !is_pinned(to)) || (!arena_contains(from) && !is_pinned(from));
  if (pageable) finish_stream(stream);
  return fail_with(device().sticky);
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  THRESHER_ENTER(cudaMemsetAsync);
  if (!stream_is_live(stream)) return fail_with(cudaErrorInvalidResourceHandle);
  if (!arena_check(p, bytes, "cudaMemset")) return fail_with(cudaErrorInvalidValue);
  enqueue(stream, [=] {
    if (device().sticky != cudaSuccess) return;
    std::memset(p, value, bytes);
    shadow_set_initialised(p, bytes, true);
  });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  THRESHER_ENTER(cudaMemset);
  if (!arena_check(p, bytes, "cudaMemset")) return fail_with(cudaErrorInvalidValue);
  enqueue(nullptr, [=] {
    if (device().sticky != cudaSuccess) return;
    std::memset(p, value, bytes);
    shadow_set_initialised(p, bytes, true);
  });
  return cudaSuccess;
}

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  THRESHER_ENTER(cudaStreamCreateWithFlags);
  if (!stream) return fail_with(cudaErrorInvalidValue);
  *stream = new CUstream_st;
  (*stream)->blocking = (flags & cudaStreamNonBlocking) == 0;
  device().streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  THRESHER_ENTER(cudaStreamCreate);
  if (!stream) return fail_with(cudaErrorInvalidValue);
  *stream = new CUstream_st;
  device().streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  THRESHER_ENTER_ANYWAY(cudaStreamDestroy);
  if (stream == nullptr || !is_live(stream)) {
    report("cudaStreamDestroy: not a live stream");
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  finish(stream);
  std::erase(device().streams, stream);
  delete stream;
  THRESHER_LEAVE();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  THRESHER_ENTER_ANYWAY(cudaStreamSynchronize);
  if (!stream_is_live(stream)) {
    report("cudaStreamSynchronize: not a live stream");
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  finish_stream(stream);
  THRESHER_LEAVE();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  THRESHER_ENTER(cudaStreamQuery);
  if (!stream_is_live(stream)) return fail_with(cudaErrorInvalidResourceHandle);
  CUstream_st* queried = resolve(stream);
  if (queried->queue.empty()) return fail_with(device().sticky);
  run_until(queried, queried->finished + 1);  // whoever polls must see progress
  return cudaErrorNotReady;
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  THRESHER_ENTER(cudaEventCreateWithFlags);
  if (!event) return fail_with(cudaErrorInvalidValue);
  *event = new CUevent_st;
  (*event)->timing = (flags & cudaEventDisableTiming) == 0;
  device().events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  THRESHER_ENTER(cudaEventCreate);
  if (!event) return fail_with(cudaErrorInvalidValue);
  *event = new CUevent_st;
  device().events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  THRESHER_ENTER_ANYWAY(cudaEventDestroy);
  if (device().events.erase(event) == 0) {
    report("cudaEventDestroy: not a live event");
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  delete event;
  THRESHER_LEAVE();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  THRESHER_ENTER(cudaEventRecord);
  if (device().events.count(event) == 0 || !stream_is_live(stream)) {
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  event->seconds = std::make_shared<double>(-1.0);
  event->stream = resolve(stream);
  event->position = event->stream->issued + 1;
  enqueue(stream, [seconds = event->seconds] { *seconds = now(); });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  THRESHER_ENTER(cudaStreamWaitEvent);
  if (device().events.count(event) == 0 || !stream_is_live(stream)) {
    return fail_with(cudaErrorInvalidResourceHandle);
  }
  if (!has_happened(event)) append(resolve(stream), {{{event->stream, event->position}}, {}});
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  THRESHER_ENTER_ANYWAY(cudaEventSynchronize);
  if (device().events.count(event) == 0) return fail_with(cudaErrorInvalidResourceHandle);
  if (!has_happened(event)) run_until(event->stream, event->position);
  THRESHER_LEAVE();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  THRESHER_ENTER(cudaEventQuery);
  if (device().events.count(event) == 0) return fail_with(cudaErrorInvalidResourceHandle);
  if (has_happened(event)) return fail_with(device().sticky);
  run_until(event->stream, event->stream->finished + 1);  // whoever polls must see progress
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  THRESHER_ENTER(cudaEventElapsedTime);
  for (const cudaEvent_t event : {start, stop}) {
    if (device().events.count(event) == 0 || !event->timing || !event->seconds) {
      return fail_with(cudaErrorInvalidResourceHandle);
    }
  }
  if (!has_happened(start) || !has_happened(stop)) return cudaErrorNotReady;
  *milliseconds = static_cast<float>((*stop->seconds - *start->seconds) * 1e3);
  return cudaSuccess;
}

// ---- functions ----

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  THRESHER_ENTER(cudaFuncSetAttribute);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > kSharedPerBlockOptIn) return fail_with(cudaErrorInvalidValue);
  device().most_dynamic_shared[kernel] = value;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* kernel) {
  THRESHER_ENTER(cudaFuncGetAttributes);
  *out = cudaFuncAttributes{};
  out->maxThreadsPerBlock = kThreadsPerBlock;
  out->numRegs = 32;  // not known here
  const auto opted = device().most_dynamic_shared.find(kernel);
  out->maxDynamicSharedSizeBytes =
      opted == device().most_dynamic_shared.end() ? kSharedPerBlock : opted->second;
  out->binaryVersion = out->ptxVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n_blocks, const void*,
                                                          int block_size,
                                                          std::size_t shared_bytes) {
  THRESHER_ENTER(cudaOccupancyMaxActiveBlocksPerMultiprocessor);
  if (block_size <= 0 || block_size > kThreadsPerBlock) return fail_with(cudaErrorInvalidValue);
  // By threads, blocks and shared memory; registers are not known here.
  const int by_threads = kThreadsPerMultiprocessor / ((block_size + 31) / 32 * 32);
  const int by_shared =
      shared_bytes > kSharedPerBlockOptIn
          ? 0
          : kSharedPerMultiprocessor / (static_cast<int>(shared_bytes) + kReservedShared);
  *n_blocks = std::min({kBlocksPerMultiprocessor, by_threads, by_shared});
  return cudaSuccess;
}

}  // extern "C"

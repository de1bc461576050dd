#include "backend/accelerator_library.hpp"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>

#include <array>
#include <filesystem>
#include <system_error>

#include "thresher/version.hpp"

namespace thresher {
namespace {

namespace fs = std::filesystem;

std::string library_name() {
  return "libthresher_cuda.so." + std::to_string(THRESHER_VERSION_MAJOR) + "." +
         std::to_string(THRESHER_VERSION_MINOR);
}

/// The folder of the library or program this code is part of; empty if it cannot be told.
fs::path own_folder() {
  Dl_info info{};
  void* entry = nullptr;
  const auto here = reinterpret_cast<const void*>(&accelerator_library_path);
  if (dladdr1(here, &info, &entry, RTLD_DL_LINKMAP) == 0 || entry == nullptr) return {};
  // The program itself has no name there, and argv[0] is no path if the shell searched for it.
  const char* name = static_cast<const link_map*>(entry)->l_name;
  std::error_code failed;
  const fs::path file = fs::canonical(*name == '\0' ? "/proc/self/exe" : name, failed);
  return failed ? fs::path() : file.parent_path();
}

bool is_there(const fs::path& file) {
  std::error_code failed;
  return fs::exists(file, failed);
}

/// The first of our places that has the library; empty if none has.
fs::path beside_this_code() {
  const fs::path folder = own_folder();
  if (folder.empty()) return {};
  const std::string name = library_name();
  for (const char* place : {".", "../lib", "../" THRESHER_LIBDIR}) {
    if (is_there(folder / place / name)) return (folder / place / name).lexically_normal();
  }
  // Build trees: host/ and kernels/ are siblings, the command and the tests lie one deeper.
  for (const char* top : {"..", "../.."}) {
    const fs::path file = folder / top / "kernels" / name;
    if (is_there(folder / top / "CMakeCache.txt") && is_there(file)) return file.lexically_normal();
  }
  return {};
}

/// What dlopen found wrong, without folders.
std::string loader_reason(const std::string& path) {
  const char* said = dlerror();
  std::string reason = said != nullptr ? said : "unknown reason";
  const std::string file = fs::path(path).filename();
  if (reason.starts_with(path + ": cannot open shared object file: No such file")) {
    return file + " is not installed";
  }
  if (reason.starts_with(path + ": ")) reason = reason.substr(path.size() + 2);
  return file + " cannot be loaded: " + reason;
}

const char* library_named_by_user() {
  const char* named = secure_getenv("THRESHER_CUDA_LIBRARY");
  return named != nullptr && *named != '\0' ? named : nullptr;
}

bool driver_is_there() {
  return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE) != nullptr;
}

}  // namespace

std::string accelerator_library_path() {
  if (const char* named = library_named_by_user()) return named;
  const fs::path found = beside_this_code();
  return found.empty() ? library_name() : found.string();
}

std::shared_ptr<Accelerator> open_accelerator(std::string& why_not) {
  const std::string path = accelerator_library_path();
  // What the library links against takes 190 MB: not where nothing could come of it.
  if (library_named_by_user() == nullptr && is_there(path) && !driver_is_there()) {
    why_not = "no NVIDIA driver is installed";
    return nullptr;
  }
  // NODELETE: an Error thrown by the library may outlive the device (its code is the library's),
  // and CUDA's own libraries start threads that do not survive being unmapped.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    why_not = loader_reason(path);
    return nullptr;
  }
  const std::shared_ptr<void> handle(library, [](void* opened) { dlclose(opened); });
  void* entry = dlsym(library, kOpenAcceleratorName);
  if (entry == nullptr) {
    why_not = fs::path(path).filename().string() + " is not a device library: it has no " +
              kOpenAcceleratorName;
    return nullptr;
  }
  std::array<char, 512> reason{};
  Accelerator* device = nullptr;
  const int failed =
      reinterpret_cast<OpenAccelerator>(entry)(version(), &device, reason.data(), reason.size());
  if (failed != 0 || device == nullptr) {
    why_not = reason[0] != '\0' ? reason.data() : "the device library gave no reason";
    return nullptr;
  }
  why_not.clear();
  return {device, [handle](Accelerator* opened) { delete opened; }};
}

}  // namespace thresher

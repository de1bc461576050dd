#!/bin/bash
# Installs a build into a folder of its own and uses it as a stranger would:
#   check_install.sh <build folder> <scratch folder>
# find_package (shared, static), pkg-config (shared, static), a version that must not match, and the
# names that the shared library shows.
set -euo pipefail

build=$1
scratch=$2
source_dir=$(cd "$(dirname "$0")" && pwd)
installed=$scratch/installed
prefix=$scratch/moved
jobs=$(nproc)

fail() {
  echo "check_install: $1" >&2
  exit 1
}

rm -rf "$scratch"
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)
installed=$scratch/installed
prefix=$scratch/moved
cmake --install "$build" --prefix "$installed" >"$scratch/install.log"
mv "$installed" "$prefix" # nothing in it may know where it was installed

echo "- files"
libdir=$(dirname "$(find "$prefix" -name libthresher.a)")
for file in bin/thresher include/thresher/thresher.hpp include/thresher/version.hpp; do
  [ -e "$prefix/$file" ] || fail "$file is not installed"
done
soname=$(objdump -p "$libdir/libthresher.so" | awk '$1 == "SONAME" { print $2 }')
[ -e "$libdir/$soname" ] || fail "the soname $soname is not installed"
[ "$soname" != libthresher.so ] || fail "the soname carries no version"
foreign=$(grep -rlF "$installed" "$prefix" || true)
[ -z "$foreign" ] || fail "absolute paths in $foreign"

echo "- the device library"
for file in "$libdir/libthresher.so" "$prefix/bin/thresher"; do
  if ldd "$file" | grep -qiE 'cuda|cublas|cusolver'; then fail "$file needs CUDA"; fi
done
built_device=$(find "$build/kernels" -name 'libthresher_cuda.so.*.*.*' 2>/dev/null || true)
"$prefix/bin/thresher" info | tee "$scratch/info.txt" >/dev/null
if [ -n "$built_device" ]; then
  grep -qF "$libdir/libthresher_cuda.so" "$scratch/info.txt" || {
    cat "$scratch/info.txt" >&2
    fail "the installed command does not find the installed libthresher_cuda"
  }
  if grep -q "cannot be loaded" "$scratch/info.txt"; then fail "$(cat "$scratch/info.txt")"; fi
  leaked=$(nm -D --defined-only "$libdir"/libthresher_cuda.so.*.*.* | grep -v ' thresher_cuda_open$' || true)
  [ -z "$leaked" ] || fail "libthresher_cuda exports more than its entry point: $(head -5 <<<"$leaked")"
else
  grep -q "libthresher_cuda.so.* is not installed" "$scratch/info.txt" ||
    fail "thresher info does not say that libthresher_cuda is missing"
fi

echo "- exported names"
nm -D -C --defined-only "$libdir/libthresher.so" | cut -d' ' -f3- >"$scratch/exported.txt"
grep -q '^thresher::fit_path' "$scratch/exported.txt" || fail "fit_path is not exported"
leaked=$(grep -vE '^(thresher::|(typeinfo( name)?|vtable) for thresher::)' "$scratch/exported.txt" || true)
[ -z "$leaked" ] || fail "exported, but not ours: $(head -5 <<<"$leaked")"
# Every name belongs to something that a public header marks with THRESHER_API.
grep -A1 -rhE "THRESHER_API" "$prefix/include/thresher" >"$scratch/marked.txt"
sed -nE 's/^thresher::([^(\[]*).*/\1/p' "$scratch/exported.txt" | sort -u | while read -r name; do
  grep -qwE "$(sed 's/[^A-Za-z0-9_]*::[^A-Za-z0-9_]*/|/g' <<<"$name")" "$scratch/marked.txt" ||
    fail "exported, but not in the public headers: thresher::$name"
done

echo "- find_package, shared and static"
configure() {
  cmake -S "$source_dir" -B "$1" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF "${@:2}"
}
configure "$scratch/build" >"$scratch/configure.log" 2>&1 || {
  cat "$scratch/configure.log" >&2
  fail "the consumer does not configure"
}
cmake --build "$scratch/build" -j "$jobs" >"$scratch/build.log" || {
  cat "$scratch/build.log" >&2
  fail "the consumer does not build"
}
"$scratch/build/consumer_thresher" "$scratch/model.safetensors"
"$scratch/build/consumer_thresher_static" "$scratch/model.safetensors"
ldd "$scratch/build/consumer_thresher" | grep -q "$soname => $libdir" ||
  fail "the shared consumer does not load $libdir/$soname"
if ldd "$scratch/build/consumer_thresher_static" | grep -q libthresher; then
  fail "the static consumer loads the shared library"
fi

echo "- a version that does not match"
for version in 9.0 0.2 0.0; do
  if configure "$scratch/mismatch" -DWANTED_VERSION=$version >"$scratch/mismatch.log" 2>&1; then
    fail "find_package(thresher $version) succeeded"
  fi
  grep -q "requested version" "$scratch/mismatch.log" || {
    cat "$scratch/mismatch.log" >&2
    fail "find_package(thresher $version) failed for another reason than the version"
  }
  rm -rf "$scratch/mismatch"
done

echo "- pkg-config, shared and static"
export PKG_CONFIG_PATH=$libdir/pkgconfig
pkg-config --atleast-version=0.1 thresher || fail "pkg-config does not know the version"
if pkg-config --atleast-version=9.0 thresher; then fail "pkg-config accepts version 9.0"; fi
read -ra shared_flags <<<"$(pkg-config --cflags --libs thresher)"
read -ra static_flags <<<"$(pkg-config --static --cflags --libs thresher)"
g++ -std=c++20 "$source_dir/consumer.cpp" "${shared_flags[@]}" -o "$scratch/consumer_pkg"
# Not -static: gfortran's run-time library crashes at exit in a program without shared libraries.
g++ -std=c++20 "$source_dir/consumer.cpp" "${static_flags[@]/#-lthresher/-l:libthresher.a}" \
  -o "$scratch/consumer_pkg_static"
LD_LIBRARY_PATH=$libdir "$scratch/consumer_pkg" "$scratch/model.safetensors"
"$scratch/consumer_pkg_static" "$scratch/model.safetensors"
if ldd "$scratch/consumer_pkg_static" | grep -q libthresher; then
  fail "the static consumer of pkg-config loads the shared library"
fi

echo "- the installed command"
"$prefix/bin/thresher" info >"$scratch/info.txt" || fail "thresher info fails"
echo "install check: all passed"

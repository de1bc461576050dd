#!/bin/bash
# Fuzzes the readers of foreign files with libFuzzer under ASan and UBSan, from seeds made here:
#   tests/readers/fuzz.sh [SECONDS] [BUILD_DIR] [TARGET...]
# SECONDS (60) are spent on each target, two targets at a time. Fails if one crashes, hangs, leaks
# or takes more memory than its input explains; the input is then kept in BUILD_DIR/crashes.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

seconds=${1:-60}
build=${2:-build/fuzz}
shift $(($# < 2 ? $# : 2))
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(npy csv svmlight mtx gz names model)

compiler=
for name in clang++-14 clang++; do
  if command -v "$name" >/dev/null; then
    compiler=$name
    break
  fi
done
if [ -z "$compiler" ]; then
  echo "fuzz.sh: clang++ must be installed (Debian: clang libclang-rt-14-dev), got none" >&2
  exit 1
fi
launcher=()
if command -v ccache >/dev/null; then launcher=(ccache); fi

mkdir -p "$build/include/thresher" "$build/objects" "$build/crashes"
version=$(sed -n 's/^project(thresher VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
IFS=. read -r major minor patch <<<"$version"
sed -e "s/@PROJECT_VERSION@/$version/g" -e "s/@PROJECT_VERSION_MAJOR@/$major/g" \
  -e "s/@PROJECT_VERSION_MINOR@/$minor/g" -e "s/@PROJECT_VERSION_PATCH@/$patch/g" \
  host/include/thresher/version.hpp.in >"$build/include/thresher/version.hpp"

flags=(-std=c++20 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
  -fno-sanitize-recover=all -Ihost -Ihost/include -Itests/readers -I"$build/include")

# An archive, so that only what load_model needs of host/model is linked.
export FLAGS="${flags[*]}" COMPILER="${launcher[*]} $compiler" OBJECTS="$build/objects"
printf '%s\n' host/readers/*.cpp host/model/*.cpp | xargs -P2 -I{} bash -c \
  'source={}; $COMPILER $FLAGS -fsanitize=fuzzer-no-link -c $source -o "$OBJECTS/$(basename $source .cpp).o"'
rm -f "$build/library.a"
ar rcs "$build/library.a" "$build"/objects/*.o

"$compiler" "${flags[@]}" tests/readers/fuzz_seeds.cpp "$build/library.a" -lz -lgtest -pthread \
  -o "$build/fuzz_seeds"
rm -rf "$build/seeds"
mkdir -p "$build/seeds"
"$build/fuzz_seeds" "$build/seeds"

# Runs one target from its seeds; whatever it learns stays in BUILD_DIR/corpus for the next run.
fuzz_target() {
  local target=$1
  local binary=$build/fuzz_$target
  local log=$build/fuzz_$target.log
  mkdir -p "$build/corpus/$target"
  if ! "$compiler" "${flags[@]}" -fsanitize=fuzzer -DTHRESHER_FUZZ_TARGET="$target" \
    -DTHRESHER_FUZZ_MODEL=1 tests/readers/fuzz_readers.cpp "$build/library.a" -lz -pthread \
    -o "$binary" ||
    ! "$binary" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -timeout=20 \
      -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$build/crashes/$target-" \
      "$build/corpus/$target" "$build/seeds/$target" >"$log" 2>&1; then
    echo "fuzz.sh: $target FAILED, see $log and $build/crashes" >&2
    [ ! -f "$log" ] || tail -n 40 "$log" >&2
    return 1
  fi
  printf '%-9s %10s executions in %s s, %s inputs kept\n' "$target" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$seconds" \
    "$(find "$build/corpus/$target" -type f | wc -l)"
}

failed=0
running=()
for target in "${targets[@]}"; do
  fuzz_target "$target" &
  running+=($!)
  if [ ${#running[@]} -eq 2 ]; then
    wait "${running[0]}" || failed=1
    running=("${running[1]}")
  fi
done
for job in "${running[@]}"; do wait "$job" || failed=1; done
exit $failed

#!/bin/bash
# Compiler launcher of the kernels: keep_ptxas.sh [ccache] nvcc ... -o OBJECT ...
# What ptxas -v says goes to OBJECT.ptxas, for tests/tree/kernel_table.py, and not to the console.
set -uo pipefail

object=
arguments=("$@")
for ((i = 0; i + 1 < ${#arguments[@]}; ++i)); do
  if [ "${arguments[i]}" = -o ]; then object=${arguments[i + 1]}; fi
done
if [ -z "$object" ]; then exec "$@"; fi

said=$object.said
"$@" 2>"$said"
code=$?
about='^ptxas info|^ +[0-9]+ bytes stack frame'
if [ $code -eq 0 ]; then grep -E "$about" "$said" >"$object.ptxas"; fi
grep -vE "$about" "$said" >&2
rm -f "$said"
exit $code

#!/usr/bin/env python3
"""Registers, spills and shared memory of every kernel, as ptxas saw them.

    kernel_table.py BUILD            compare the build with docs/kernel_resources.md
    kernel_table.py BUILD --rewrite  make that page from the build

The build keeps what ptxas said beside each object (cmake/keep_ptxas.sh). Exit code 1: the table and
the build differ, or an object has no record. Under another toolkit than the table's the numbers
differ for that reason alone: the differences are printed and pass.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "kernel_resources.md"
HEAD = """# Kernel resources

Written by `./run kernel-table` from what ptxas said in the release build; `./run test` compares the
two. Per architecture: registers a thread, bytes spilt (stores + loads), bytes of static shared
memory. A kernel whose scratch memory is not spilling (a local array) shows it as `stack`. Dynamic
shared memory is decided at launch and not seen here.

"""
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangle(names):
    """Mangled name -> readable one, without parameters and our namespaces."""
    result = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                            check=True)
    readable = {}
    for mangled, name in zip(names, result.stdout.split("\n")):
        name = re.sub(r"^void ", "", name)
        name = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N_\w+::|thresher::|cuda::", "", name)
        depth = 0
        for i, letter in enumerate(name):
            depth += {"<": 1, ">": -1}.get(letter, 0)
            if letter == "(" and depth == 0:
                name = name[:i]
                break
        readable[mangled] = name
    return readable


def source_of(kernel, sources):
    """The file that defines a kernel: an object is made of several."""
    base = re.match(r"\w+", kernel)[0]
    owners = [path.name for path, text in sources.items() if re.search(rf"\b{base}\(", text)]
    if len(owners) != 1:
        sys.exit(f"kernel_table: {base} is defined in {owners}, not in one file")
    return owners[0]


def records(build):
    """{(file, kernel): {architecture: text}} of the objects of a build."""
    folder = build / "kernels" / "CMakeFiles" / "thresher_cuda.dir"
    sources = {path: path.read_text() for path in sorted((ROOT / "kernels").glob("*.cu"))}
    found = {}
    missing = []
    for source in sources:
        if not (folder / (source.name + ".o")).exists():
            continue  # not part of the library
        record = folder / (source.name + ".o.ptxas")
        if not record.exists():
            missing.append(source.name)
            continue
        current = None
        for line in record.read_text().splitlines():
            if match := ENTRY.search(line):
                current = {"spill": 0, "stack": 0}
                found.setdefault(match[1], {})[match[2]] = current
            elif current is not None and (match := STACK.search(line)):
                current["spill"] = int(match[2]) + int(match[3])
                current["stack"] = int(match[1])
            elif current is not None and (match := USED.search(line)):
                shared = SHARED.search(line)
                current["registers"] = int(match[1])
                current["shared"] = int(shared[1]) if shared else 0
                current = None
    if missing:
        sys.exit("kernel_table: built without a record of ptxas: " + ", ".join(missing) +
                 " (remove these objects and build again)")
    if not found:
        sys.exit(f"kernel_table: no kernels in {folder}")
    names = demangle(list(found))
    table = {}
    for kernel, values in found.items():
        source = source_of(names[kernel], sources)
        cells = {}
        for arch, used in values.items():
            cells[arch] = f"{used['registers']} / {used['spill']} / {used['shared']}"
            if used["stack"] > 0 and used["spill"] == 0:
                cells[arch] += f", stack {used['stack']}"
        if (source, names[kernel]) in table:
            sys.exit(f"kernel_table: {source} has two kernels that read {names[kernel]}")
        table[(source, names[kernel])] = cells
    return table


def toolkit(build):
    # Not the cache: it does not hold a compiler that CMakeLists.txt found by itself.
    for chosen in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        found = re.search(r'set\(CMAKE_CUDA_COMPILER "(.*)"\)', chosen.read_text())
        if found:
            nvcc = found[1]
            said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
            return re.search(r"V([\d.]+)", said.stdout)[1]
    sys.exit(f"kernel_table: {build} has no CUDA compiler")


def page(table, version):
    architectures = sorted({arch for cells in table.values() for arch in cells},
                           key=lambda arch: int(re.sub(r"\D", "", arch)))
    lines = [f"Toolkit: nvcc {version}.", "",
             "| file | kernel | " + " | ".join(architectures) + " |",
             "|---|---|" + "---|" * len(architectures)]
    for (source, kernel), cells in sorted(table.items()):
        lines.append(f"| {source} | `{kernel}` | " +
                     " | ".join(cells.get(arch, "-") for arch in architectures) + " |")
    return HEAD + "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rewrite", action="store_true")
    options = parser.parse_args()
    build = options.build.resolve()
    version = toolkit(build)
    fresh = page(records(build), version)
    if options.rewrite:
        TABLE.write_text(fresh)
        print(f"{TABLE.relative_to(ROOT)}: {fresh.count('.cu |')} kernels")
        return
    committed = TABLE.read_text() if TABLE.exists() else ""
    old, new = set(committed.splitlines()), set(fresh.splitlines())
    print("\n".join(line for line in fresh.splitlines() if line.startswith("|")))
    if old == new:
        print("as in docs/kernel_resources.md")
        return
    for line in sorted(old - new):
        print("- " + line)
    for line in sorted(new - old):
        print("+ " + line)
    if f"Toolkit: nvcc {version}." not in committed and committed:
        print(f"the table is of another toolkit, this build of nvcc {version}: not compared")
        return
    sys.exit("kernel_table: the build differs from docs/kernel_resources.md; ./run kernel-table "
             "rewrites it, for a commit that says why")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Rules of the tree that no compiler checks; ./run test runs it.

    check_tree.py              check the files git knows of
    check_tree.py --self-test  plant one breach of every rule and see it found
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = (".hpp", ".cpp", ".cu", ".cuh", ".h", ".in")
# May repeat: CMake and Python find them by their folder. Data sets have equal files, and the shadow
# headers of tests/cuda_on_cpu stand in for CUDA's by name.
REPEATED = {"CMakeLists.txt", "__init__.py"}
OWN_NAMES = (".ci/", "tests/data/", "tests/cuda_on_cpu/shadow/")
CUDA_HEADER = re.compile(r'#\s*include\s*[<"](cuda|cublas|cusolver|cub/|thrust/|nv|driver_types)')
INCLUDE = re.compile(r'#\s*include\s*"([^"]+)"')
CALL = re.compile(r"\b(cuda[A-Z]\w*|cublas[A-Z]\w*|cusolver[A-Z]\w*|cub::\w+::\w+)\s*(?:<[^<>;]*>)?\(")
# Calls without a status.
NO_STATUS = {"cudaGetErrorName", "cudaGetErrorString", "cublasGetStatusName",
             "cublasGetStatusString"}
# What destructors and failure paths may call without reading the status.
RELEASE = {"cudaGetLastError", "cublasDestroy", "cusolverDnDestroy", "cusolverDnDestroyParams"}


def without_comments(text):
    """Comments and string contents become blanks; lines stay."""
    def blank(match):
        token = match[0]
        if token.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", token)
        return token[0] + re.sub(r"[^\n]", " ", token[1:-1]) + token[-1]
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def launches(files):
    for path, text in files.items():
        if path.startswith(("host/", "kernels/")):
            for match in re.finditer("<<<", text):
                yield f"{path}:{line_of(text, match.start())}: `<<<`: kernels start through launch()"


def exits(files):
    for path, text in files.items():
        if path.startswith(("host/", "kernels/", "python/")):
            for match in re.finditer(r"\b(?:quick_exit|_?exit|abort|terminate)\s*\(",
                                     without_comments(text)):
                yield f"{path}:{line_of(text, match.start())}: {match[0]}): the library never ends"


def cuda_headers(files):
    """Host files and all they include, followed through quoted includes."""
    folders = ("host/", "host/include/", "kernels/")
    for start in files:
        if not start.startswith("host/"):
            continue
        todo, seen = [(start, [start])], {start}
        while todo:
            path, way = todo.pop()
            for line in files[path].splitlines():
                if CUDA_HEADER.match(line.strip()):
                    yield f"{' -> '.join(way)}: {line.strip()}: no CUDA header is reachable from host/"
                if match := INCLUDE.match(line.strip()):
                    near = str(pathlib.PurePosixPath(path).parent) + "/"
                    for folder in (near, *folders):
                        target = folder + match[1]
                        if target in files and target not in seen:
                            seen.add(target)
                            todo.append((target, way + [target]))


def names(files):
    first = {}
    for path in files:
        name = path.rsplit("/", 1)[-1]
        if name in REPEATED or path.startswith(OWN_NAMES):
            continue
        if name in first:
            yield f"{path}: has the name of {first[name]}"
        first.setdefault(name, path)


def unread_statuses(files):
    for path, raw in files.items():
        if not path.startswith("kernels/") or not path.endswith(SOURCE):
            continue
        text = without_comments(raw)
        for match in CALL.finditer(text):
            call = match[1]
            if call in NO_STATUS or call.endswith("_t"):  # the latter are types
                continue
            before = text[: match.start()].rstrip()
            if re.search(r"\b(?:check|note_failure)\($", before):
                continue
            if before.endswith("(void)") and call in RELEASE:
                continue
            stored = re.search(r"(\w+)\s*=$", before)
            if stored and re.search(rf"\bcheck\(\s*{stored[1]}\b", text[match.end() : match.end() + 600]):
                continue
            yield f"{path}:{line_of(text, match.start())}: {call}: its status is not read by check()"


RULES = (launches, exits, cuda_headers, names, unread_statuses)


def breaches(files):
    return [breach for rule in RULES for breach in rule(files)]


def tree():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    files = {}
    for path in sorted(filter(None, listed)):
        file = ROOT / path
        if not file.is_file():
            continue
        text = path.endswith(SOURCE) or path.endswith(".py")
        files[path] = file.read_text(encoding="utf-8", errors="replace") if text else ""
    return files


def self_test():
    clean = {
        "host/a.cpp": '#include "b.hpp"\nint main() { /* exit(1) */ }\n',
        "kernels/b.hpp": "// cudaMalloc(x) is elsewhere\n",
        "kernels/c.cu": 'void f() { check(cudaMalloc(&p, n), "cudaMalloc");\n'
                        "  const cudaError_t s = cudaGetDeviceCount(&n);\n  check(s, \"x\");\n"
                        "  (void)cudaGetLastError();\n  note_failure(cudaFree(p)); }\n",
        "tests/data/x/X.npy": "", "tests/data/y/X.npy": "", "a/CMakeLists.txt": "",
        "CMakeLists.txt": "",
    }
    planted = {
        "<<<": ("kernels/d.cu", "k<<<1, 2>>>();\n"),
        "exit(": ("host/d.cpp", "void f() { std::exit(1); }\n"),
        "abort(": ("kernels/d.cpp", "void f() { abort(); }\n"),
        "host/d.cpp -> kernels/e.hpp": ("host/d.cpp", '#include "e.hpp"\n'),
        "has the name of": ("tests/a.cpp", ""),
        "cudaMemcpy": ("kernels/d.cu", "void f() { cudaMemcpy(a, b, n, k); }\n"),
        "cublasDgemm": ("kernels/d.cpp", "void f() { (void)cublasDgemm(h); }\n"),
        "cudaMemset": ("kernels/d.cpp", "void f() { auto s = cudaMemset(p, 0, n); use(s); }\n"),
        "cub::DeviceScan": ("kernels/d.cu", "void f() { cub::DeviceScan::ExclusiveSum(a, b); }\n"),
    }
    wrong = [f"found in a clean tree: {breach}" for breach in breaches(clean)]
    for word, (path, text) in planted.items():
        found = breaches({**clean, "kernels/e.hpp": "#include <cuda_runtime.h>\n", path: text})
        if len(found) != 1 or word not in found[0]:
            wrong.append(f"{word}: planted in {path}, found {found}")
    return wrong


def main():
    found = self_test() if sys.argv[1:] == ["--self-test"] else breaches(tree())
    print("\n".join(found) or "tree rules: kept")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

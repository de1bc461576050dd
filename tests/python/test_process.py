"""What a process does around a fit: threads, forks, signals, memory, progress, symbols."""

import concurrent.futures
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tqdm

import thresher
from thresher import _core

TILE = 110  # responses


@pytest.fixture
def long_call(data):
    """Keywords of a call of half a minute in 12 tiles."""
    X, Y = data
    Y = np.tile(Y, 400) + np.random.default_rng(0).standard_normal((60, 1200))
    call = {"X": X, "Y": Y, "threads": 1, "keep_chosen": True, "max_memory": 120_000_000}
    plan = thresher.plan(**call, folds=10)
    assert plan.responses_per_tile <= TILE
    return call


def test_a_thousand_fits_in_eight_threads(data):
    X, Y = data
    expected = _core.fit_path(X, Y, n_lambdas=10, threads=1).coef_values.copy()

    def fit(k):
        return _core.fit_path(X, Y, n_lambdas=10, threads=1 + k % 3).coef_values

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for values in pool.map(fit, range(1000)):
            np.testing.assert_array_equal(values, expected)


def test_other_threads_run_during_a_fit(long_call):
    beats = 0
    stop = threading.Event()

    def beat():
        nonlocal beats
        while not stop.wait(0.01):
            beats += 1

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        thresher.cross_validate(**long_call, time_limit=1.0)
    finally:
        stop.set()
        thread.join()
    assert beats > 20


def test_fork_after_a_fit(data):
    X, Y = data
    expected = thresher.cross_validate(X, Y, threads=2)
    child = os.fork()
    if child == 0:
        same = np.array_equal(thresher.cross_validate(X, Y, threads=2).cv_error, expected.cv_error)
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def interrupt_when(enough):
    """A progress callback, and a thread that sends SIGINT once `enough` fits are done."""
    reached = threading.Event()
    sent = []

    def send():
        reached.wait(60)
        time.sleep(0.05)  # the main thread must be inside the solver, not inside the callback
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    return (lambda done, total, seconds: reached.set() if done > enough else None), sent


def test_interrupt_stops_within_a_second_and_keeps_what_is_finished(long_call):
    progress, sent = interrupt_when(TILE * 11 * 100)
    with pytest.raises(thresher.Interrupted, match=r"in \.result") as stopped:
        thresher.cross_validate(**long_call, progress=progress)
    assert time.monotonic() - sent[0] < 1.0

    result = stopped.value.result
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert result.interrupted
    assert "interrupted" in repr(result)
    finished = (result.status != "not computed").all(axis=(1, 2))
    assert finished[:50].all()
    assert not finished.all()
    kept = thresher.cross_validate(long_call["X"], long_call["Y"][:, :50])
    np.testing.assert_array_equal(result.lambda_best[:50], kept.lambda_best)
    result.coef_all.sum_duplicates()


def test_interrupt_without_progress(data, long_call):
    # Nothing of Python runs in the main thread meanwhile: the call has to look for signals itself.
    expected = thresher.fit_path(*data)
    for _ in range(3):
        sent = []

        def send(sent=sent):
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Timer(0.3, send).start()
        with pytest.raises(KeyboardInterrupt):
            thresher.cross_validate(**long_call)
        assert time.monotonic() - sent[0] < 1.0
        np.testing.assert_array_equal(thresher.fit_path(*data).gap, expected.gap)


def test_what_a_callback_raises_ends_the_call(long_call):
    def refuse(done, total, seconds):
        raise RuntimeError("enough")

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        thresher.cross_validate(**long_call, progress=refuse)
    assert time.monotonic() - start < 5


def test_progress_reaches_the_total_and_is_not_a_flood(long_call):
    seen = []
    short = {**long_call, "Y": long_call["Y"][:, :60], "max_memory": 0}
    start = time.monotonic()
    result = thresher.cross_validate(**short, progress=lambda *now: seen.append(now))
    assert seen[-1][0] == seen[-1][1] == result.stats["n_fits"]
    done = [now[0] for now in seen]
    assert done == sorted(done)
    assert len(seen) <= 10 * (time.monotonic() - start) + 2


def test_progress_bars(data, capsys, monkeypatch):
    thresher.cross_validate(*data, progress=True)
    assert "fit" in capsys.readouterr().err
    with tqdm.tqdm() as bar:
        result = thresher.cross_validate(*data, progress=bar)
        assert bar.n == bar.total == result.stats["n_fits"]
    thresher.fit_path(*data, progress=tqdm.tqdm)
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    thresher.cross_validate(*data, progress=True)
    assert "fits, " in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress must be"):
        thresher.fit_path(*data, progress=3)


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_fits_do_not_leak(data):
    X, Y = np.ascontiguousarray(data[0][:, :10]), data[1][:, 0]
    weight = np.ones(60)
    callback = lambda *now: None  # noqa: E731

    def fit(count):
        for _ in range(count):
            model = _core.fit_path(X, Y, sample_weight=weight, threads=1, callback=callback)
            assert model.coef_values.size > 0
            with pytest.raises(ValueError):
                _core.fit_path(X, Y, sample_weight=weight, tol=-1.0)

    fit(500)
    before = resident_bytes()
    references = [sys.getrefcount(thing) for thing in (X, Y, weight, callback)]
    fit(10_000)
    # A model of 100 lambdas has some 12 kB: one in ten lost would be 12 MB.
    assert resident_bytes() - before < 6e6
    assert [sys.getrefcount(thing) for thing in (X, Y, weight, callback)] == references


def test_no_threads_stay_behind(data):
    thresher.fit_path(*data, threads=4)
    before = len(list(pathlib.Path("/proc/self/task").iterdir()))
    for _ in range(20):
        thresher.fit_path(*data, threads=4)
    assert len(list(pathlib.Path("/proc/self/task").iterdir())) <= before


def test_no_blas_of_ours_is_visible():
    module = ctypes.CDLL(_core.__file__)
    for name in ("dgemm_", "cblas_dgemm", "dsyevd_", "openblas_get_config", "dgemm_kernel"):
        assert not hasattr(module, name)
    assert hasattr(module, "PyInit__core")


def test_the_module_needs_no_blas_and_no_fortran_of_the_machine():
    module = pathlib.Path(_core.__file__).read_bytes()
    for name in (b"libgfortran.so", b"libquadmath.so", b"libopenblas.so", b"libblas.so"):
        assert name not in module


def test_import_is_quick_and_lazy():
    program = (
        "import sys, time, sklearn.linear_model, scipy.sparse\n"
        "before = set(sys.modules); start = time.perf_counter(); import thresher\n"
        "seconds = time.perf_counter() - start\n"
        "print(seconds, *(set(sys.modules) - before))"
    )
    best = np.inf
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        seconds, *modules = run.stdout.split()
        best = min(best, float(seconds))
        heavy = {"matplotlib", "pandas", "polars", "tqdm"}
        assert not heavy & {name.split(".")[0] for name in modules}
    assert best < 0.5


EMULATED = (
    pathlib.Path(__file__).parents[2]
    / "build/release/tests/cuda_on_cpu/libthresher_cuda_emulated.so"
)


@pytest.mark.skipif(not EMULATED.exists(), reason=f"{EMULATED} is not built (no CUDA toolkit)")
def test_the_device_library_is_picked_up_at_run_time(data, tmp_path):
    X, Y = data
    np.savez(tmp_path / "data.npz", X=X, Y=Y)
    program = (
        "import sys, numpy as np, thresher\n"
        "data = np.load(sys.argv[1]); X, Y = data['X'], data['Y']\n"
        "there = thresher.cross_validate(X, Y, n_lambdas=10, folds=3, device='cuda')\n"
        "here = thresher.cross_validate(X, Y, n_lambdas=10, folds=3, device='cpu')\n"
        "assert there.stats['device'] == 'cuda' and here.stats['device'] == 'cpu'\n"
        "assert there.converged.all()\n"
        "np.testing.assert_allclose(there.cv_error, here.cv_error, rtol=1e-5)\n"
        "np.testing.assert_allclose(there.coef().toarray(), here.coef().toarray(), atol=1e-5)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data.npz")],
        env={**os.environ, "THRESHER_CUDA_LIBRARY": str(EMULATED)},
        check=True,
    )

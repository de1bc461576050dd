"""Progress of a fit: a bar, a line, or whatever the caller wants."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Callback = Callable[[int, int, float], Any]


class _Bar:
    """Feeds an object with tqdm's `total`, `update` and `refresh`."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._done = 0

    def __call__(self, done: int, total: int, seconds: float) -> None:
        if self._bar.total != total:
            self._bar.total = total
            self._bar.refresh()
        self._bar.update(done - self._done)
        self._done = done


def _line(done: int, total: int, seconds: float) -> None:
    print(f"\r{done} of {total} fits, {seconds:.0f} s", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def callback_for(progress: Any) -> Iterator[Callback | None]:
    """The callback for `progress`: False, True, a class or object like tqdm's, or a callable.

    A callable gets (fits_done, fits_total, seconds).
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is True:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            yield _line
            print(file=sys.stderr)
            return
        progress = tqdm
    if isinstance(progress, type) and hasattr(progress, "update"):
        with progress(total=0, unit="fit") as bar:
            yield _Bar(bar)
    elif hasattr(progress, "update"):
        yield _Bar(progress)
    elif callable(progress):
        yield progress
    else:
        raise TypeError(f"progress must be a bool, like tqdm or callable, got {type(progress)}")

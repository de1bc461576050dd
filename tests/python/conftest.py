import signal

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """A shell starts background jobs with SIGINT ignored, and Python then leaves it so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def data():
    """60 x 200; response r follows feature r."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 200))
    Y = 2 * X[:, :3] + rng.standard_normal((60, 3))
    return X, Y

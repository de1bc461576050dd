import numpy as np
import pytest


@pytest.fixture
def data():
    """60 x 200; response r follows feature r."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 200))
    Y = 2 * X[:, :3] + rng.standard_normal((60, 3))
    return X, Y

"""What all tests share."""

from __future__ import annotations

import functools
import gc
import os

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: each computes in one thread
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, "1")


def pytest_collection_finish():
    gc.freeze()  # what is imported stays; to go through it again and again takes a twentieth of the time


@pytest.fixture(scope="module")
def few_convolutions():
    """Runs train denoisers of two levels of one convolution each: compiled in a moment."""
    from small_set import FEW_CONVOLUTIONS  # imports TensorFlow, which counts the threads above

    from hgd_tf.denoisers import DENOISERS

    with pytest.MonkeyPatch.context() as patch:
        for name, build in DENOISERS.items():
            patch.setitem(DENOISERS, name, functools.partial(build, **FEW_CONVOLUTIONS))
        yield


def _relative_error(actual, expected) -> float:
    """Largest difference over the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session")
def relative_error():
    return _relative_error

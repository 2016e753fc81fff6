"""What all tests share."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: each computes in one thread
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, "1")


@pytest.fixture(scope="module")
def few_convolutions():
    """Two levels of one convolution each: compiled in a moment."""
    import small_set  # imports TensorFlow, which counts the threads above

    with small_set.few_convolutions():
        yield

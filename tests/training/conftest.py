"""What tests of training share."""

from __future__ import annotations

import functools

import pytest
from small_set import FEW_CONVOLUTIONS

from hgd_tf.denoisers import DENOISERS


@pytest.fixture(scope="module")
def few_convolutions():
    """Runs train denoisers of two levels of one convolution each: compiled in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, build in DENOISERS.items():
            patch.setitem(DENOISERS, name, functools.partial(build, **FEW_CONVOLUTIONS))
        yield

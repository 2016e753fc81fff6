"""What tests of training share."""

from __future__ import annotations

import importlib

import pytest

networks = importlib.import_module("hgd_tf.denoisers.dunet")  # the package's function of that name hides the module


@pytest.fixture(scope="module")
def few_convolutions():
    """Two levels of one convolution each: compiled in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "FEEDFORWARD", ((1, 64), (1, 128)))
        patch.setattr(networks, "FEEDBACK", ((1, 64),))
        yield

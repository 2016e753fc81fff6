"""What tests of training share."""

from __future__ import annotations

import pytest
import small_set


@pytest.fixture(scope="module")
def few_convolutions():
    """Two levels of one convolution each: compiled in a moment."""
    with small_set.few_convolutions():
        yield

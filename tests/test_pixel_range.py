"""Whoever is given images says when their pixels cannot be pixels; legitimate ones pass in silence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tensorflow as tf
from linear_target import SIZE, affine_denoiser, linear_target, random_weights

from hgd_tf import Defense, SignGradientAttack
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.evaluation.smoothing import Smoothed
from hgd_tf.foundation.pixel_range import PixelRangeWarning

PIXELS = np.random.default_rng(0).uniform(0, 256, (2, SIZE, SIZE, 1)).astype(np.uint8)
FRACTIONS = PIXELS.astype(np.float32) / 255

WRONG = {
    "0..1": (FRACTIONS, "from 0 to 1$"),
    "0..1 as tensor": (tf.constant(FRACTIONS), "from 0 to 1$"),
    "0..1 in float64": (FRACTIONS.astype(np.float64), "from 0 to 1$"),
    "0..1 in bfloat16": (tf.cast(FRACTIONS, tf.bfloat16), "from 0 to 1$"),
    "0..1 in a list": (FRACTIONS.tolist(), "from 0 to 1$"),
    "0..1 as uint8": (FRACTIONS.astype(np.uint8), "from 0 to 1$"),
    "a mask": (PIXELS > 127, "from 0 to 1$"),
    "-1..1": (FRACTIONS * 2 - 1, "from -1 to 1$"),
    "standardized": ((FRACTIONS - 0.45) / 0.225, "from -2 to 2.4"),
    "means subtracted": (PIXELS.astype(np.float32) - 120, "from -120 to 13"),
    "16 bits": (PIXELS.astype(np.int32) * 257, "from 0 to 6.5"),
    "NaN": (np.where(PIXELS.max() == PIXELS, np.nan, PIXELS.astype(np.float32)), "not finite"),
    "infinite": (tf.where(PIXELS.max() == PIXELS, np.inf, tf.cast(PIXELS, tf.float32)), "not finite"),
}
RIGHT = {
    "pixels": PIXELS,
    "pixels as floats": PIXELS.astype(np.float32),
    "a tensor": tf.constant(PIXELS),
    "dark": PIXELS // 100,
    "black": np.zeros((1, SIZE, SIZE, 1), np.float32),
    "none": PIXELS[:0],
}


def _makers() -> dict:
    target = linear_target(random_weights(0))
    defense = Defense(affine_denoiser(1.0, 3.0), target)
    flow = Flow([affine_denoiser(1.0, 3.0)], [target], "A->X")
    return {
        "Target": target,
        "layer_outputs": target.layer_outputs,
        "Defense": defense,
        "Defense.denoise": defense.denoise,
        "Flow": flow,
        "Flow.denoise": flow.denoise,
        "Ensemble": Ensemble([flow]),
        "Smoothed": Smoothed(defense, sigma=0.25, n0=2, n=2).certify,
        "SignGradientAttack": lambda images: SignGradientAttack([target])(np.asarray(images), 4),
    }


def _warnings(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught if warning.category is PixelRangeWarning]


@pytest.mark.parametrize("case", WRONG)
def test_a_target_names_the_range_it_was_given_once(case):
    images, text = WRONG[case]
    target = linear_target(random_weights(0))
    with pytest.warns(PixelRangeWarning, match=r"pixels in \[0, 255\], received values .*" + text) as caught:
        target(images)
    assert [warning.filename for warning in caught] == [__file__]
    assert _warnings(lambda: target(images)) == []


@pytest.mark.parametrize("entry", _makers())
def test_every_entry_warns_once_and_of_right_images_never(entry):
    call = _makers()[entry]
    for images in RIGHT.values():
        assert _warnings(lambda images=images: len(images) and call(images)) == []
    for images, text in ((FRACTIONS, "from 0 to 1"), (PIXELS - 300.0, "from -300 to -4")):
        (message,) = _warnings(lambda images=images: call(images))
        assert text in message


def test_denoised_images_may_leave_the_range_and_graphs_are_silent():
    target = linear_target(random_weights(0))
    denoised = PIXELS * 1.1 - 20.0
    assert _warnings(lambda: target(denoised)) == []
    assert len(_warnings(lambda: Defense(None, target)(denoised))) == 1
    assert _warnings(lambda: tf.function(Defense(None, linear_target(random_weights(0))))(FRACTIONS)) == []

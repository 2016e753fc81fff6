"""What lies between attacker and defence: what arrives, against Pillow and NumPy by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from hgd_tf.data.transports import DrawnTransport, Transport
from hgd_tf.errors import DataError

HEIGHT, WIDTH = 20, 30
# Smooth, as photographs are: what JPEG does to it is small.
WAVES = np.sin(np.arange(HEIGHT)[:, np.newaxis, np.newaxis] / 5 + np.arange(WIDTH)[:, np.newaxis] / 7 + np.arange(3))
COLOUR = np.round(127 + 100 * WAVES).astype(np.uint8)
GREY = COLOUR[..., :1]


def arrived(text: str, image: np.ndarray = COLOUR, seed: int = 0) -> np.ndarray:
    result = Transport(text)(image, np.random.default_rng(seed))
    assert result.dtype == np.uint8 and result.shape[-1] == image.shape[-1]
    return result


def saved(image: np.ndarray, encoding: str, **parameters) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(image).save(content, encoding, **parameters)
    return np.asarray(Image.open(content))


def test_none_changes_nothing():
    assert not Transport("none").changes
    np.testing.assert_array_equal(arrived("none"), COLOUR)


@pytest.mark.parametrize("quality", [60, 98])
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_jpeg_is_a_file_of_that_quality_and_subsampling(quality, subsampling):
    expected = saved(COLOUR, "JPEG", quality=quality, subsampling=":".join(subsampling))
    np.testing.assert_array_equal(arrived(f"jpeg:{quality}:{subsampling}"), expected)


def test_grey_images_stay_grey():
    np.testing.assert_array_equal(arrived("jpeg:75", GREY)[..., 0], saved(GREY[..., 0], "JPEG", quality=75))
    for text in ("webp", "resize:0.5", "crop:0.1", "shift"):
        assert arrived(text, GREY).shape[-1] == 1


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_webp_is_a_file_of_that_quality():
    np.testing.assert_array_equal(arrived("webp:80"), saved(COLOUR, "WEBP", quality=80))


def test_resize_by_hand():
    np.testing.assert_array_equal(arrived("resize:2:nearest"), COLOUR.repeat(2, axis=0).repeat(2, axis=1))
    boxes = COLOUR.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(arrived("resize:0.5:area"), boxes, atol=1)
    for name in ("bilinear", "bicubic"):
        assert arrived(f"resize:1.5:{name}").shape == (30, 45, 3)


def test_crop_keeps_a_part_of_either_side_from_anywhere():
    corners = set()
    for seed in range(60):
        part = arrived("crop:0.1", seed=seed)
        assert part.shape == (18, 27, 3)
        corners |= {
            (top, left)
            for top in range(3)
            for left in range(4)
            if np.array_equal(part, COLOUR[top : top + 18, left : left + 27])
        }
    assert {corner[0] for corner in corners} == {0, 1, 2} and {corner[1] for corner in corners} == {0, 1, 2, 3}


@pytest.mark.parametrize("most", [1, 2])
def test_shift_moves_by_whole_pixels_in_every_direction_but_never_by_none(most):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    inner = slice(most, -most)
    moves = {
        (down, right): np.roll(noise, (down, right), axis=(0, 1))
        for down in range(-most, most + 1)
        for right in range(-most, most + 1)
    }
    found = []
    for seed in range(200):
        moved = arrived(f"shift:{most}", noise, seed)
        assert moved.shape == noise.shape
        found += [move for move, image in moves.items() if np.array_equal(moved[inner, inner], image[inner, inner])]
    assert len(found) == 200
    assert set(found) == set(moves) - {(0, 0)}


def test_shift_repeats_the_edge():
    moved = [arrived("shift", seed=seed) for seed in range(50)]
    assert any(np.array_equal(image[0], COLOUR[0]) and np.array_equal(image[1:], COLOUR[:-1]) for image in moved)


def test_steps_follow_each_other():
    half = arrived("resize:0.5:area")
    np.testing.assert_array_equal(
        arrived("resize:0.5:area+jpeg:75:420"), saved(half, "JPEG", quality=75, subsampling=2)
    )


def test_amounts_and_options_that_are_not_given_are_drawn():
    heights = [arrived("resize", seed=seed).shape[0] for seed in range(100)]
    assert min(heights) in (10, 11) and max(heights) in (29, 30) and len(set(heights)) > 10
    qualities = {
        quality
        for seed in range(300)
        for quality in (60, 61, 62)
        if np.array_equal(arrived("jpeg:60-62:444", seed=seed), saved(COLOUR, "JPEG", quality=quality, subsampling=0))
    }
    assert qualities == {60, 61, 62}
    assert len({arrived("jpeg:75", seed=seed).tobytes() for seed in range(50)}) == 3  # the subsamplings


def test_a_share_stays_as_it_is_and_the_others_get_one_of_several():
    drawn = DrawnTransport([Transport("resize:0.5"), Transport("crop:0.1")], share=0.6)
    shapes = [drawn(COLOUR, np.random.default_rng(seed)).shape[0] for seed in range(500)]
    counts = {height: shapes.count(height) / 500 for height in set(shapes)}
    assert counts == pytest.approx({20: 0.4, 10: 0.3, 18: 0.3}, abs=0.09)  # four standard errors
    assert not DrawnTransport([], 0.6).changes and not DrawnTransport([Transport("jpeg")], 0.0).changes


@pytest.mark.parametrize(
    "text, message",
    [
        ("jpg", r"expected none, or of jpeg, webp, resize, crop, shift, received 'jpg'"),
        ("", "received ''"),
        ("none+jpeg", "received 'none'"),
        ("jpeg:0", r"whole number in 1-100, then perhaps :444 or :422 or :420, received 'jpeg:0'"),
        ("jpeg:75.5", "received 'jpeg:75.5'"),
        ("jpeg:nan", "received 'jpeg:nan'"),
        ("jpeg:75:440", "received 'jpeg:75:440'"),
        ("jpeg:444:75", "received 'jpeg:444:75'"),
        ("resize:0.9-0.8", r"number in 0.01-10.*received 'resize:0.9-0.8'"),
        ("crop:1", "number in 0-0.9, received 'crop:1'"),
        ("shift:1:2", "received 'shift:1:2'"),
        ("jpeg:75+resize:", "received 'resize:'"),
    ],
)
def test_what_cannot_be_read_is_said(text, message):
    with pytest.raises(DataError, match=message):
        Transport(text)

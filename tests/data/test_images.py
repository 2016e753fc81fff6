"""Single image files."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from hgd_tf.data.images import read_image, write_image
from hgd_tf.errors import DataError

GREY = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5) * 8
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)


def _luma(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601, as Pillow documents it for the conversion to grey."""
    return pixels.astype(float) @ np.array([0.299, 0.587, 0.114])


def test_a_grey_image_reads_as_it_is(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    images = read_image(tmp_path / "grey.png", 1)
    assert images.shape == (1, 6, 5, 1) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[0, ..., 0], GREY)


def test_a_grey_image_fills_three_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    images = read_image(tmp_path / "grey.png", 3)
    assert images.shape == (1, 6, 5, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], np.repeat(GREY[..., np.newaxis], 3, axis=-1))


def test_a_colour_image_reads_as_it_is(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "colours.png")
    images = read_image(str(tmp_path / "colours.png"), 3)
    assert images.shape == (1, 6, 5, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[0], COLOURS)


def test_a_colour_image_turns_grey_by_its_luma(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "colours.png")
    images = read_image(tmp_path / "colours.png", 1)
    assert images.shape == (1, 6, 5, 1)
    np.testing.assert_allclose(images[0, ..., 0], _luma(COLOURS), atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_opaque_pixels_with_an_alpha_channel_read_as_without(tmp_path, channels):
    opaque = np.concatenate([COLOURS, np.full((6, 5, 1), 255, np.uint8)], axis=-1)
    Image.fromarray(COLOURS).save(tmp_path / "rgb.png")
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    assert Image.open(tmp_path / "rgba.png").mode == "RGBA"
    np.testing.assert_array_equal(
        read_image(tmp_path / "rgba.png", channels), read_image(tmp_path / "rgb.png", channels)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_is_looked_up(tmp_path, channels):
    palette = np.array([[250, 0, 0], [0, 200, 10], [30, 40, 50], [255, 255, 255]], np.uint8)
    indices = (np.arange(30) % 4).astype(np.uint8).reshape(6, 5)
    image = Image.fromarray(indices).convert("P")
    image.putpalette(palette.tobytes())
    image.putdata(indices.ravel().tolist())
    image.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    Image.fromarray(palette[indices]).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png", channels), read_image(tmp_path / "rgb.png", channels)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, channels):
    deep = np.linspace(0, 65535, 30).reshape(6, 5)
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / "deep.png")
    images = read_image(tmp_path / "deep.png", channels)
    assert images.shape == (1, 6, 5, channels) and images.dtype == np.uint8
    np.testing.assert_allclose(images[0], np.repeat(deep[..., np.newaxis] / 257, channels, axis=-1), atol=1)


@pytest.mark.parametrize("shape, size", [((299, 299), 224), ((321, 481), 240), ((60, 50), 83)])
def test_an_image_is_resized_as_tensorflow_does_it_and_rounded_once(tmp_path, shape, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = tf.image.resize(tf.cast(pixels, tf.float32), (size, size), antialias=True).numpy()
    found = read_image(tmp_path / "a.png", 3, size)[0].astype(np.float32)
    assert np.abs(found - expected).max() <= 0.5 + 0.01  # half a unit is rounding's


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_resized_with_antialiasing(tmp_path, channels):
    stripes = np.zeros((32, 32), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    images = read_image(tmp_path / "stripes.png", channels, image_size=8)
    assert images.shape == (1, 8, 8, channels) and images.dtype == np.uint8
    np.testing.assert_allclose(images[:, :, 1:-1], 100, atol=2)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*absent.png"):
        read_image(tmp_path / "absent.png", 1)


@pytest.mark.parametrize("content", [b"", b"no image\n" * 20, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "text.png").write_bytes(content)
    with pytest.raises(DataError, match=r"text.png is truncated or no image"):
        read_image(tmp_path / "text.png", 3)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_named(tmp_path, kept):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    path = tmp_path / "cut.png"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"cut.png is truncated or no image"):
        read_image(path, 3)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match="is truncated or no image"):
        read_image(tmp_path, 1)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match=f"1 or 3 channels.*{channels}"):
        read_image(tmp_path / "grey.png", channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_rounded_and_clipped(tmp_path, channels):
    values = np.array([-20.0, -0.4, 0.4, 0.6, 127.49, 254.6, 255.4, 300.0], np.float32)
    images = np.broadcast_to(values.reshape(1, 2, 4, 1), (1, 2, 4, channels))
    write_image(tmp_path / "written.png", images)
    expected = np.array([0, 0, 0, 1, 127, 255, 255, 255]).reshape(2, 4, 1)
    actual = read_image(tmp_path / "written.png", channels)
    np.testing.assert_array_equal(actual[0], np.broadcast_to(expected, (2, 4, channels)))


def test_only_the_first_image_is_written(tmp_path):
    images = np.stack([np.full((4, 4, 1), value) for value in (10, 200)])
    write_image(tmp_path / "first.png", images)
    assert set(read_image(tmp_path / "first.png", 1).ravel()) == {10}


@pytest.mark.parametrize("name", ["image.xyz", "image", "image.h5", "image.fits"])
def test_an_ending_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: .*such as .png"):
        write_image(tmp_path / name, np.zeros((1, 4, 4, 1)))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_ending_leaves_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match=r"notes.txt"):
        write_image(tmp_path / "notes.txt", np.zeros((1, 4, 4, 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "keep me"

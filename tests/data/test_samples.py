"""Images whose samples are not of 8 bits, or that are stored sideways."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hgd_tf.data.images import CropBox, decode_image
from hgd_tf.errors import DataError

RAMP = np.linspace(0, 1, 30).reshape(6, 5)  # from black to white


def png(samples: np.ndarray, colour_type: int, bits: int = 16) -> bytes:
    """A PNG file of the samples, (H, W) or (H, W, C), of 16 bits (or 1, packed already)."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width if bits > 1 else 8 * width, height, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + kind + data for kind, data in chunks)
    sums = (struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(part + check for part, check in zip(packed, sums))


def tiff(samples: np.ndarray, bits: int, sample_format: int = 1, photometric: int = 1, order: str = "<") -> bytes:
    """A TIFF file of one strip of grey samples; `order` is struct's."""
    height, width = samples.shape
    data = samples.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(data))
    return header + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def pgm(maxval: int) -> bytes:
    samples = np.round(RAMP * maxval)
    return b"P5 5 6 %d\n" % maxval + samples.astype(">u2" if maxval > 255 else np.uint8).tobytes()


def scaled(kind: str, white: int = 65535) -> np.ndarray:
    return np.round(RAMP * white).astype(kind)


def pack_12_bits() -> np.ndarray:
    """Rows of 12-bit samples, in whole bytes."""
    rows = []
    for row in np.round(np.pad(RAMP, ((0, 0), (0, 1))) * 4095).astype(int):
        text = "".join(f"{value:012b}" for value in row[:5]) + "0000"
        rows.append([int(text[place : place + 8], 2) for place in range(0, len(text), 8)])
    return np.array(rows, np.uint8)


def narrow_tiff() -> bytes:
    content = tiff(pack_12_bits(), 12)
    return content.replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 5))


GREYS = {
    "16-bit PGM": pgm(65535),
    "12-bit PGM": pgm(4095),
    "PGM up to 1000": pgm(1000),
    "PGM up to 100": pgm(100),
    "plain PGM": b"P2 5 6 65535\n" + " ".join(map(str, scaled("<u2").ravel())).encode(),
    "16-bit PNG": png(scaled(">u2"), 0),
    "16-bit PNG with alpha": png(np.stack([scaled("u2")] * 2, axis=-1).astype(">u2"), 4),
    "16-bit RGB PNG": png(np.stack([scaled("u2")] * 3, axis=-1).astype(">u2"), 2),
    "16-bit TIFF": tiff(scaled("<u2"), 16),
    "16-bit TIFF of the other order": tiff(scaled(">u2"), 16, order=">"),
    "16-bit TIFF whose white is 0": tiff(65535 - scaled("<u2"), 16, photometric=0),
    "12-bit TIFF": narrow_tiff(),
    "8-bit TIFF": tiff(scaled(np.uint8, 255), 8),
}
WITHOUT_WHITE = {
    "32-bit TIFF": tiff(scaled("<u4", 2**32 - 1), 32),
    "32-bit TIFF with sign": tiff(scaled("<i4"), 32, 2),
    "16-bit TIFF with sign": tiff(scaled("<i2", 32767), 16, 2),
    "float TIFF": tiff(RAMP.astype("<f4"), 32, 3),
    "float TIFF to 255": tiff((255 * RAMP).astype("<f4"), 32, 3),
}


@pytest.mark.parametrize("content", GREYS.values(), ids=GREYS)
def test_grey_of_every_depth_goes_from_black_to_white(content):
    for channels in (1, 3):
        pixels = decode_image(content, channels)
        assert pixels.shape == (6, 5, channels) and pixels.dtype == np.uint8
        np.testing.assert_allclose(pixels, np.repeat(255 * RAMP[..., np.newaxis], channels, -1), atol=1.5)


@pytest.mark.parametrize("content", WITHOUT_WHITE.values(), ids=WITHOUT_WHITE)
def test_samples_without_a_white_are_refused(content):
    with pytest.raises(DataError, match=r"the content: its grey samples are .* expected 8 or 16 bits"):
        decode_image(content, 1)


def test_a_bit_a_pixel_is_black_or_white():
    bits = png(np.array([[0b10110000], [0b00000001]], np.uint8), 0, bits=1)
    for content in (bits, b"P4 8 2\n" + bytes([0b01001111, 0b11111110])):
        np.testing.assert_array_equal(
            decode_image(content, 1)[..., 0] // 255, [[1, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]
        )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_is_ignored(mode):
    """Half of the image is transparent, and keeps its colours."""
    grey = np.tile(np.array([[40, 200]], np.uint8), (3, 1))
    alpha = np.tile(np.array([[0, 255]], np.uint8), (3, 1))
    file = io.BytesIO()
    if mode == "P":
        picture = Image.fromarray(np.tile(np.array([[0, 1]], np.uint8), (3, 1))).convert("P")
        picture.putpalette([40] * 3 + [200] * 3)
        picture.putdata([0, 1] * 3)
        picture.save(file, "PNG", transparency=bytes([0, 128]))
    else:
        picture = Image.fromarray(np.stack([grey] * 3 + [alpha], axis=-1))
        picture.convert("RGBA" if mode == "RGBA" else "LA").save(file, "PNG")
    for channels in (1, 3):
        np.testing.assert_array_equal(decode_image(file.getvalue(), channels), np.repeat(grey[..., None], channels, -1))


def test_four_inks_are_read():
    file = io.BytesIO()
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(file, "JPEG")
    np.testing.assert_allclose(decode_image(file.getvalue(), 3), np.broadcast_to((0, 255, 255), (4, 4, 3)), atol=3)


# --- orientation ---

SCENE = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3
# How a file stores the upright scene, by EXIF's orientation: where its first row and column lie in the scene.
STORED = {
    1: SCENE,
    2: SCENE[:, ::-1],
    3: SCENE[::-1, ::-1],
    4: SCENE[::-1],
    5: SCENE.transpose(1, 0, 2),
    6: SCENE.transpose(1, 0, 2)[::-1],
    7: SCENE[::-1, ::-1].transpose(1, 0, 2),
    8: SCENE.transpose(1, 0, 2)[:, ::-1],
}
FORMATS = {
    "PNG": {},
    "TIFF": {},
    "TIFF, compressed": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
}


def sideways(orientation: int, file_format: str = "PNG", **options) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(STORED.get(orientation, SCENE)))
    picture.save(file, file_format.split(",")[0], exif=exif.tobytes(), **options)
    return file.getvalue()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_turned_upright(orientation, file_format):
    pixels = decode_image(sideways(orientation, file_format, **FORMATS[file_format]), 3)
    np.testing.assert_allclose(pixels, SCENE, atol=4 if file_format == "JPEG" else 0)


def test_boxes_are_of_the_upright_image():
    for orientation in STORED:
        box = decode_image(sideways(orientation), 3, crop_box=CropBox(0.5, 0.0, 1.0, 1 / 3))
        np.testing.assert_array_equal(box, SCENE[:2, 2:])


@pytest.mark.parametrize("orientation", [0, 9, 200])
def test_an_orientation_that_is_none_is_passed_over(orientation):
    np.testing.assert_array_equal(decode_image(sideways(orientation), 3), SCENE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_leaves_the_picture():
    content = sideways(6, "WEBP", lossless=True)
    for damaged in (content.replace(b"MM\0*", b"XX\0*"), content.replace(b"MM\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff")):
        assert damaged != content
        np.testing.assert_array_equal(decode_image(damaged, 3), STORED[6])


def test_a_sideways_grey_image_of_16_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(scaled(np.uint16)).copy()).save(tmp_path / "deep.png", exif=exif.tobytes())
    np.testing.assert_allclose(decode_image(tmp_path / "deep.png", 1)[..., 0], 255 * RAMP, atol=1.5)

"""What the samples of an image file mean: which side is up, and what is white."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

ORIENTATION_TAG = 0x0112  # EXIF's
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIFF_PHOTOMETRIC_TAG, TIFF_BITS_TAG, WHITE_IS_ZERO = 262, 258, 0
WHITE = {"PNG": 65535, "PPM": 65535, "JPEG2000": 65535}  # of grey samples that Pillow gives with more than 8 bits


class UnknownWhite(ValueError):
    """An image's samples have no defined white."""


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as that EXIF orientation says; of an undefined one, as it is."""
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def orientation_of(file: Image.Image) -> int:
    """An opened and loaded image's EXIF orientation; 1, upright, where none can be read."""
    try:
        return file.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block; the picture itself may be whole
        return 1


def eight_bits(file: Image.Image) -> Image.Image:
    """The picture with samples of 8 bits (or 1), which Pillow would clip at 255 where there are more.

    Raises:
      UnknownWhite: the samples are floats or wide integers, of which no value is white by definition.
    """
    if file.mode != "F" and not file.mode.startswith("I"):
        return file
    white, inverted = _white(file)
    samples = np.asarray(file, np.float64) / white
    return Image.fromarray(np.round(255 * np.clip(1 - samples if inverted else samples, 0, 1)).astype(np.uint8))


def _white(file: Image.Image) -> tuple[int, bool]:
    """The largest sample of a grey image, and whether it is black instead."""
    if file.mode != "F" and file.format in WHITE:
        return WHITE[file.format], False
    if isinstance(file, TiffImageFile) and file.mode.startswith("I;16"):
        (bits,) = file.tag_v2[TIFF_BITS_TAG]
        return 2**bits - 1, file.tag_v2.get(TIFF_PHOTOMETRIC_TAG) == WHITE_IS_ZERO
    raise UnknownWhite(
        f"its grey samples are {'floats' if file.mode == 'F' else 'wide or signed integers'}, of which no value is "
        "white by definition; expected 8 or 16 bits without sign"
    )

"""Single image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from hgd_tf.errors import DataError
from hgd_tf.files import replacing

MODES = {1: "L", 3: "RGB"}


class CropBox(NamedTuple):
    """A part of an image: its edges as fractions of width (x) and height (y)."""

    x1: float
    y1: float
    x2: float
    y2: float


def read_image(path: Union[str, Path], channels: int, image_size: Optional[int] = None) -> np.ndarray:
    """Reads an image as uint8 of shape (1, H, W, channels), pixels in [0, 255].

    Args:
      path: a file that Pillow reads; any mode.
      channels: 1 (grey) or 3 (RGB), to which it is converted.
      image_size: side to resize it to, bilinear and antialiased; None: as it is.

    Raises:
      DataError: the file is missing or no image, or no mode has so many channels.
    """
    return decode_image(path, channels, image_size)[np.newaxis]


def decode_image(
    image: Union[str, Path, bytes],
    channels: Optional[int] = None,
    image_size: Optional[int] = None,
    crop_box: Optional[CropBox] = None,
    central_fraction: float = 1.0,
) -> np.ndarray:
    """Decodes, crops and resizes an image: uint8 of shape (H, W, channels), pixels in [0, 255].

    Args:
      image: a file's path, or its content.
      channels: as in `read_image`; None: 1 if it is grey, else 3.
      image_size: as in `read_image`.
      crop_box: the part to take.
      central_fraction: of height and width that is kept of it, around the middle.

    Raises:
      DataError: the file is missing or no image, or no mode has so many channels.
    """
    if channels not in (None, *MODES):
        raise DataError(f"expected images of 1 or 3 channels, the classifier takes {channels}")
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
            picture = _eight_bits(file)
            picture = picture.convert(MODES[channels or (1 if picture.mode == MODES[1] else 3)])
            if crop_box is not None:
                picture = picture.crop(pixels_of(crop_box, picture.size))
            if central_fraction < 1.0:
                margin = (1.0 - central_fraction) / 2
                picture = picture.crop(pixels_of(CropBox(margin, margin, 1.0 - margin, 1.0 - margin), picture.size))
            if image_size is not None:
                picture = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
            pixels = np.asarray(picture, np.uint8)
    except FileNotFoundError:
        raise DataError(f"no such file: {image!s}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        name = "the content" if isinstance(image, bytes) else image
        raise DataError(f"{name} is truncated or no image that Pillow can read: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def pixels_of(box: CropBox, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box's edges x1, y1, x2, y2 in whole pixels of an image of that width and height."""
    width, height = size
    return round(box.x1 * width), round(box.y1 * height), round(box.x2 * width), round(box.y2 * height)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey at 255; its upper byte is the picture."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))


def write_image(path: Union[str, Path], images: np.ndarray) -> None:
    """Writes the first of `images` (N, H, W, C), rounded and clipped to [0, 255], in the format of the path's ending.

    Raises:
      DataError: the ending is no image format.
    """
    ending = Path(path).suffix.lower()
    # Pillow names some formats, such as HDF5, that only a plug-in could write; those have no MIME type.
    if Image.registered_extensions().get(ending) not in Image.SAVE.keys() & Image.MIME.keys():
        raise DataError(f"{path}: {ending or 'no ending'} is no image format to write; expected an ending such as .png")
    pixels = np.clip(np.round(images[0]), 0, 255).astype(np.uint8)
    with replacing(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(temporary)

"""Single image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from PIL import Image

from hgd_tf.data.samples import UnknownWhite, eight_bits, orientation_of, upright
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
      path: a file that Pillow reads, as in `decode_image`.
      channels: 1 (grey) or 3 (RGB), to which it is converted.
      image_size: side to resize it to, bilinear and antialiased; None: as it is.

    Raises:
      DataError: as in `decode_image`.
    """
    return decode_image(path, channels, image_size)[np.newaxis]


def decode_image(
    image: Union[str, Path, bytes],
    channels: Optional[int] = None,
    image_size: Optional[int] = None,
    crop_box: Optional[CropBox] = None,
    central_fraction: float = 1.0,
) -> np.ndarray:
    """Decodes, turns upright, crops and resizes an image: uint8 of shape (H, W, C), pixels in [0, 255], rounded once.

    It is turned as its EXIF orientation says. Of the colours of (half) transparent pixels, transparency is ignored.
    Samples of 16 bits are scaled to 8.

    Args:
      image: a file's path, or its content.
      channels: as in `read_image`; None: 1 if it is grey, else 3.
      image_size: as in `read_image`.
      crop_box: the part to take of the upright image, at least a pixel.
      central_fraction: of height and width that is kept of it, around the middle.

    Raises:
      DataError: the file is missing or no image, its samples have no defined white, or no mode has so many channels.
    """
    if channels not in (None, *MODES):
        raise DataError(f"expected images of 1 or 3 channels, the classifier takes {channels}")
    name = "the content" if isinstance(image, bytes) else image
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
            file.load()
            picture = upright(eight_bits(file), orientation_of(file))
            if picture.mode == "P":  # by way of RGBA, since Pillow warns of a palette's transparency
                picture = picture.convert("RGBA")
            picture = picture.convert(MODES[channels or (1 if picture.mode == MODES[1] else 3)])
    except FileNotFoundError:
        raise DataError(f"no such file: {image!s}") from None
    except UnknownWhite as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # of damaged files, Pillow's decoders raise of every kind
        raise DataError(f"{name} is truncated or no image that Pillow can read: {error}") from error
    for box in (crop_box, _central_box(central_fraction)):
        if box is not None:
            picture = picture.crop(_at_least_a_pixel(pixels_of(box, picture.size), picture.size))
    return resized_picture(picture, image_size)


def pixels_of(box: CropBox, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box's edges x1, y1, x2, y2 in whole pixels of an image of that width and height."""
    width, height = size
    return round(box.x1 * width), round(box.y1 * height), round(box.x2 * width), round(box.y2 * height)


def _at_least_a_pixel(edges: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = edges
    x1, y1 = min(x1, size[0] - 1), min(y1, size[1] - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _central_box(fraction: float) -> Optional[CropBox]:
    margin = (1.0 - fraction) / 2
    return CropBox(margin, margin, 1.0 - margin, 1.0 - margin) if fraction < 1.0 else None


def as_picture(image: np.ndarray) -> Image.Image:
    """Pillow's image of an array, uint8 (H, W, 1 or 3)."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def resized_picture(picture: Image.Image, image_size: Optional[int]) -> np.ndarray:
    """Pixels of the picture, resized as `tf.image.resize(antialias=True)` does it; in floats, so as to round once.

    Pillow's filter is the same (its result differs by less than 0.01), and takes half of the time.
    """
    if image_size is None or picture.size == (image_size, image_size):
        pixels = np.asarray(picture, np.uint8)
        return pixels.reshape(*pixels.shape[:2], -1)
    size, bilinear = (image_size, image_size), Image.Resampling.BILINEAR
    channels = [np.asarray(channel.convert("F").resize(size, bilinear)) for channel in picture.split()]
    return np.clip(np.round(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)


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
        as_picture(pixels).save(temporary)

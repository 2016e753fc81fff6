"""Single image files."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from hgd_tf.errors import DataError
from hgd_tf.files import replacing

MODES = {1: "L", 3: "RGB"}


def read_image(path: Union[str, Path], channels: int, image_size: Optional[int] = None) -> np.ndarray:
    """Reads an image as uint8 of shape (1, H, W, channels), pixels in [0, 255].

    Args:
      path: a file that Pillow reads; any mode.
      channels: 1 (grey) or 3 (RGB), to which it is converted.
      image_size: side to resize it to, bilinear and antialiased; None: as it is.

    Raises:
      DataError: the file is missing or no image, or no mode has so many channels.
    """
    if channels not in MODES:
        raise DataError(f"expected images of 1 or 3 channels, the classifier takes {channels}")
    try:
        with Image.open(path) as file:
            image = _eight_bits(file).convert(MODES[channels])
            if image_size is not None:
                image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.uint8)
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is truncated or no image that Pillow can read: {error}") from error
    return pixels.reshape(1, *pixels.shape[:2], channels)


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

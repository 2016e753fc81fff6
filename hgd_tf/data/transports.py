"""What may lie between an attacker and a defence: an attacked image saved as JPEG, resized, cropped, on its way.

A transport is spelled `KIND[:AMOUNT][:OPTION]`, several in a row with `+` between them:

| kind | amount, and its default | option |
| --- | --- | --- |
| `none` | | |
| `jpeg` | quality, 60-98 | chroma subsampling: 444, 422, 420 |
| `webp` | quality, 60-98 | |
| `resize` | factor on both sides, 0.5-1.5 | filter: nearest, bilinear, bicubic, area |
| `crop` | part of both sides that is lost, 0-0.12 | |
| `shift` | whole pixels, at most, in each direction, 1 | |

An amount is a number or a range LOW-HIGH, from which each image's own is drawn; so is an option that is not given.
`resize` and `crop` change the image's size: defences resize what they are given.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

import numpy as np
from PIL import Image, features

from hgd_tf.data.images import as_picture, decode_image
from hgd_tf.errors import DataError

NONE = "none"
SUBSAMPLINGS = {"444": 0, "422": 1, "420": 2}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}


class Kind(NamedTuple):
    """A kind of transport.

    Attributes:
      apply: (image, amount, option, rng) to the image that arrives.
      lowest, highest: an amount's default range.
      least, most: what an amount may be.
      options: names; may be none.
      whole: whether an amount is a whole number.
    """

    apply: Callable[[np.ndarray, float, str, np.random.Generator], np.ndarray]
    lowest: float
    highest: float
    least: float
    most: float
    options: tuple[str, ...] = ()
    whole: bool = False


def _pixels(picture: Image.Image, like: np.ndarray) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], like.shape[-1])


def _saved(image: np.ndarray, encoding: str, **parameters) -> np.ndarray:
    content = io.BytesIO()
    as_picture(image).save(content, encoding, **parameters)
    return decode_image(content.getvalue(), image.shape[-1])


def _jpeg(image: np.ndarray, quality: float, subsampling: str, rng: np.random.Generator) -> np.ndarray:
    return _saved(image, "JPEG", quality=int(quality), subsampling=SUBSAMPLINGS[subsampling])


def _webp(image: np.ndarray, quality: float, option: str, rng: np.random.Generator) -> np.ndarray:
    return _saved(image, "WEBP", quality=int(quality))


def _resize(image: np.ndarray, factor: float, name: str, rng: np.random.Generator) -> np.ndarray:
    height, width, _ = image.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return _pixels(as_picture(image).resize(size, FILTERS[name]), image)


def _crop(image: np.ndarray, part: float, option: str, rng: np.random.Generator) -> np.ndarray:
    kept = [max(1, round(side * (1.0 - part))) for side in image.shape[:2]]
    top, left = (int(rng.integers(side - rest, endpoint=True)) for side, rest in zip(image.shape, kept))
    return image[top : top + kept[0], left : left + kept[1]]


def _shift(image: np.ndarray, pixels: float, option: str, rng: np.random.Generator) -> np.ndarray:
    """By as many pixels, or fewer, along either axis, but not by none; what comes in repeats the edge."""
    most = int(pixels)
    if most == 0:
        return image
    side = 2 * most + 1
    place = int(rng.integers(side**2 - 1))
    down, right = divmod(place + (place >= side**2 // 2), side)  # the middle would be no shift
    height, width, _ = image.shape
    padded = np.pad(image, [(most, most), (most, most), (0, 0)], mode="edge")
    return padded[down : down + height, right : right + width]


KINDS = {
    "jpeg": Kind(_jpeg, 60, 98, 1, 100, tuple(SUBSAMPLINGS), whole=True),
    "webp": Kind(_webp, 60, 98, 1, 100, whole=True),
    "resize": Kind(_resize, 0.5, 1.5, 0.01, 10, tuple(FILTERS)),
    "crop": Kind(_crop, 0.0, 0.12, 0.0, 0.9),
    "shift": Kind(_shift, 1, 1, 0, 100, whole=True),
}


class _Step(NamedTuple):
    kind: Kind
    lowest: float
    highest: float
    options: tuple[str, ...]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.kind.whole:
            amount = float(rng.integers(int(self.lowest), int(self.highest), endpoint=True))
        else:
            amount = rng.uniform(self.lowest, self.highest)
        option = self.options[rng.integers(len(self.options))] if self.options else ""
        return self.kind.apply(image, amount, option, rng)


class Transport:
    """A way of images, as this module's head spells it.

    Args:
      text: its spelling, which is its name too.

    Raises:
      DataError: it cannot be read, or this Pillow cannot write such files.
    """

    def __init__(self, text: str):
        self.name = text
        self._steps = [] if text == NONE else [_read_step(text, step) for step in text.split("+")]

    @property
    def changes(self) -> bool:
        """Whether it is any but `none`."""
        return bool(self._steps)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What arrives of an image, uint8 (H, W, 1 or 3), perhaps of another height and width."""
        for step in self._steps:
            image = step(image, rng)
        return image


class DrawnTransport:
    """One of several transports, drawn for each image; a share of the images stays as it is.

    Args:
      transports: equally likely.
      share: of the images, which are transported at all.
    """

    def __init__(self, transports: Sequence[Transport], share: float):
        self._transports, self._share = list(transports), share

    @property
    def changes(self) -> bool:
        """Whether some images may be changed."""
        return self._share > 0 and any(transport.changes for transport in self._transports)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As a `Transport`'s."""
        if rng.random() >= self._share:
            return image
        return self._transports[rng.integers(len(self._transports))](image, rng)


def _read_step(text: str, step: str) -> _Step:
    name, *details = step.split(":")
    kind = KINDS.get(name)
    if kind is None:
        raise DataError(f"transport {text!r}: expected {NONE}, or of {', '.join(KINDS)}, received {name!r}")
    if name == "webp" and not features.check("webp"):
        raise DataError("transport 'webp': this Pillow was built without WebP")
    lowest, highest, options = kind.lowest, kind.highest, kind.options
    if details and details[0] not in kind.options:
        lowest, highest = _read_range(details.pop(0), kind) or (np.nan, np.nan)
    if details and details[0] in kind.options:
        options = (details.pop(0),)
    if details or np.isnan(lowest):
        raise DataError(f"transport {text!r}: expected {_described(name, kind)}, received {step!r}")
    return _Step(kind, lowest, highest, options)


def _described(name: str, kind: Kind) -> str:
    number = "whole number" if kind.whole else "number"
    options = f", then perhaps :{' or :'.join(kind.options)}" if kind.options else ""
    return f"{name}, {name}:AMOUNT or {name}:LOW-HIGH, each a {number} in {kind.least:g}-{kind.most:g}{options}"


def _read_range(text: str, kind: Kind) -> Optional[tuple[float, float]]:
    """Two numbers of LOW-HIGH, or of one number alone; None: they are not what the kind takes."""
    low, _, high = text.partition("-")
    try:
        lowest, highest = float(low), float(high or low)
    except ValueError:
        return None
    fits = kind.least <= lowest <= highest <= kind.most
    whole = lowest.is_integer() and highest.is_integer()
    return (lowest, highest) if fits and (whole or not kind.whole) else None

"""Attacked images as a defence sees them: after what lies between the attacker and it, at its own size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Union

import numpy as np

from hgd_tf.crafting.sets import AttackedSet
from hgd_tf.data.splits import LabeledImages
from hgd_tf.data.transports import DrawnTransport, Transport
from hgd_tf.targets import resize_to

AnyTransport = Union[Transport, DrawnTransport]
Images = Union[np.ndarray, Sequence[np.ndarray]]  # (N, H, W, C), or N of (H, W, C) each
SEEN = np.float16  # holds 0..255 to within 0.0625, in half of the memory
TRANSPORT_DRAWS = 29  # keeps a transport's draws apart from others of the same seed


def transported(images: np.ndarray, transport: AnyTransport, seed: int, numbers: Iterable[int]) -> Images:
    """What arrives of images, uint8 (N, H, W, C): uint8 (H', W', C) each.

    Args:
      numbers: of the images; an image's draws depend on the seed and its number alone.
    """
    if not transport.changes:
        return images
    draws = (np.random.default_rng([seed, int(number), TRANSPORT_DRAWS]) for number in numbers)
    return [transport(image, draw) for image, draw in zip(images, draws)]


def resized(images: Images, image_size: int) -> np.ndarray:
    """Images of any sizes, resized as defences do it: float32 (N, image_size, image_size, C)."""
    if isinstance(images, np.ndarray):
        return resize_to(images, image_size).numpy()
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    together = np.empty((len(images), image_size, image_size, images[0].shape[-1]), np.float32)
    for alike in places.values():
        together[alike] = resize_to(np.stack([images[place] for place in alike]), image_size)
    return together


def set_as_seen(attacked_set: AttackedSet, transport: AnyTransport, image_size: int, seed: int) -> AttackedSet:
    """The set as a defence of that size sees it: attacked images transported and resized, clean ones resized.

    Its images are float16, since resized ones are no integers.
    """
    count = len(attacked_set.clean.labels)

    def seen(images: Images) -> np.ndarray:
        return resized(images, image_size).astype(SEEN)

    attacked = [
        seen(transported(images, transport, seed, range(place * count, (place + 1) * count)))
        for place, images in enumerate(attacked_set.attacked)
    ]
    clean = LabeledImages(seen(attacked_set.clean.images), attacked_set.clean.labels)
    return attacked_set._replace(clean=clean, attacked=np.stack(attacked))


def joined(parts: Sequence[AttackedSet]) -> AttackedSet:
    """Sets of the same attacks on several parts of some images as one."""
    images, labels = (np.concatenate(arrays) for arrays in zip(*(part.clean for part in parts)))
    attacked = np.concatenate([part.attacked for part in parts], axis=1)
    epsilon = np.concatenate([part.epsilon for part in parts], axis=1)
    return AttackedSet(LabeledImages(images, labels), parts[0].names, attacked, epsilon)

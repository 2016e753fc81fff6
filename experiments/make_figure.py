"""Draws the README's picture from a training run.

    python experiments/make_figure.py runs/lgd docs/denoised.png

A column for each of the first test images, not chosen: clean, attacked by FGSM with epsilon 16 (oblivious), denoised,
and what the denoiser took away around mid-grey; under each what the classifier calls it, in red where that is wrong.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hgd_tf
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.fashion_mnist import CLASS_NAMES

COUNT, EPSILON, ZOOM, GAP, CAPTION, MARGIN = 10, 16, 3, 6, 16, 66


def panels(run_dir: str) -> tuple[np.ndarray, list[tuple[str, np.ndarray, np.ndarray]]]:
    """True labels, and for each row its title, images (N, 28, 28) and classes (N,)."""
    defense = hgd_tf.load_defense(run_dir)
    clean, labels = load_fashion_mnist().test.head(COUNT)
    attacked = hgd_tf.SignGradientAttack([defense.target])(clean, EPSILON)
    undefended = hgd_tf.Defense(None, defense.target)
    denoised = defense.denoise(attacked).numpy()
    answers = [undefended(clean), undefended(attacked), defense(attacked)]
    classes = [answer["classes"].numpy() for answer in answers]
    return labels, [
        ("clean", clean[..., 0], classes[0]),
        ("attacked", attacked[..., 0], classes[1]),
        ("denoised", denoised[..., 0], classes[2]),
        ("taken away", 127.5 + (attacked - denoised)[..., 0], labels),
    ]


def draw(labels: np.ndarray, rows: list[tuple[str, np.ndarray, np.ndarray]]) -> Image.Image:
    """The picture."""
    side = rows[0][1].shape[1] * ZOOM
    picture = Image.new(
        "RGB", (MARGIN + COUNT * (side + GAP), len(rows) * (side + CAPTION + GAP) - CAPTION - GAP), "white"
    )
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for number, (title, images, classes) in enumerate(rows):
        top = number * (side + CAPTION + GAP)
        pen.text((2, top + side // 2), title, "black", font)
        for column, image in enumerate(images):
            left = MARGIN + column * (side + GAP)
            pixels = Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
            picture.paste(pixels.resize((side, side), Image.Resampling.NEAREST), (left, top))
            if title != "taken away":
                colour = "black" if classes[column] == labels[column] else "red"
                pen.text((left, top + side + 1), CLASS_NAMES[classes[column]], colour, font)
    return picture


if __name__ == "__main__":
    draw(*panels(sys.argv[1])).save(sys.argv[2])

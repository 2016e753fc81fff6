"""Draws Figure 5 of the paper for a defence: how much of a perturbation is left at each layer of the target.

    python experiments/plot_perturbation.py efficientnet_lite0_lgd DIR docs/perturbation.png

The first 30 images of DIR (the paper's number), attacked by IFGSM₄ with epsilon 16 on the target and Lite1 together;
with Gaussian noise of the same L2 norm; and denoised. Beside the picture go the levels as JSON.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib
import numpy as np

import hgd_tf
from hgd_tf.data.images import decode_image
from hgd_tf.data.labeled_files import labeled_files
from hgd_tf.evaluation import gaussian_noise_like, perturbation_levels
from hgd_tf.files import write_json

matplotlib.use("Agg")
from matplotlib import pyplot

COUNT, EPSILON, OTHER_MEMBER = 30, 16, "efficientnet_lite1"
STYLES = {"attacked": "tab:red", "Gaussian noise": "tab:gray", "denoised": "tab:blue"}


def levels(name: str, folder: str) -> dict[str, dict[str, float]]:
    """By kind of perturbation, E_l by layer."""
    defense = hgd_tf.load_defense(name)
    target, size = defense.target, defense.target.image_size
    files = sorted(labeled_files(folder), key=lambda file: file.path)[:COUNT]
    clean = np.stack([decode_image(file.path, target.channels, size) for file in files])
    attack = hgd_tf.SignGradientAttack([target, hgd_tf.load_target(OTHER_MEMBER)])
    attacked = attack(clean, EPSILON, hgd_tf.ifgsm(4), batch_size=10)
    perturbed = {
        "attacked": attacked,
        "Gaussian noise": gaussian_noise_like(clean, attacked, seed=0),
        "denoised": defense.denoise(attacked).numpy(),
    }
    return {kind: perturbation_levels(target, clean, images) for kind, images in perturbed.items()}


def draw(by_kind: dict[str, dict[str, float]], title: str):
    """The picture."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for kind, by_layer in by_kind.items():
        axes.plot(range(len(by_layer)), list(by_layer.values()), color=STYLES[kind], label=kind, marker=".")
    last = len(next(iter(by_kind.values()))) - 1
    axes.set(xlabel="layer: 0 the image, then every full convolution, last the logits", ylabel="perturbation level E_l")
    axes.set(title=title, xlim=(0, last), ylim=(0, None))
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return figure


def main(name: str, folder: str, output: str) -> None:
    by_kind = levels(name, folder)
    draw(by_kind, f"{name}: IFGSM₄, ε = {EPSILON}, {COUNT} images").savefig(output, dpi=120)
    write_json(Path(output).with_suffix(".json"), by_kind)
    for kind, by_layer in by_kind.items():
        print(f"{kind:<16}image {by_layer['image']:.3f}, logits {by_layer['logits']:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Draws Figure 7 of the paper: the perturbation of each pixel, what a denoiser takes away there, and the fitted line.

    python experiments/plot_slopes.py docs/slopes.png runs/pixel runs/lgd

For each defence of the embedded images: the first 500 test images, attacked by IFGSM₄ with epsilon 16 on its target
(oblivious), as in the paper. Beside the picture go the slopes as JSON.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib
import numpy as np

import hgd_tf
from hgd_tf.data import load_fashion_mnist
from hgd_tf.files import write_json

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import LogNorm

COUNT, EPSILON, SHOWN = 500, 16, 48


def main(output: str, *names: str) -> None:
    figure, panels = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3.6), layout="constrained", squeeze=False)
    slopes = {}
    for name, axes in zip(names, panels[0]):
        defense = hgd_tf.load_defense(name)
        clean = load_fashion_mnist().test.images[:COUNT]
        attacked = hgd_tf.SignGradientAttack([defense.target])(clean, EPSILON, hgd_tf.ifgsm(4))
        denoised = defense.denoise(attacked.astype(np.float32)).numpy()
        slopes[Path(name).name] = slope = hgd_tf.perturbation_slope(clean, attacked, denoised)
        moved, removed = (attacked.astype(np.float32) - images for images in (clean, denoised))
        edges = np.arange(-EPSILON - 0.5, EPSILON + 1), np.arange(-SHOWN - 0.5, SHOWN + 1)
        axes.hist2d(moved.ravel(), removed.ravel(), bins=edges, norm=LogNorm(), cmap="Greys")
        line = np.array([-EPSILON, EPSILON])
        fitted = removed.mean() + slope * (line - moved.mean())
        axes.plot(line, fitted, color="tab:red", label=f"fitted: slope {slope:.2f}")
        axes.plot(line, line, color="tab:blue", linestyle="--", label="all of it: slope 1")
        axes.set(title=Path(name).name, xlabel="perturbation, x* − x, in pixel units", ylabel="taken away, x* − x̂")
        axes.legend(frameon=False, loc="upper left")
    figure.savefig(output, dpi=120)
    write_json(Path(output).with_suffix(".json"), slopes)
    print(*(f"{name}: {slope:.3f}" for name, slope in slopes.items()), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

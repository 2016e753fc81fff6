"""What becomes of a perturbation: at each layer of the target, and under a denoiser (section 5, Figures 5 and 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from hgd_tf.targets import Target

IMAGE = "image"


def layers_of(target: Target) -> list[str]:
    """The names of the target's convolutions but depthwise ones, in the order of the forward pass, and `logits`."""
    return [*target.convolutions(), "logits"]


def perturbation_levels(target: Target, clean: Any, perturbed: Any) -> dict[str, float]:
    """E_l(x, x') = ‖f_l(x') - f_l(x)‖₁ / ‖f_l(x)‖₁ of every layer, averaged over the images (section 5.1).

    Args:
      clean, perturbed: x and x', (N, H, W, C), uint8 or float32 in [0, 255].

    Returns:
      The level at the `image` itself, then at each of `layers_of(target)`.
    """
    names = layers_of(target)
    sums = {name: 0.0 for name in (IMAGE, *names)}
    for one_clean, one_perturbed in zip(np.asarray(clean, np.float32), np.asarray(perturbed, np.float32)):
        pair = np.stack([one_clean, one_perturbed])
        maps = {IMAGE: pair, **target.layer_outputs(pair, names)}
        for name, (before, after) in maps.items():
            sums[name] += float(tf.reduce_sum(tf.abs(after - before)) / tf.reduce_sum(tf.abs(before)))
    return {name: total / len(clean) for name, total in sums.items()}


def perturbation_slope(clean: Any, attacked: Any, denoised: Any) -> float:
    """The slope of the line fitted to -dx̂ = x* - x̂, what a denoiser takes away, over dx* = x* - x (Figure 7).

    By least squares over all pixels. 0: nothing of the perturbation is taken away; 1: as much as there is.

    Args:
      clean, attacked, denoised: x, x* and x̂, (N, H, W, C), uint8 or float32 in [0, 255].

    Raises:
      ValueError: the attacked images are the clean ones.
    """
    clean, attacked, denoised = (np.asarray(images, np.float64).ravel() for images in (clean, attacked, denoised))
    moved, removed = attacked - clean, attacked - denoised
    if not moved.any():
        raise ValueError("a slope needs a perturbation; the attacked images are the clean ones")
    covariance = np.cov(moved, removed)
    return float(covariance[0, 1] / covariance[0, 0])


def gaussian_noise_like(clean: Any, perturbed: Any, seed: int) -> np.ndarray:
    """The clean images with Gaussian noise whose L2 norm is that of each perturbation; float32, unclipped."""
    clean = np.asarray(clean, np.float32)
    noise = np.random.default_rng(seed).normal(size=clean.shape).astype(np.float32)
    moved = np.asarray(perturbed, np.float32) - clean
    wanted, received = (np.sqrt(np.sum(each**2, axis=(1, 2, 3), keepdims=True)) for each in (moved, noise))
    return clean + noise * wanted / received

"""Attacks of other libraries beside ours: end to end, on the same images, at the same budget; and the time of each.

    python experiments/other_suites.py OUTPUT.json DEFENSE... [--epsilons=4,16] [--count=100] [--attacks=NAME,...]

The first test images of the embedded subset. An image is held if DEFENSE answers right whatever the attack made of it.
What is finished stands in OUTPUT.json, and the same command goes on with the next attack. The other libraries are no
dependencies of the package: pip install '.[art,torch]' torchattacks==3.5.1 multiprocess

torchattacks' AutoAttack is as it comes: Auto-PGD takes ten steps there, where AutoAttack's authors take a hundred.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import hgd_tf
from hgd_tf.data import LabeledImages, load_fashion_mnist
from hgd_tf.evaluation.threat_models import preset
from hgd_tf.files import write_json

CLASSES, STEPS = 10, 100
BATCH = 100
Held = Callable[[hgd_tf.Classifier, LabeledImages, float], np.ndarray]


def _right(defense: hgd_tf.Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    batches = range(0, len(labels), BATCH)
    logits = [defense.logits(tf.constant(images[first : first + BATCH], tf.float32)) for first in batches]
    return np.argmax(np.concatenate(logits), axis=1) == labels


def ours(name: str, first: int = 0, last: int | None = None) -> Held:
    """The attackers of a preset, from one on to another."""

    def held(defense, images, epsilon):
        holdout = hgd_tf.load_target("mini_vgg").network
        suite = hgd_tf.AttackSuite({"": defense}, preset(name, epsilon)[first:last], images, holdout=holdout)
        (column,) = suite.run()[""].values()
        return column.answers

    return held


def torchattacks(name: str, **options) -> Held:
    """An attack of torchattacks, by its defaults but for the options."""

    def held(defense, images, epsilon):
        import torch
        import torchattacks as library

        attack = getattr(library, name)(defense.as_torch(), norm="Linf", eps=epsilon / 255, **options)
        pixels = torch.from_numpy(images.images / np.float32(255)).permute(0, 3, 1, 2)
        attacked = attack(pixels, torch.from_numpy(images.labels.astype(np.int64)))
        return _right(defense, 255 * attacked.detach().permute(0, 2, 3, 1).numpy(), images.labels)

    return held


def art(defense: hgd_tf.Classifier, images: LabeledImages, epsilon: float) -> np.ndarray:
    """ART's own AutoAttack. It fails at DeepFool: the adapter has no gradients of single classes yet."""
    from art.attacks.evasion import AutoAttack

    attack = AutoAttack(defense.as_art(), np.inf, epsilon, eps_step=2 * epsilon, batch_size=BATCH)
    pixels = images.images.astype(np.float32)
    return _right(defense, attack.generate(pixels, np.eye(CLASSES, dtype=np.float32)[images.labels]), images.labels)


ATTACKS: dict[str, Held] = {
    "ours: Auto-PGD on cross-entropy": ours("apgd", last=1),
    "torchattacks: Auto-PGD on cross-entropy": torchattacks("APGD", steps=STEPS),
    "ours: targeted Auto-PGD": ours("apgd", first=1),
    "torchattacks: targeted Auto-PGD": torchattacks("APGDT", steps=STEPS, n_classes=CLASSES),
    "ours: worst": ours("worst"),
    "torchattacks: AutoAttack": torchattacks("AutoAttack", n_classes=CLASSES),
    "ART: AutoAttack": art,
}


def main(output: Path, names: list[str], epsilons: list[float], count: int, attacks: list[str]) -> None:
    images = load_fashion_mnist().test.head(count)
    found = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {"images": count, "held": {}}
    if found["images"] != count:
        raise SystemExit(f"{output} is of {found['images']} images; expected another file for {count}")
    jobs = [(name, epsilon, attack) for name in names for epsilon in epsilons for attack in attacks]
    for name, epsilon, attack in tqdm(jobs, unit="attack"):
        column = found["held"].setdefault(name, {}).setdefault(f"{epsilon:g}", {})
        if attack in column:
            continue
        defense = hgd_tf.load_defense(name)
        started = time.perf_counter()
        held = ATTACKS[attack](defense, images, epsilon)
        column[attack] = {"held": int(held.sum()), "seconds": round(time.perf_counter() - started, 1)}
        write_json(output, found)
        print(f"{name}, ε={epsilon:g}, {attack}: {column[attack]}", flush=True)
    print(f"Results are in {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("defenses", nargs="+")
    parser.add_argument("--epsilons", default="4,16", type=lambda text: [float(each) for each in text.split(",")])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--attacks", default=list(ATTACKS), type=lambda text: text.split(","))
    arguments = parser.parse_args()
    unknown = set(arguments.attacks) - set(ATTACKS)
    if unknown:
        parser.error(f"expected of {', '.join(ATTACKS)}; received {', '.join(sorted(unknown))}")
    main(arguments.output, arguments.defenses, arguments.epsilons, arguments.count, arguments.attacks)

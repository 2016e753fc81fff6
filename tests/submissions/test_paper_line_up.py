"""The paper's own ensemble, on random weights: it is packed within the competition's limits, and classifies."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hgd_tf.competition import runner
from hgd_tf.data.images import write_image
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.denoisers import dunet
from hgd_tf.foundation.stack import keras
from hgd_tf.submissions.packaging import package
from hgd_tf.submissions.unpacking import unpack
from hgd_tf.submissions.validation import MOST_UNPACKED_BYTES, MOST_ZIPPED_BYTES
from hgd_tf.targets import Target, build_target
from hgd_tf.targets.freezing import frozen_copy

LINE_UP = Path(__file__).parents[2] / "submission" / "paper.json"
IMAGE_SIZE, IMAGES = 299, 4
MOST_GIGABYTES = 16


def _random_ensemble() -> Ensemble:
    """What the line-up describes, every network at full width, without its weights."""
    described = json.loads(LINE_UP.read_text())
    flows = []
    for flow in described["flows"]:
        denoiser, target = flow.split("->")
        network = build_target(described["targets"][target]["name"], IMAGE_SIZE)
        flows.append(Flow([dunet(name=denoiser)], [Target(frozen_copy(network), name=target)], flow))
        del network
    return Ensemble(flows)


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.mark.slow
@pytest.mark.long
def test_the_papers_line_up(tmp_path):
    keras.utils.set_random_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    started = time.monotonic()
    ensemble = _random_ensemble()
    print(f"\nbuilt in {time.monotonic() - started:.0f} s", file=sys.stderr)

    started = time.monotonic()
    expected = ensemble(pixels[:1])["logits"].numpy()
    print(f"the library's ensemble: {time.monotonic() - started:.1f} s for the first image", file=sys.stderr)

    started = time.monotonic()
    packed = package(ensemble, tmp_path / "paper.zip", "random weights")
    print(f"packed in {time.monotonic() - started:.0f} s", file=sys.stderr)
    for name, (size, seconds) in packed.members.items():
        print(f"  {name}: {size / 1e6:.0f} MB, {seconds:.2f} s an image", file=sys.stderr)
    print(f"  {packed.size / 1e6:.0f} MB, unpacked {packed.unpacked_size / 1e6:.0f} MB", file=sys.stderr)
    assert packed.size < MOST_ZIPPED_BYTES and packed.unpacked_size < MOST_UNPACKED_BYTES
    del ensemble

    unpack(packed.path, tmp_path / "unpacked", MOST_UNPACKED_BYTES)
    for number, image in enumerate(pixels):
        write_image(tmp_path / "input" / f"{number}.png", image[np.newaxis])
    started = time.monotonic()
    members = runner.load_members(tmp_path / "unpacked" / "models")
    loaded = time.monotonic() - started
    logits = sum(member.weight * member.logits(pixels[:1]) for member in members) / len(members)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()

    started = time.monotonic()
    outcome = runner.classify_folder(
        members, tmp_path / "input", tmp_path / "labels.csv", time_limit=500, started=started, batch_size=IMAGES
    )
    assert (outcome.rows, outcome.guessed) == (IMAGES, 0)
    print(f"loaded in {loaded:.1f} s; {IMAGES} images in {outcome.seconds:.1f} s", file=sys.stderr)
    print(f"100 images: about {loaded + 25 * outcome.seconds:.0f} s", file=sys.stderr)
    print(f"peak memory {_peak_gigabytes():.1f} GiB", file=sys.stderr)
    assert _peak_gigabytes() < MOST_GIGABYTES

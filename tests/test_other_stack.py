"""What the other stack of `hgd_tf/foundation/stack.py` writes, this one reads, and answers the same.

HGD_OTHER_PYTHON names a Python that has the other stack; `.ci/run` does, from either side.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.crafting.verify import verify_set
from hgd_tf.defenses import load_defense
from hgd_tf.foundation.stack import load_model
from hgd_tf.targets import load_target

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("HGD_OTHER_PYTHON" not in os.environ, reason="HGD_OTHER_PYTHON names no Python"),
]
ROOT = Path(__file__).parents[1]
LIMIT = 400  # seconds that a process may take on a busy machine
ROUNDING = 1e-4  # of logits of the order of 10, in float32

WRITE = """
import sys
from pathlib import Path
import numpy as np
from hgd_tf import Defense, dunet, load_target, save_defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.exporting import export_defense
from hgd_tf.denoisers import gaussian, median
from hgd_tf.foundation.stack import keras

folder = Path(sys.argv[1])
keras.utils.set_random_seed(1)
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (4, 28, 28, 1)).astype(np.uint8)

denoiser = dunet(channels=1, width=0.0625)  # its last layer is zero until it is trained
denoiser.set_weights([w + rng.normal(0, 0.02, w.shape) if w.ndim == 4 else w for w in denoiser.get_weights()])
layers = keras.layers
own = keras.Sequential([
    layers.InputLayer((28, 28, 1)),
    layers.Rescaling(1 / 255),
    layers.SeparableConv2D(8, 3, activation="relu"),
    layers.BatchNormalization(),
    layers.GlobalAveragePooling2D(),
    layers.Dense(10, activation="softmax"),
], name="own")
own.save(folder / "own.keras"), own.save(folder / "own.h5"), own.save(folder / "own")
target = load_target("mini_vgg")
for name, target in {"registered": load_target("mini_vgg"), "own": load_target(own)}.items():
    save_defense(Defense(denoiser, target), folder / f"defense_{name}")
    np.save(folder / f"defense_{name}.npy", Defense(denoiser, target)(images)["logits"])
np.save(folder / "own.npy", load_target(own)(images)["logits"])
for denoiser in (median(1), gaussian(1), dunet(channels=1, width=0.0625, precision="bfloat16")):
    denoiser.save(folder / f"{denoiser.name}.keras")
np.save(folder / "median.npy", median(1)(images.astype(np.float32)))
export_defense(Ensemble([Flow([], [load_target("mini_vgg")], "X")]), folder / "model" / "1", "test")
np.save(folder / "model.npy", load_target("mini_vgg")(images)["logits"])
np.save(folder / "images.npy", images)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    _run([os.environ["HGD_OTHER_PYTHON"], "-c", WRITE, folder])
    return folder


def _run(command, cwd=ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _assert_answers(answer, written: Path, name: str) -> None:
    np.testing.assert_allclose(answer, np.load(written / f"{name}.npy"), atol=ROUNDING, rtol=ROUNDING)


def test_targets_denoisers_defenses_and_exports_answer_as_they_did(written):
    images = np.load(written / "images.npy")
    for file in ("own.keras", "own.h5", "own"):
        _assert_answers(load_target(written / file)(images)["logits"], written, "own")
    for name in ("defense_registered", "defense_own"):
        _assert_answers(load_defense(written / name)(images)["logits"], written, name)
    _assert_answers(load_model(written / "median.keras")(images.astype(np.float32)), written, "median")
    assert load_model(written / "dunet.keras").layers[-1].compute_dtype == "float32"
    exported = tf.saved_model.load(written / "model" / "1").signatures["serving_default"]
    _assert_answers(exported(images=tf.constant(images))["logits"], written, "model")


FLAGS = [
    "--run_dir=run", "--sets_dir=sets", "--members=target", "--holdout=target", "--ens_target=", "--train_images=20",
    "--validation_images=20", "--batch_size=20", "--width=0.015625", "--epochs=3", "--steps_per_epoch=10",
    "--test_images=10", "--adaptive_images=2", "--strategy=one_device",
]  # fmt: skip


def test_an_unfinished_run_and_its_sets_go_on(tmp_path):
    arguments = ["-m", "hgd_tf.train", *FLAGS]
    process = subprocess.Popen([os.environ["HGD_OTHER_PYTHON"], *arguments], cwd=tmp_path, env=_environment())
    end = time.monotonic() + LIMIT
    while not (tmp_path / "run" / "state" / "state.json").exists() and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    sets = {path: (path / "manifest.json").stat().st_mtime_ns for path in (tmp_path / "sets").iterdir()}
    _run([sys.executable, *arguments], cwd=tmp_path)
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1", "2"]
    assert (tmp_path / "run" / "results.json").is_file()
    for path, written in sets.items():
        assert (path / "manifest.json").stat().st_mtime_ns == written
        verify_set(path)

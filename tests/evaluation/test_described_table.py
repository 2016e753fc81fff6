"""Tables that a file describes, on the small networks and the embedded images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hgd_tf import evaluation
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.defenses import Defense, line_up, save_defense
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.denoisers import median
from hgd_tf.errors import RunError
from hgd_tf.evaluation.described_table import evaluate_table, read_table
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.files import write_json
from hgd_tf.foundation.stack import keras
from hgd_tf.study import evaluate_runs
from hgd_tf.targets import load_target
from hgd_tf.training import TrainConfig
from hgd_tf.training.run_directory import RESULTS_JSON, open_run

FIELDS = {"target": "mini_vgg", "members": ["target"], "holdout": "target", "test_images": 20, "adaptive_images": 4}
DESCRIPTION = {
    "experiment": FIELDS,
    "denoisers": {
        "LGD": {"defense": "run"},
        "median": {"filter": "median", "channels": 1},
        "colour": {"filter": "median"},
    },
    "targets": {
        "vgg": {"name": "mini_vgg"},
        "resnet": {"name": "mini_resnet"},
        "large": {"name": "mini_vgg", "image_size": 40},
    },
    "rows": {
        "none": ["vgg"],
        "filter": ["median->vgg"],
        "LGD": ["LGD->vgg"],
        "transferred": ["LGD->resnet"],
        "average": ["LGD->vgg", "LGD->resnet"],
        "sizes": ["median->vgg", "large"],
    },
}


def describe(folder: Path, name: str = "changed.json", **changes) -> Path:
    path = folder / name
    path.write_text(json.dumps({**DESCRIPTION, **changes}), encoding="utf-8")
    return path


def of_tiny_networks(folder: Path) -> dict:
    """The description's sections that name networks, with two of random weights in files."""
    first, second = (str(folder / f"{name}.keras") for name in ("first", "second"))
    return {
        "experiment": {**FIELDS, "target": first, "image_size": 28},
        "targets": {
            "vgg": {"name": first, "image_size": 28},
            "resnet": {"name": second, "image_size": 28},
            "large": {"name": first, "image_size": 40},
        },
    }


def write_tiny_network(path: Path, seed: int) -> None:
    """A classifier of images of any size."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 1))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", kernel_initializer="random_normal")(x)
    maps = keras.layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal")(x)
    keras.Model(images, keras.layers.Dense(10)(keras.layers.GlobalMaxPooling2D()(maps))).save(path)


def blurring() -> keras.Model:
    """A denoiser of some other weights than a filter's."""
    images = keras.Input((None, None, 1))
    blur = keras.layers.Conv2D(1, 5, padding="same", kernel_initializer="ones")
    return keras.Model(images, blur(images) / 25)


class Workplace(NamedTuple):
    """A folder with a run; its experiment; what it has beside the baselines; and the table that a file describes."""

    folder: Path
    experiment: ExperimentConfig
    of_runs: dict
    of_file: dict
    text: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    folder = tmp_path_factory.mktemp("table")
    for seed, name in enumerate(("first", "second")):
        write_tiny_network(folder / f"{name}.keras", seed)
    target = str(folder / "first.keras")
    experiment = ExperimentConfig(
        target, image_size=28, members=("target",), holdout="target", ens_target=None, test_images=20, adaptive_images=4
    )
    run = open_run(folder / "run", TrainConfig(experiment))
    save_defense(Defense(blurring(), load_target(target, image_size=28)), run)
    write_json(run / RESULTS_JSON, {})
    evaluate_runs([run], folder / "of_runs", folder / "sets")
    text = evaluate_table(
        describe(folder, "table.json", **of_tiny_networks(folder)), folder / "of_file", folder / "sets"
    )
    found = [json.loads((folder / where / RESULTS_JSON).read_text("utf-8")) for where in ("of_runs", "of_file")]
    return Workplace(folder, experiment, *found, text)


SAME = {"none": "none", "filter": "median", "LGD": "logits"}  # our rows, and those of runs


@pytest.mark.parametrize("row", SAME)
def test_a_row_of_one_flow_has_the_figures_of_a_run(workplace, row):
    for figure in ("accuracy", "accuracy_per_attack", "gflop"):
        assert workplace.of_file[figure][row] == workplace.of_runs[figure][SAME[row]]
    # Rounding differs from one run to the next, and where a gradient is almost 0, a pixel's sign with it.
    losses = workplace.of_runs["denoising_loss"][SAME[row]]
    assert workplace.of_file["denoising_loss"][row] == pytest.approx(losses, rel=1e-3)


def test_a_table_is_of_the_experiments_target_and_images(workplace):
    for key in ("seed", "dataset", "target", "test_images", "adaptive_images", "threat_models", "versions"):
        assert workplace.of_file[key] == workplace.of_runs[key]
    assert list(workplace.of_file["accuracy"]) == list(DESCRIPTION["rows"])
    lines = workplace.text.splitlines()
    assert lines[0].startswith("first behind")
    assert [line.split()[0] for line in lines[2:8]] == list(DESCRIPTION["rows"])
    assert len(list((workplace.folder / "sets").iterdir())) == 4  # those of the run


def test_an_average_has_the_answers_of_its_ensemble(workplace):
    clean = load_fashion_mnist().test.head(20)
    targets = [load_target(workplace.folder / f"{name}.keras", image_size=28) for name in ("first", "second")]
    logits = [Defense(blurring(), target)(clean.images)["logits"] for target in targets]
    hits = np.argmax(logits[0] + logits[1], axis=-1) == clean.labels
    assert workplace.of_file["accuracy"]["average"]["clean"] == pytest.approx(hits.mean())
    losses = workplace.of_file["denoising_loss"]
    for key in ("clean", "white_eps4", "black_eps16"):
        assert losses["average"][key] == pytest.approx(losses["LGD"][key], rel=1e-5)  # the flows' images are the same
    costs = workplace.of_file["gflop"]
    assert costs["average"] == pytest.approx(costs["LGD"] + costs["transferred"], abs=2e-7)  # the average itself


def test_the_flows_of_a_row_may_be_of_several_sizes(workplace):
    losses, costs = workplace.of_file["denoising_loss"], workplace.of_file["gflop"]
    assert losses["sizes"]["clean"] == pytest.approx(losses["filter"]["clean"] / 2, rel=1e-5)  # undefended: none
    assert costs["sizes"] - costs["filter"] == pytest.approx(costs["none"] * (40 / 28) ** 2, rel=0.2)


def test_what_rows_share_is_loaded_once(workplace, monkeypatch):
    loaded = []

    def noting(load):
        def noted(name, *arguments):
            loaded.append((Path(name).name, *arguments[1:]))
            return load(name, *arguments)

        return noted

    for function in ("load_denoiser", "load_target"):
        monkeypatch.setattr(line_up, function, noting(getattr(line_up, function)))
    rows = read_table(workplace.folder / "table.json").load_rows()
    used = [("run",), ("first.keras", 28), ("first.keras", 40), ("second.keras", 28)]
    assert sorted(map(str, loaded)) == sorted(map(str, used))
    targets = {name: [flow.targets[0] for flow in row.flows] for name, row in rows.items()}
    assert len({id(targets[name][0]) for name in rows if name != "transferred"}) == 1
    assert targets["transferred"][0] is targets["average"][1]


def test_an_experiment_is_that_of_its_fields_and_has_no_ens_target(workplace):
    assert read_table(workplace.folder / "table.json").experiment == workplace.experiment
    fields = {"target": "mini_inception", "input_range": [-1, 1.5], "seed": 0, "image_size": None}
    found = read_table(describe(workplace.folder, experiment=fields)).experiment
    assert found == ExperimentConfig(target="mini_inception", input_range=(-1, 1.5), ens_target=None)


def test_folders_of_an_experiment_are_looked_for_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HGD_CHECKPOINTS", str(tmp_path / "weights"))
    (tmp_path / "mine").mkdir()
    fields = {"test_dir": "mine", "labels": "elsewhere.csv", "checkpoint": "weights.h5"}
    found = read_table(describe(tmp_path, experiment=fields)).experiment
    assert (found.test_dir, found.labels) == (str(tmp_path / "mine"), "elsewhere.csv")
    assert found.checkpoint == str(tmp_path / "weights" / "weights.h5")


def test_a_table_on_images_of_ones_own(workplace, tmp_path):
    """The figure of clean images is that by hand, of a folder a class."""
    images = load_fashion_mnist().test.images[:9]
    labels = load_target(workplace.folder / "first.keras", image_size=28)(images)["logits"].numpy().argmax(axis=-1)
    labels[:3] = (labels[:3] + 1) % 10
    for number, (image, label) in enumerate(zip(images, labels)):
        write_image(tmp_path / "mine" / str(label) / f"{number}.png", image[np.newaxis])
    path = describe(workplace.folder, **of_tiny_networks(workplace.folder), rows={"none": ["vgg"]})
    changes = {"test_dir": str(tmp_path / "mine"), "adaptive_images": 2}
    evaluate_table(path, tmp_path / "out", tmp_path / "sets", changes)
    results = json.loads((tmp_path / "out" / RESULTS_JSON).read_text())
    assert (results["dataset"], results["test_images"], results["adaptive_images"]) == ("mine", 9, 2)
    assert results["accuracy"]["none"]["clean"] == pytest.approx(6 / 9)


MISTAKES = {
    "no section": ({"rows": None}, r"expected 'rows', a JSON object"),
    "rows in an array": ({"rows": ["vgg"]}, r"expected 'rows', a JSON object"),
    "flows of a line-up": (
        {"flows": ["vgg"]},
        r"expected experiment, denoisers, targets, rows, received 'flows'",
    ),
    "no row": ({"rows": {}}, r"expected at least one row, such as 'none': \['X'\], received none"),
    "no flow": ({"rows": {"a": []}}, r"row 'a': expected at least one flow, such as 'A->X', received none"),
    "flow alone": ({"rows": {"a": "vgg"}}, r"row 'a': expected an array of flows, received 'vgg'"),
    "unknown part": (
        {"rows": {"a": ["vgg"], "b": ["B->vgg"]}},
        r"row 'b': flow 'B->vgg' names denoiser 'B'; described are LGD, median, colour",
    ),
    "unknown field": (
        {"experiment": {"taget": "mini_vgg"}},
        r"experiment: expected target, .*, received 'taget'",
    ),
    "field of training": ({"experiment": {"guidance": "pixel"}}, r"experiment: expected target, .*'guidance'"),
    "one member": (
        {"experiment": {"members": "target"}},
        r"experiment: members: expected an array, each a text, received 'target'",
    ),
    "no member": ({"experiment": {"members": []}}, r"experiment: members: expected at least one, received \[\]"),
    "size in words": (
        {"experiment": {"image_size": "160"}},
        r"image_size: expected a whole number or null, received '160'",
    ),
    "no images": ({"experiment": {"test_images": 0}}, r"test_images: expected at least 1, received 0"),
    "seed below": ({"experiment": {"seed": -1}}, r"seed: expected at least 0, received -1"),
    "truth as seed": ({"experiment": {"seed": True}}, r"seed: expected a whole number, received True"),
    "three bounds": (
        {"experiment": {"input_range": [0, 1, 2]}},
        r"input_range: expected an array of 2, each a number, received \[0, 1, 2\]",
    ),
    "unknown transport": (
        {"experiment": {"test_transports": ["jpg"]}},
        r"experiment: test_transports: transport 'jpg': expected none, or of jpeg",
    ),
    "falling range": ({"experiment": {"input_range": [1, 0]}}, r"input_range: expected two increasing numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_malformed_table_is_an_error_that_says_what_is_expected(tmp_path, name):
    changes, message = MISTAKES[name]
    with pytest.raises(RunError, match=rf"changed\.json: .*{message}"):
        read_table(describe(tmp_path, **changes))


MISFITS = {
    "photographs": (
        {"experiment": {"target": "mini_vgg", "images": "mine"}},
        r"expected `test_dir=DIR`, or test_dir in experiment: images for mini_vgg",
    ),
    "another network's images": (
        {"experiment": {"target": "efficientnet_lite0"}},
        r"expected `test_dir=DIR`, or test_dir in experiment: images for efficientnet_lite0",
    ),
    "absent run": ({"denoisers": {"LGD": {"defense": "absent"}}}, r"1 of 2 parts cannot be loaded: LGD: .*absent"),
    "colour before grey": (
        {"rows": {"none": ["vgg"], "a": ["colour->vgg"]}},
        r"row 'a': the denoiser takes 3 channels, mini_vgg takes 1",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_an_error_before_anything_is_crafted(tmp_path, name):
    changes, message = MISFITS[name]
    rows = {"rows": {"a": ["LGD->vgg"]}} if name == "absent run" else {}
    with pytest.raises(RunError, match=rf"changed\.json: .*{message}"):
        evaluate_table(describe(tmp_path, **{**rows, **changes}), tmp_path / "out", tmp_path / "sets")
    assert {path.name for path in tmp_path.iterdir()} == {"changed.json"}


def test_a_row_that_does_not_fit_the_images_is_named(tmp_path, monkeypatch):
    images = keras.Input((20, 20, 3))
    logits = keras.layers.Dense(4)(keras.layers.Flatten()(images))
    other = Ensemble([Flow([median(3)], [load_target(keras.Model(images, logits))], "colour")])
    monkeypatch.setattr(evaluation.described_table.DescribedTable, "load_rows", lambda table: {"colour": other})
    with pytest.raises(
        RunError,
        match=r"row 'colour': expected targets of 1 channels and at least 10 classes, as the images of "
        r"fashion_mnist_subset have, received 3 channels and 4 classes",
    ):
        evaluate_table(describe(tmp_path), tmp_path / "out", tmp_path / "sets")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(RunError, match=r"no such description of a table: .*absent\.json"):
        read_table(tmp_path / "absent.json")

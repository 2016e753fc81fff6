"""An experiment on photographs: whose classes they are, and that networks fit them."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.errors import TargetError
from hgd_tf.targets import load_target
from hgd_tf.training import ExperimentConfig, TrainConfig
from hgd_tf.training.experiment import load_experiment

training = sys.modules["hgd_tf.training.train"]
COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fashion-MNIST's first test images as files, and a table that calls number n's class n % 3."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "photographs").mkdir()
    for number, image in enumerate(load_fashion_mnist().test.images[:COUNT]):
        write_image(folder / "photographs" / f"{number:02}.png", image[np.newaxis])
    write_table(folder, {})
    return folder


def write_table(folder, changes: dict[int, int], name: str = "labels.csv"):
    labels = {**{number: number % 3 for number in range(COUNT)}, **changes}
    lines = [f"{folder}/photographs/{number:02}.png,{label}" for number, label in labels.items()]
    (folder / name).write_text("\n".join(["file,label", *lines, ""]))
    return str(folder / name)


def load(folder, **changes):
    options = {"members": ("target",), "holdout": "target", "ens_target": None, **changes}
    return load_experiment(ExperimentConfig(photographs=str(folder / "photographs"), **options), folder / "sets")


def test_images_of_unknown_class_are_validated_by_the_targets_own_answer(folder):
    splits = load(folder).splits
    target = load_target("mini_inception")
    answers = np.argmax(target(splits.validation.images)["logits"], axis=1)
    np.testing.assert_array_equal(splits.validation.labels, answers)
    assert splits.validation.labels.dtype == np.int64
    assert len(set(answers)) > 1
    assert {file.label for file in splits.train_files} == {-1}


def test_known_classes_stay(folder):
    splits = load(folder, labels=str(folder / "labels.csv")).splits
    assert sorted({file.label for file in splits.train_files} | set(splits.validation.labels)) == [0, 1, 2]
    numbers = [file.path.stem for file in splits.train_files]
    left = [number % 3 for number in range(COUNT) if f"{number:02}" not in numbers]
    assert sorted(splits.validation.labels) == sorted(left)


def test_images_have_the_targets_size(folder):
    assert load(folder, image_size=32).splits.validation.images.shape == (3, 32, 32, 1)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_class_that_the_target_does_not_know_is_an_error(folder, part):
    names = {file.path.stem for file in load(folder).splits.train_files}
    number = next(n for n in range(COUNT) if (f"{n:02}" in names) == (part == "training"))
    table = write_table(folder, {number: 12}, f"{part}.csv")
    with pytest.raises(TargetError, match=r"mini_inception takes 1 channels and knows 10 classes; .* 13 classes"):
        load(folder, labels=table)


def test_published_members_are_attacked_at_the_size_of_the_crops(monkeypatch):
    """And in the run's precision; small and own networks stay at their size."""
    sizes = []

    def load_again(name, checkpoint, image_size):
        sizes.append((name, checkpoint, image_size))
        return load_target("mini_inception", image_size=image_size)

    monkeypatch.setattr(training, "load_target", load_again)
    target, own = load_target("mini_inception", image_size=20), load_target("mini_resnet")
    config = TrainConfig(ExperimentConfig())
    assert training._quick(own, target, config) is own
    published = load_target("mini_inception", image_size=24)
    published.source = published.source._replace(name="inception_v3", checkpoint="weights")
    assert training._quick(published, target, config).image_size == 20
    assert sizes == [("inception_v3", "weights", 20)]
    same_size = load_target("mini_inception", image_size=20)
    same_size.source = published.source
    assert training._quick(same_size, target, config) is same_size
    rounded = training._quick(own, target, dataclasses.replace(config, precision="bfloat16"))
    assert {layer.compute_dtype for layer in rounded.network.layers if layer.weights} == {"bfloat16"}
    assert (rounded.name, rounded.image_size, len(sizes)) == ("mini_resnet", 28, 1)

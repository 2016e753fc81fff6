"""An experiment on photographs: whose classes they are, and that networks fit them."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
from small_set import small_target

from hgd_tf.attacks import TRAINING_RECIPES, Roles
from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS
from hgd_tf.crafting.job import CraftConfig, load_plan
from hgd_tf.data import load_fashion_mnist
from hgd_tf.data.images import write_image
from hgd_tf.errors import DataError, TargetError
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.experiment.loading import labeled_by, load_experiment
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target
from hgd_tf.training import TrainConfig

training = sys.modules["hgd_tf.training.train"]
COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fashion-MNIST's first test images as files, a table that calls number n's class n % 3, and a small target."""
    folder = tmp_path_factory.mktemp("experiment")
    small_classifier().save(folder / "small.keras")
    (folder / "photographs").mkdir()
    for number, image in enumerate(load_fashion_mnist().test.images[:COUNT]):
        write_image(folder / "photographs" / f"{number:02}.png", image[np.newaxis])
    write_table(folder, {})
    return folder


def small_classifier() -> keras.Model:
    """Of Fashion-MNIST's images and classes, loaded in a moment."""
    keras.utils.set_random_seed(1)
    images = keras.Input((28, 28, 1))
    centred = keras.layers.Rescaling(1 / 255, -0.5)(images)
    return keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(centred)))


def write_table(folder, changes: dict[int, int], name: str = "labels.csv"):
    labels = {**{number: number % 3 for number in range(COUNT)}, **changes}
    lines = [f"{folder}/photographs/{number:02}.png,{label}" for number, label in labels.items()]
    (folder / name).write_text("\n".join(["file,label", *lines, ""]))
    return str(folder / name)


def load(folder, **changes):
    small = {"target": str(folder / "small.keras"), "members": ("target",), "holdout": "target", "ens_target": None}
    options = {**small, **changes}
    return load_experiment(ExperimentConfig(images=str(folder / "photographs"), **options), folder / "sets")


def test_images_of_unknown_class_are_validated_by_the_targets_own_answer(folder):
    splits = load(folder).splits
    target = load_target(folder / "small.keras")
    assert {file.label for file in splits.train_files} == set(splits.validation.labels) == {-1}
    answers = np.argmax(target(splits.validation.images)["logits"], axis=1)
    labeled = labeled_by(target, splits.validation)
    np.testing.assert_array_equal(labeled.labels, answers)
    assert labeled.labels.dtype == np.int64
    assert len(set(answers)) > 1
    np.testing.assert_array_equal(labeled_by(target, labeled._replace(labels=9 - answers)).labels, 9 - answers)


def test_known_classes_stay(folder):
    splits = load(folder, labels=str(folder / "labels.csv")).splits
    assert sorted({file.label for file in splits.train_files} | set(splits.validation.labels)) == [0, 1, 2]
    numbers = [file.path.stem for file in splits.train_files]
    left = [number % 3 for number in range(COUNT) if f"{number:02}" not in numbers]
    assert sorted(splits.validation.labels) == sorted(left)


def test_images_have_the_targets_size(folder):
    assert load(folder, target="mini_inception", image_size=32).splits.validation.images.shape == (3, 32, 32, 1)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_class_that_the_target_does_not_know_is_an_error(folder, part):
    names = {file.path.stem for file in load(folder).splits.train_files}
    number = next(n for n in range(COUNT) if (f"{n:02}" in names) == (part == "training"))
    table = write_table(folder, {number: 12}, f"{part}.csv")
    with pytest.raises(DataError, match=rf"{part}\.csv, line \d+: expected a class of 0\.\.9, .* received 12"):
        load(folder, labels=table)


# --- networks that appendix D names ---


def test_who_plays_appendix_d_is_loaded_once(folder):
    named = {"IncV3": "target", "ensV3": "mini_inception", "IncV4": "mini_vgg", "ResNet101": "mini_vgg"}
    roles = load(folder, target="mini_inception", networks=named, holdout="mini_vgg").roles
    assert {part: network.name for part, network in roles.named.items()} == {**named, "IncV3": "mini_inception"}
    assert roles.named["IncV3"] is roles.named["ensV3"] is roles.target
    assert roles.named["IncV4"] is roles.named["ResNet101"] is roles.holdout


def test_a_resized_target_does_not_play_the_part_of_its_name(folder):
    """Which another target's run would take at its own size."""
    networks = {"IncV3": "target", "ensV3": "mini_inception"}
    roles = load(folder, target="mini_inception", networks=networks, image_size=20).roles
    assert roles.named["IncV3"] is roles.target and roles.target.image_size == 20
    assert (roles.named["ensV3"].name, roles.named["ensV3"].image_size) == ("mini_inception", 28)


def test_a_player_that_does_not_fit_the_images_is_an_error(folder):
    keras.Sequential([keras.layers.Flatten(input_shape=(28, 28, 3)), keras.layers.Dense(10)]).save(
        folder / "colour.keras"
    )
    with pytest.raises(TargetError, match=r"colour takes 3 channels"):
        load(folder, networks={"IncV3": str(folder / "colour.keras")})


def test_a_set_is_crafted_on_models_as_they_are_described(folder):
    target, described = str(folder / "small.keras"), {"input_range": (0.0, 1.0), "outputs": "logits"}
    roles = load_plan(CraftConfig(target, **described, members=("target",), holdout=target)).roles
    images = load_fashion_mnist().test.images[:4]
    as_described = load_target(target, **described)(images)["logits"]
    np.testing.assert_allclose(roles.target(images)["logits"], as_described, rtol=1e-5)
    assert not np.allclose(load_target(target)(images)["logits"], as_described, rtol=1e-2)
    assert roles.target.reading == "0.0..1.0 logits" and roles.holdout is roles.target


# --- seen and unseen classes ---


def crafted_classes(folder, recipe: str, part: str, **changes) -> set[int]:
    target = str(folder / "small.keras")
    config = CraftConfig(
        target, members=("target",), holdout="target", recipe=recipe, images=f"embedded:{part}", **changes
    )
    return set(load_plan(config).source.labels)


@pytest.mark.parametrize("seed", [0, 3])
def test_three_quarters_of_the_classes_are_trained_on_as_in_the_recipes(folder, seed):
    small = {"target": str(folder / "small.keras"), "members": ("target",), "holdout": "target", "ens_target": None}
    config = ExperimentConfig(**small, seed=seed, class_split=True)
    splits = load_experiment(config, folder / "sets").splits
    seen, validated, tested = (set(part.labels) for part in (splits.train, splits.validation, splits.test))
    assert (len(seen), len(tested)) == (8, 2)  # of 10: 7.5 is rounded to even
    assert validated == tested and not seen & tested
    assert seen == crafted_classes(folder, "seen_classes_train_set", "train", seed=seed)
    assert validated == crafted_classes(folder, "unseen_classes_validation_set", "validation", seed=seed)
    assert tested == crafted_classes(folder, "unseen_classes_black_eps4", "test", seed=seed)
    whole = load_fashion_mnist()
    assert len(splits.train.labels) == np.isin(whole.train.labels, list(seen)).sum()
    assert len(splits.test.labels) == np.isin(whole.test.labels, list(tested)).sum()
    assert splits.name == f"{whole.name}, unseen classes"


def test_photographs_are_split_by_the_same_classes(folder):
    table = write_table(folder, {number: number % 10 for number in range(COUNT)}, "ten.csv")
    splits = load(folder, labels=table, test_dir=str(folder / "photographs"), class_split=True).splits
    seen = crafted_classes(folder, "seen_classes_train_set", "train")
    assert {file.label for file in splits.train_files} == seen
    assert set(splits.validation.labels) == set(splits.test.labels) == set(range(10)) - seen
    assert (len(splits.train_files), len(splits.validation.labels), len(splits.test.labels)) == (16, 4, 4)


def test_photographs_of_unknown_classes_cannot_be_split_by_them(folder):
    with pytest.raises(DataError, match=r"`class_split` needs the true classes: `labels`, or a folder a class"):
        load(folder, class_split=True)


# --- crafting while training ---


def test_what_the_recipe_attacks_has_one_quick_copy_whatever_parts_it_plays():
    target, other, unused = (small_target(f"small{number}", number) for number in range(3))
    named = {name: (target, other)[number % 2] for number, name in enumerate(APPENDIX_D_NETWORKS)}
    roles = Roles(target, (unused, other), unused, named)
    config = TrainConfig(ExperimentConfig(), precision="bfloat16")
    quick = training._quick_roles(roles, TRAINING_RECIPES["appendix_d"], config)
    for copy in quick.named.values():
        assert {layer.compute_dtype for layer in copy.network.layers if layer.weights} == {"bfloat16"}
    assert len(set(quick.named.values())) == 2 and not {target, other} & set(quick.named.values())
    assert [quick.named[name].name for name in named] == [network.name for network in named.values()]
    assert quick.members == (unused, quick.named["advV3"])
    assert (quick.target, quick.holdout) == (target, unused)
    assert training._quick_roles(roles, TRAINING_RECIPES["light_mix"], config).named["IncV3"] is target
    in_float32 = dataclasses.replace(config, precision="float32")
    assert training._quick_roles(roles, TRAINING_RECIPES["appendix_d"], in_float32) == roles


def test_members_are_attacked_at_their_own_size():
    """As where the test sets are made."""
    target, other = load_target("mini_vgg", image_size=20), load_target("mini_vgg", image_size=24)
    config = TrainConfig(ExperimentConfig(), precision="bfloat16")
    quick = training._quick_roles(Roles(target, (target, other), other), TRAINING_RECIPES["light_mix"], config)
    assert [member.image_size for member in quick.members] == [20, 24]

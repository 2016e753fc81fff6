"""Sets of attacked images on disk: crafted once, read back as they were, never half-written."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_set import COUNT, content_of, small_images, small_roles, small_target

from hgd_tf.attacks import TEST_SETS, Roles, SignGradientAttack
from hgd_tf.attacks.methods import fgsm, ifgsm
from hgd_tf.attacks.recipes import TRAIN_SET, VALIDATION_SET, Networks, Recipe, RecipeAttack
from hgd_tf.crafting import AttackedSet, SetCrafter, SetPlan, sets
from hgd_tf.data import LabeledImages
from hgd_tf.errors import DataError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import load_target

BLACK_EPS4, BLACK_EPS16 = TEST_SETS[2:]


@pytest.fixture(scope="module")
def roles() -> Roles:
    return small_roles()


@pytest.fixture(scope="module")
def clean() -> LabeledImages:
    return small_images()


@pytest.fixture(scope="module")
def crafter(roles, tmp_path_factory) -> SetCrafter:
    """One for the tests of the content, with a folder of its own."""
    return SetCrafter(roles, tmp_path_factory.mktemp("sets"), seed=0)


@pytest.fixture
def crafted(crafter, clean, tmp_path) -> Path:
    """The folder of a crafted set, alone in its parent."""
    crafter.attacked_set(BLACK_EPS4, clean)
    (folder,) = crafter.sets_dir.glob("black_eps4-*")
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def only_child(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def shard_of(folder: Path) -> Path:
    (path,) = folder.glob("*.tfrecord")
    return path


def forbid_crafting(monkeypatch) -> None:
    def records(*args, **kwargs):
        raise AssertionError("crafted again")

    monkeypatch.setattr(SetPlan, "records", records)


def assert_same(first: AttackedSet, second: AttackedSet) -> None:
    assert first.names == second.names
    np.testing.assert_array_equal(first.attacked, second.attacked)
    np.testing.assert_array_equal(first.epsilon, second.epsilon)
    np.testing.assert_array_equal(first.clean.images, second.clean.images)
    np.testing.assert_array_equal(first.clean.labels, second.clean.labels)


def test_train_set_holds_each_attack_on_each_image_in_the_ball_of_its_epsilon(crafter, clean):
    train = crafter.attacked_set(TRAIN_SET, clean)
    assert train.names[:3] == ("fgsm_target", "fgsm_member", "fgsm_ensemble")
    assert len(train.names) == 6
    assert train.attacked.dtype == np.uint8 and train.attacked.shape == (6, COUNT, 6, 6, 1)
    assert train.epsilon.dtype == np.int64 and train.epsilon.shape == (6, COUNT)
    assert train.epsilon.min() >= 1 and train.epsilon.max() <= 16
    distance = np.abs(train.attacked.astype(int) - clean.images).max(axis=(2, 3, 4))
    np.testing.assert_array_equal(distance, train.epsilon)


def test_each_attack_draws_its_own_epsilon(crafter, clean):
    epsilon = crafter.attacked_set(TRAIN_SET, clean).epsilon
    assert len({tuple(row) for row in epsilon}) == len(epsilon)


@pytest.mark.parametrize("recipe", TEST_SETS, ids=lambda recipe: recipe.name)
def test_epsilon_of_a_test_set_is_the_recipes(crafter, clean, recipe):
    received = crafter.attacked_set(recipe, clean)
    np.testing.assert_array_equal(received.epsilon, np.full((2, COUNT), recipe.lowest))
    distance = np.abs(received.attacked.astype(int) - clean.images).max(axis=(2, 3, 4))
    np.testing.assert_array_equal(distance, received.epsilon)


def test_content_is_that_of_the_attack_itself(crafter, roles, clean):
    received = crafter.attacked_set(BLACK_EPS4, clean)
    attack = SignGradientAttack([roles.holdout])
    assert received.names == ("fgsm_holdout", "ifgsm4_holdout")
    for images, method in zip(received.attacked, (fgsm(), ifgsm(4))):
        assert np.mean(images == attack(clean.images, 4, method)) >= 0.999


def test_stored_set_is_read_back_identical_and_not_crafted_again(roles, clean, tmp_path, monkeypatch):
    first = SetCrafter(roles, tmp_path, seed=0).attacked_set(BLACK_EPS16, clean)
    before = shard_of(only_child(tmp_path)).stat()
    forbid_crafting(monkeypatch)
    second = SetCrafter(roles, tmp_path, seed=0).attacked_set(BLACK_EPS16, clean)
    assert_same(first, second)
    after = shard_of(only_child(tmp_path)).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_an_interrupted_set_is_crafted_from_where_it_was(roles, clean, tmp_path, monkeypatch):
    """14 images in shards of 5."""
    monkeypatch.setattr(sets, "batch_size_for", lambda size: 1)
    unbroken = SetCrafter(roles, tmp_path / "unbroken", seed=0).attacked_set(BLACK_EPS4, clean)
    asked, records = [], SetPlan.records

    def recorded(plan, shard, *arguments):
        asked.append(shard)
        if asked == [0, 1, 2]:
            raise KeyboardInterrupt
        return records(plan, shard, *arguments)

    monkeypatch.setattr(SetPlan, "records", recorded)
    with pytest.raises(KeyboardInterrupt):
        SetCrafter(roles, tmp_path / "broken", seed=0).attacked_set(BLACK_EPS4, clean)
    resumed = SetCrafter(roles, tmp_path / "broken", seed=0).attacked_set(BLACK_EPS4, clean)
    assert asked == [0, 1, 2, 2]
    assert_same(resumed, unbroken)


def test_stored_set_is_found_by_equal_networks_that_are_other_objects(crafted, clean, monkeypatch):
    forbid_crafting(monkeypatch)
    received = SetCrafter(small_roles(), crafted.parent, seed=0).attacked_set(BLACK_EPS4, small_images())
    assert received.attacked.shape == (2, COUNT, 6, 6, 1)


def test_same_set_crafted_twice_is_the_same_bytes(crafted, clean, tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    SetCrafter(small_roles(), folder, seed=0).attacked_set(BLACK_EPS4, clean)
    assert content_of(folder / crafted.name) == content_of(crafted)


def test_folder_name_says_the_recipe_and_the_number_of_images(crafted):
    assert crafted.name.startswith(f"black_eps4-{COUNT}-")


def another_seed(folder, roles, clean):
    SetCrafter(roles, folder, seed=1).attacked_set(BLACK_EPS4, clean)


def other_images(folder, roles, clean):
    SetCrafter(roles, folder, seed=0).attacked_set(BLACK_EPS4, small_images(seed=1))


def one_other_pixel(folder, roles, clean):
    images = clean.images.copy()
    images[-1, -1, -1, 0] ^= 1
    SetCrafter(roles, folder, seed=0).attacked_set(BLACK_EPS4, clean._replace(images=images))


def other_weights(folder, roles, clean):
    SetCrafter(small_roles(holdout_seed=4), folder, seed=0).attacked_set(BLACK_EPS4, clean)


def other_network(folder, roles, clean):
    SetCrafter(roles._replace(holdout=roles.target), folder, seed=0).attacked_set(BLACK_EPS4, clean)


def other_epsilon(folder, roles, clean):
    recipe = BLACK_EPS4._replace(lowest=3)
    SetCrafter(roles, folder, seed=0).attacked_set(recipe, clean)


def other_method(folder, roles, clean):
    first, second = BLACK_EPS4.attacks
    recipe = BLACK_EPS4._replace(attacks=(first, second._replace(method="difgsm4")))
    SetCrafter(roles, folder, seed=0).attacked_set(recipe, clean)


def other_labels(folder, roles, clean):
    SetCrafter(roles, folder, seed=0).attacked_set(BLACK_EPS4, clean._replace(labels=clean.labels[::-1]))


@pytest.mark.parametrize(
    "craft_other",
    [
        another_seed,
        other_images,
        one_other_pixel,
        other_weights,
        other_network,
        other_epsilon,
        other_method,
        other_labels,
    ],
)
def test_whatever_determines_the_content_gives_another_folder(crafted, roles, clean, craft_other):
    content = content_of(crafted)
    craft_other(crafted.parent, roles, clean)
    assert len(list(crafted.parent.iterdir())) == 2
    assert content_of(crafted) == content


def test_users_models_that_differ_in_how_they_are_read_alone_have_a_folder_each(roles, clean, tmp_path):
    """Their weights do not say what they expect white to be."""
    images = keras.Input((6, 6, 1))
    model = keras.Model(images, keras.layers.Dense(5, activation="softmax")(keras.layers.Flatten()(images)))
    ways = ({}, {"input_range": (-1, 1)}, {"outputs": "logits"})
    for way in (*ways, {"input_range": (0.0, 255.0)}):  # the last is the first
        crafter = SetCrafter(roles._replace(holdout=load_target(model, **way)), tmp_path, seed=0)
        crafter.attacked_set(BLACK_EPS4._replace(attacks=BLACK_EPS4.attacks[:1]), clean)
    assert len(list(tmp_path.iterdir())) == len(ways)


def test_recipes_that_differ_in_name_alone_have_a_folder_each(roles, clean, tmp_path):
    """FGSM on the ensemble stands for the others."""
    crafter = SetCrafter(roles, tmp_path, seed=0)
    for recipe in (TRAIN_SET, VALIDATION_SET):
        crafter.attacked_set(recipe._replace(attacks=recipe.attacks[1:2]), clean)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["train_set", "validation_set"]


NAMED_SET = Recipe("named", (RecipeAttack("fgsm", Networks("x1", ("IncV3",))),), lowest=16, highest=16)


def test_a_set_that_does_not_attack_the_target_is_shared_by_targets(roles, clean, tmp_path, monkeypatch):
    """Whatever the others' sizes, which bound no batch then."""
    named = {"IncV3": roles.members[1]}
    first = SetCrafter(roles._replace(named=named), tmp_path, seed=0).attacked_set(NAMED_SET, clean)
    forbid_crafting(monkeypatch)
    large = load_target("mini_vgg", image_size=96)
    others = Roles(large, (large,), small_target("holdout", 9), named)
    assert_same(first, SetCrafter(others, tmp_path, seed=0).attacked_set(NAMED_SET, clean))
    with pytest.raises(AssertionError, match="crafted again"):
        SetCrafter(others._replace(named={"IncV3": others.holdout}), tmp_path, seed=0).attacked_set(NAMED_SET, clean)


# --- damaged files ---


def assert_damage_is_reported(folder: Path, damaged: Path, roles: Roles, clean: LabeledImages) -> None:
    content = damaged.read_bytes()
    with pytest.raises(DataError) as raised:
        SetCrafter(roles, folder.parent, seed=0).attacked_set(BLACK_EPS4, clean)
    assert str(folder) in str(raised.value) and "remove" in str(raised.value)
    assert damaged.read_bytes() == content


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_truncated_shard_is_a_data_error_that_names_it(crafted, roles, clean, kept):
    shard = shard_of(crafted)
    os.truncate(shard, int(kept * shard.stat().st_size))
    assert_damage_is_reported(crafted, shard, roles, clean)


@pytest.mark.parametrize("content", [b"no set", b"\x80\x04N.", b"PK\x03\x04", bytes(2000)])
@pytest.mark.parametrize("file", ["shard", "plan.json", "manifest.json"])
def test_file_of_another_kind_is_a_data_error_that_names_the_folder(crafted, roles, clean, file, content):
    path = shard_of(crafted) if file == "shard" else crafted / file
    path.write_bytes(content)
    assert_damage_is_reported(crafted, path, roles, clean)


def test_every_flipped_byte_is_a_data_error(crafted, roles, clean):
    crafter, shard = SetCrafter(roles, crafted.parent, seed=0), shard_of(crafted)
    content = shard.read_bytes()
    for position in range(0, len(content), 151):
        shard.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        with pytest.raises(DataError, match=str(shard)):
            crafter.attacked_set(BLACK_EPS4, clean)


@pytest.mark.parametrize("file", ["shard", "manifest.json"])
def test_removed_file_is_made_again(crafted, roles, clean, file):
    content = content_of(crafted)
    (shard_of(crafted) if file == "shard" else crafted / file).unlink()
    SetCrafter(roles, crafted.parent, seed=0).attacked_set(BLACK_EPS4, clean)
    assert content_of(crafted) == content


# --- crafting that fails ---


def test_a_crafters_sets_share_what_was_compiled_which_goes_with_the_crafter(roles, clean, tmp_path):
    def crafted_attack():
        crafter = SetCrafter(roles, tmp_path)
        for recipe in (BLACK_EPS4, BLACK_EPS16):
            crafter.attacked_set(recipe, clean)
        attack = crafter._attack_on((roles.holdout,), tf.distribute.get_strategy())
        return weakref.ref(attack), crafter._attack_on.cache_info().currsize

    attack, compiled = crafted_attack()
    gc.collect()
    assert compiled == 1  # both attacks of both sets are on the hold-out
    assert attack() is None


def test_no_shard_is_left_when_crafting_fails_in_the_middle(roles, clean, tmp_path, monkeypatch):
    def failing_attack(*args, **kwargs):
        raise KeyboardInterrupt

    crafter = SetCrafter(roles, tmp_path / "sets", seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(SignGradientAttack, "__call__", failing_attack)
        with pytest.raises(KeyboardInterrupt):
            crafter.attacked_set(BLACK_EPS4, clean)
    assert [path.name for path in only_child(tmp_path / "sets").iterdir()] == ["plan.json"]
    assert crafter.attacked_set(BLACK_EPS4, clean).attacked.shape == (2, COUNT, 6, 6, 1)


def test_no_shard_is_left_when_writing_fails_in_the_middle(roles, clean, tmp_path, monkeypatch):
    class FullDisk(tf.io.TFRecordWriter):
        def write(self, record):
            super().write(record)
            self.flush()
            raise OSError(28, "No space left on device")

    crafter = SetCrafter(roles, tmp_path, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", FullDisk)
        with pytest.raises(OSError, match="No space left"):
            crafter.attacked_set(BLACK_EPS4, clean)
    assert [path.name for path in only_child(tmp_path).iterdir()] == ["plan.json"]

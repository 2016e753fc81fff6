"""Images from a folder a class."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from hgd_tf.data import are_photographs, load_splits
from hgd_tf.errors import DataError

PARTS = ("train", "validation", "test")


@pytest.fixture
def folder(tmp_path):
    """Three images of two classes in every part, each of one value: 10 times its class plus its number."""
    for part in PARTS:
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                image = Image.new("L", (20 + number, 30), 10 * label + number)
                image.save(tmp_path / part / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_once_with_its_label(folder, channels):
    splits = load_splits(str(folder), 16, channels)
    for part in PARTS:
        images, labels = getattr(splits, part)
        assert images.shape == (6, 16, 16, channels)
        assert images.dtype == np.uint8
        values = images[:, 0, 0, 0]
        assert sorted(values) == [0, 1, 2, 10, 11, 12]
        np.testing.assert_array_equal(labels, values // 10)
        np.testing.assert_array_equal(images, np.broadcast_to(values[:, None, None, None], images.shape))


def test_order_is_mixed_and_always_the_same(folder):
    first, second = (load_splits(str(folder), 16, 1).train.labels for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert list(first) != sorted(first)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_missing_part_is_named(folder, part):
    (folder / part).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=part):
        load_splits(str(folder), 16, 1)


def test_another_set_of_classes_is_an_error(folder):
    (folder / "test" / "dog").rename(folder / "test" / "fox")
    with pytest.raises(DataError, match="test"):
        load_splits(str(folder), 16, 1)


def test_what_is_no_image_is_named_and_left_out_and_what_is_hidden_is_nothing(folder, capsys):
    expected = load_splits(str(folder), 16, 1)
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._10.png"):
        (folder / "test" / "cat" / name).write_text("no image")
    for loaded, part in zip(load_splits(str(folder), 16, 1).__dict__.values(), expected.__dict__.values()):
        if isinstance(part, tuple):
            np.testing.assert_array_equal(loaded.images, part.images)
    assert capsys.readouterr().out == ""
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    splits = load_splits(str(folder), 16, 1)
    assert capsys.readouterr().out == f"left out, no image: {folder}/train/cat/notes.txt\n"
    assert sorted(splits.train.images[:, 0, 0, 0]) == [0, 1, 2, 10, 11, 12]


def test_names_mean_the_same_in_every_part(folder):
    """Which some of them need not have: here ImageNet's second and third class."""
    for part in PARTS:
        (folder / part / "cat").rename(folder / part / "n01443537")
        (folder / part / "dog").rename(folder / part / "n01484850")
    shutil.rmtree(folder / "validation" / "n01443537")
    splits = load_splits(str(folder), 16, 1, classes=10)
    np.testing.assert_array_equal(splits.train.labels, 1 + splits.train.images[:, 0, 0, 0] // 10)
    assert set(splits.validation.labels) == {2} and splits.classes == 3


def test_class_folders_without_images_are_an_error(folder):
    for file in (folder / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"no images in the class folders of .*test"):
        load_splits(str(folder), 16, 1)
    with pytest.raises(DataError, match=r"train: expected class folders for 0\.\.0, received 2 folders"):
        load_splits(str(folder), 16, 1, classes=1)


def test_what_lies_in_a_folder_says_what_it_is(folder, tmp_path):
    assert not are_photographs(None) and not are_photographs(folder)
    (folder / "test").rename(folder / "train_2")
    assert not are_photographs(folder)  # of which a part is missing
    (folder / "validation").rename(folder / "validation_2")
    assert are_photographs(folder)  # of the classes train, train_2 and validation_2
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        fashion = tmp_path / name
        fashion.mkdir()
        assert are_photographs(fashion)
        (fashion / name).touch()
        assert not are_photographs(fashion)
    assert are_photographs(tmp_path / "absent") and are_photographs("samples") and are_photographs("table.csv")

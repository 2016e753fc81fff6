"""Images from a folder a class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hgd_tf.data import load_splits
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


def test_file_that_is_no_image_is_named(folder):
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"notes\.txt"):
        load_splits(str(folder), 16, 1)


def test_empty_class_folders_are_an_error(folder):
    for file in (folder / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match="no images"):
        load_splits(str(folder), 16, 1)

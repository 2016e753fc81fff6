"""Fashion-MNIST: the embedded subset and the published files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from hgd_tf.data import LabeledImages, fashion_mnist
from hgd_tf.data.fashion_mnist import CLASSES, SUBSET_FILE, load_fashion_mnist
from hgd_tf.errors import DataError
from hgd_tf.make_fashion_mnist_subset import balanced_sample, make_subset

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
PARTS = {"train": 8_000, "validation": 1_000, "test": 2_000}
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@pytest.fixture(scope="module")
def subset():
    return load_fashion_mnist()


def _idx(magic: int, array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def _write_pair(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray):
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(2051, images)))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(2049, labels)))


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (7, 28, 28)).astype(np.uint8),
        "train_labels": rng.integers(0, 10, 7).astype(np.uint8),
        "test_images": rng.integers(0, 256, (3, 28, 28)).astype(np.uint8),
        "test_labels": rng.integers(0, 10, 3).astype(np.uint8),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch, arrays) -> Path:
    """The four files with 7 training images, of which 5 train, and 3 test images."""
    monkeypatch.setattr(fashion_mnist, "TRAIN_COUNT", 5)
    _write_pair(tmp_path, "train", arrays["train_images"], arrays["train_labels"])
    _write_pair(tmp_path, "t10k", arrays["test_images"], arrays["test_labels"])
    return tmp_path


@pytest.mark.parametrize(("part", "count"), PARTS.items())
def test_the_subset_has_its_counts_types_and_balanced_classes(subset, part, count):
    images, labels = getattr(subset, part)
    assert images.shape == (count, 28, 28, 1) and images.dtype == np.uint8
    assert labels.shape == (count,) and labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [count // CLASSES] * CLASSES
    assert images.min() == 0 and images.max() == 255


def test_the_subset_is_in_random_order(subset):
    for part in PARTS:
        changes = np.count_nonzero(np.diff(getattr(subset, part).labels))
        assert changes > 0.8 * PARTS[part]


def test_the_subset_says_that_it_is_one(subset):
    assert subset.name == "fashion_mnist_subset"


def test_the_subset_is_under_six_megabytes():
    assert SUBSET_FILE.stat().st_size < 6_000_000


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_the_parts_share_no_image(subset, one, other):
    one_set, other_set = ({image.tobytes() for image in getattr(subset, part).images} for part in (one, other))
    assert not one_set & other_set


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason=f"Debian's dataset-fashion-mnist is not at {DEBIAN_FOLDER}")
def test_the_subset_is_what_its_script_makes_of_the_published_files():
    expected = make_subset(str(DEBIAN_FOLDER))
    with np.load(SUBSET_FILE) as actual:
        assert set(actual) == set(expected)
        for name, array in expected.items():
            assert actual[name].dtype == array.dtype
            np.testing.assert_array_equal(actual[name], array)


def test_a_balanced_sample_keeps_images_with_their_labels():
    labels = np.arange(200) % CLASSES
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1)
    sample = balanced_sample(LabeledImages(images, labels), 50, np.random.default_rng(0))
    assert np.bincount(sample.labels).tolist() == [5] * CLASSES
    numbers = sample.images.ravel()
    assert len(set(numbers)) == 50
    np.testing.assert_array_equal(numbers % CLASSES, sample.labels)


def test_head_takes_the_first(subset):
    head = subset.test.head(3)
    np.testing.assert_array_equal(head.images, subset.test.images[:3])
    np.testing.assert_array_equal(head.labels, subset.test.labels[:3])
    assert len(subset.test.head(5_000).labels) == len(subset.test.head(None).labels) == 2_000


def test_the_published_files_are_split_and_read_as_they_are(folder, arrays):
    splits = load_fashion_mnist(str(folder))
    assert splits.name == "fashion_mnist"
    expected = {
        "train": (arrays["train_images"][:5], arrays["train_labels"][:5]),
        "validation": (arrays["train_images"][5:], arrays["train_labels"][5:]),
        "test": (arrays["test_images"], arrays["test_labels"]),
    }
    for part, (images, labels) in expected.items():
        actual = getattr(splits, part)
        assert actual.images.dtype == np.uint8 and actual.labels.dtype == np.int64
        np.testing.assert_array_equal(actual.images, images[..., np.newaxis])
        np.testing.assert_array_equal(actual.labels, labels)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing file: .*absent/train-images"):
        load_fashion_mnist(str(tmp_path / "absent"))


def test_an_empty_folder_names_the_first_missing_file(tmp_path):
    with pytest.raises(DataError, match=f"missing file: .*{TRAIN_IMAGES}"):
        load_fashion_mnist(str(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"missing file: .*{name}"):
        load_fashion_mnist(str(folder))


DAMAGES = {
    "truncated gzip": (lambda content: content[: len(content) // 2], "truncated"),
    "gzip without its last bytes": (lambda content: content[:-6], "truncated"),
    "damaged gzip": (lambda content: content[:-8] + b"\xff" * 8, "truncated or no gzip"),
    "no gzip": (lambda content: b"no gzip file at all", "no gzip"),
    "uncompressed": (gzip.decompress, "no gzip"),
    "empty file": (lambda content: b"", "magic number"),
    "empty gzip": (lambda content: gzip.compress(b""), "magic number"),
    "header only in part": (lambda content: gzip.compress(gzip.decompress(content)[:6]), "magic number"),
    "wrong magic": (lambda content: gzip.compress(b"\0\0\0\7" + gzip.decompress(content)[4:]), "received 7"),
    "data too short": (lambda content: gzip.compress(gzip.decompress(content)[:-1]), r"expected \d+ bytes"),
    "data too long": (lambda content: gzip.compress(gzip.decompress(content) + b"\0"), r"expected \d+ bytes"),
}


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])
@pytest.mark.parametrize(("damage", "cause"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_with_its_fault(folder, name, damage, cause):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=cause) as caught:
        load_fashion_mnist(str(folder))
    assert str(path) in str(caught.value)


def test_labels_in_the_place_of_images_are_refused(folder):
    (folder / TRAIN_IMAGES).write_bytes((folder / TRAIN_LABELS).read_bytes())
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.*magic number 2051"):
        load_fashion_mnist(str(folder))


def test_different_counts_of_images_and_labels_are_refused(folder, arrays):
    _write_pair(folder, "t10k", arrays["test_images"], arrays["train_labels"])
    with pytest.raises(DataError, match="3 t10k images but 7 labels") as caught:
        load_fashion_mnist(str(folder))
    assert str(folder) in str(caught.value)


def _subset_at(path: Path, monkeypatch, content: bytes):
    path.write_bytes(content)
    monkeypatch.setattr(fashion_mnist, "SUBSET_FILE", path)


@pytest.mark.parametrize("kept", [0, 2, 1_000, 2_000_000, -100])
def test_a_truncated_subset_is_named(tmp_path, monkeypatch, kept):
    _subset_at(tmp_path / "cut.npz", monkeypatch, SUBSET_FILE.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cut.npz is not the data file"):
        load_fashion_mnist()


def test_a_damaged_subset_is_named(tmp_path, monkeypatch):
    content = bytearray(SUBSET_FILE.read_bytes())
    content[100_000:100_100] = b"\xff" * 100
    _subset_at(tmp_path / "damaged.npz", monkeypatch, bytes(content))
    with pytest.raises(DataError, match=r"damaged.npz is not the data file"):
        load_fashion_mnist()


def test_a_missing_subset_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SUBSET_FILE", tmp_path / "absent.npz")
    with pytest.raises(DataError, match=r"absent.npz is not the data file"):
        load_fashion_mnist()


def test_a_subset_without_labels_is_named(tmp_path, monkeypatch):
    np.savez(tmp_path / "images_only.npz", train_images=np.zeros((2, 28, 28), np.uint8))
    monkeypatch.setattr(fashion_mnist, "SUBSET_FILE", tmp_path / "images_only.npz")
    with pytest.raises(DataError, match=r"images_only.npz is not the data file.*train_labels"):
        load_fashion_mnist()

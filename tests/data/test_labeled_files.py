"""Image files and their classes, from folders' names and from tables."""

from __future__ import annotations

import warnings

import pytest

from hgd_tf.data import open_images
from hgd_tf.data.labeled_files import LabeledFile, imagenet_classes, labeled_files
from hgd_tf.errors import DataError


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path):
    return make(tmp_path / "images", "7/d.png", "11/a.jpg", "11/b.jpg", "0999/c.JPG")


def labels_of(root, **options) -> dict[str, int]:
    return {str(file.path.relative_to(root)): file.label for file in labeled_files(root, **options)}


def test_the_classes_are_a_thousand_identifiers_in_order():
    names = imagenet_classes()
    assert len(set(names)) == 1000 and list(names) == sorted(names)
    assert (names[0], names[207], names[999]) == ("n01440764", "n02099601", "n15075141")  # tench, golden retriever


def test_numbers_mean_themselves_and_sort_as_numbers(root, capsys):
    expected = {"7/d.png": 7, "11/a.jpg": 11, "11/b.jpg": 11, "0999/c.JPG": 999}
    found = labels_of(root, classes=1000)
    assert found == expected and list(found) == list(expected)
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match=r"images/0999: expected a class of 0\.\.998, as the classifier has"):
        labeled_files(root, classes=999)


def test_identifiers_mean_imagenets_classes_where_the_classifier_has_them(tmp_path, recwarn):
    root = make(tmp_path, "n01443537/a.jpg", "n01484850/b.jpg", "n15075141/c.jpg")
    imagenets = {"n01443537/a.jpg": 1, "n01484850/b.jpg": 2, "n15075141/c.jpg": 999}
    assert labels_of(root, classes=1000) == labels_of(root) == imagenets
    assert not recwarn
    assert list(labels_of(root, classes=10).values()) == [0, 1, 2]
    said = "classes by the position of their folders: 0 = n01443537, 1 = n01484850, 2 = n15075141"
    assert str(recwarn.pop().message) == f"{root}: {said}"


def test_other_names_are_read_by_position_which_is_said_once(tmp_path):
    root = make(tmp_path, *(f"{name}/a.png" for name in ("dog", "Ant", "cat", "eel")), "README.txt")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")  # as in a program of one's own
        for _ in range(2):
            assert labels_of(root, classes=10) == {"Ant/a.png": 0, "cat/a.png": 1, "dog/a.png": 2, "eel/a.png": 3}
    (warning,) = said
    by_position = "classes by the position of their folders: 0 = Ant, 1 = cat, 2 = dog, …"
    assert str(warning.message) == f"{root}: {by_position}"


@pytest.mark.parametrize("pair", [("7", "n01440764"), ("7", "cat"), ("cat", "n01440764"), ("n01440764", "n99999999")])
def test_names_of_two_kinds_are_an_error(tmp_path, pair):
    make(tmp_path, *(f"{name}/a.png" for name in pair))
    with pytest.raises(DataError, match="expected class folders named by numbers.*" + ".*beside.*"):
        labeled_files(tmp_path)


def test_hidden_files_and_folders_are_none(root):
    expected = labels_of(root)
    make(root, *(f"{name}/a.png" for name in (".ipynb_checkpoints", "__MACOSX", ".thumbnails", "@eaDir")))
    make(root / "7", ".DS_Store", "Thumbs.db", "thumbs.DB", "desktop.ini", "._10.png", ".ipynb_checkpoints/d.png")
    assert labels_of(root) == expected


def test_folders_in_class_folders_and_links_are_followed(root, tmp_path):
    make(tmp_path / "elsewhere", "x.png", "y.png")
    make(root / "7", "more/e.png")
    (root / "7" / "round").symlink_to(root / "7")
    (root / "12").symlink_to(tmp_path / "elsewhere")
    (root / "7" / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (root / "7" / "broken.png").symlink_to(tmp_path / "absent.png")
    found = [name for name, label in labels_of(root).items() if label in (7, 12)]
    assert found == ["7/broken.png", "7/d.png", "7/link.png", "7/more/e.png", "12/x.png", "12/y.png"]


# --- tables ---

PLAIN = "file,label,wnid\nimages/7/d.png,3,x\nimages/11/a.jpg,4,y\nother/e.jpg,5,z\n"
TABLES = {
    "plain": PLAIN.encode(),
    "as Excel saves UTF-8": b"\xef\xbb\xbf" + PLAIN.encode(),
    "as Excel saves in other countries": b"\xef\xbb\xbf" + PLAIN.replace(",", ";").replace("\n", "\r\n").encode(),
    "with Excel's own line": b"\xef\xbb\xbfsep=;\r\n" + PLAIN.replace(",", ";").encode(),
    "tabs and old line ends": PLAIN.replace(",", "\t").replace("\n", "\r").encode(),
    "blanks, blank rows and another case": b"File , Label,wnid\n\nimages/7/d.png, 3,x\nimages/11/a.jpg ,4 ,y\n,,\n \n",
    "quotes and other columns": b'"wnid","label","file"\n"x","3","images/7/d.png"\n"y","4","images/11/a.jpg"\n',
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_a_table_names_files_beside_it_and_others_are_passed_over(root, content):
    table = root.parent / "labels.csv"
    table.write_bytes(content)
    expected = [LabeledFile(root / "11/a.jpg", 4), LabeledFile(root / "7/d.png", 3)]
    assert labeled_files(root, table) == expected
    assert labeled_files(root / "7", table) == expected[1:]
    assert [file.label for file in labeled_files(table)][:2] == [4, 3]


def test_a_linked_file_lies_where_its_name_says(root):
    (root / "linked.png").symlink_to(make(root.parent / "elsewhere", "x.png") / "x.png")
    table = root.parent / "labels.csv"
    table.write_text("file,label\nimages/linked.png,3\n")
    assert labeled_files(root, table) == [LabeledFile(root / "linked.png", 3)]


COLUMNS = "expected columns file, label, received "


@pytest.mark.parametrize(
    "content, named",
    [
        (b"name,class\na,1\n", f"{COLUMNS}name, class"),
        (b"", f"{COLUMNS}none"),
        (b"file,label\nimages/7/d.png,cat\n", "line 2: expected a class's number, received 'cat'"),
        (b"file,label\nimages/7/d.png\n", "line 2: expected a class's number, received ''"),
        (b"file,label\nimages/7/d.png,\xc2\xb2\n", "line 2: expected a class's number, received '²'"),
        (b"file,label\nimages/7/d.png,10\n", r"line 2: expected a class of 0\.\.9, as the classifier has, received 10"),
        (b"file,label\nelsewhere/d.png,3\n", r"no images in .*images that .*labels\.csv names"),
        ("file,label\nimages/7/d.png,3\n".encode("utf-16"), r"labels\.csv: expected a CSV table in UTF-8.*UTF-16"),
        ("file,label\ncafé.png,3\n".encode("latin-1"), "expected a CSV table in UTF-8, received another.*line 2"),
        (b"PK\x03\x04\x14\0\x06\0", "expected a CSV table in UTF-8, received a spreadsheet"),
        (b"file,label\n\0\0,3\n", "expected a CSV table in UTF-8, received zero bytes"),
        (b'file,label\n"' + b"a" * 200_000 + b'",3\n', r"labels\.csv, line 2: field larger"),
    ],
)
def test_a_table_that_does_not_fit_is_named(root, content, named):
    table = root.parent / "labels.csv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=named):
        labeled_files(root, table, 10)


def test_missing_folders_and_tables_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no such folder of images: .*absent"):
        labeled_files(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no such table: .*absent\.csv"):
        labeled_files(tmp_path, tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no images in"):
        labeled_files(tmp_path)


# --- what a flag names ---


def test_what_a_flag_names_is_opened(root):
    assert open_images(root, 8, 3, labeled=True).image_shape == (8, 8, 3)
    embedded = open_images("embedded:test", 99, 3, classes=10, labeled=True)
    assert (len(embedded.labels), embedded.image_shape) == (2000, (28, 28, 1))


@pytest.mark.parametrize(
    "images, options, named",
    [
        ("embedded:all", {}, r"expected a folder, a table, embedded:train, .*received 'embedded:all'"),
        ("embedded:test", {"labels": "x.csv"}, "`labels` goes with a folder"),
        ("embedded:test", {"classes": 9}, r"expected classes of 0\.\.8, as the classifier has, received 9"),
        ("images/7", {"labeled": True}, "no labelled images in .*7: expected a folder a class"),
        ("table.csv", {"labels": "x.csv"}, "`labels` goes with a folder"),
    ],
)
def test_what_a_flag_cannot_name_is_an_error(root, images, options, named, monkeypatch):
    monkeypatch.chdir(root.parent)
    (root.parent / "table.csv").write_text("file,label\nimages/7/d.png,3\n")
    with pytest.raises(DataError, match=named):
        open_images(images, 8, 1, **options)

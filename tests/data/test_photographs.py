"""Photographs: the split of a folder, and random crops of its files."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from hgd_tf.data import CropShape, LabeledImages, load_photographs, opening, photographs
from hgd_tf.data.images import CropBox
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.data.photographs import VARIETIES, Variety, random_crops
from hgd_tf.data.splits import ClassSplit
from hgd_tf.errors import DataError

COUNT = 20
GREY, COLOUR = CropShape(6, 1), CropShape(6, 3)
SIDE = 240


def tone(number: int) -> int:
    """The one value of all of file `number`'s pixels."""
    return 12 * number


def write(path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_tones(folder, numbers=range(COUNT)) -> list[LabeledFile]:
    """Flat images, so that any part of one says which it is."""
    files = [LabeledFile(folder / f"{number:02}.png", number % 7) for number in numbers]
    for number, file in zip(numbers, files):
        write(file.path, np.full((9, 12), tone(number)))
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_tones(folder)
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return [LabeledFile(path, number % 7) for number, path in enumerate(sorted(folder.iterdir()))]


@pytest.fixture
def damaged(tmp_path):
    """Five files, the second and the fourth of which are no images."""
    files = write_tones(tmp_path, range(5))
    for number in (1, 3):
        files[number].path.write_text("these are words")
    return files


def taken(
    files,
    count: int,
    batch_size: int = 4,
    seed: int = 0,
    shape: CropShape = GREY,
    first_batch: int = 0,
    variety: Variety = VARIETIES["plain"],
):
    with contextlib.closing(random_crops(files, shape, batch_size, seed, first_batch, variety)) as batches:
        return list(itertools.islice(batches, count))


def tones(images: np.ndarray) -> list[int]:
    """The numbers of flat files by their crops."""
    assert np.all(images == images[:, :1, :1])
    return [int(value) // 12 for value in images[:, 0, 0, 0]]


def same(batches: list[LabeledImages], others: list[LabeledImages]) -> bool:
    return len(batches) == len(others) and all(
        np.array_equal(part, other) for batch, old in zip(batches, others) for part, other in zip(batch, old)
    )


# --- the split ---


def test_fifteen_percent_are_to_validate_on_and_all_others_to_train_on(folder):
    splits = load_photographs(folder, None, None, GREY)
    validation = tones(splits.validation.images)
    training = [int(file.path.stem) for file in splits.train_files]
    assert (len(validation), len(training)) == (3, 17)
    assert sorted(validation + training) == list(range(COUNT))
    assert training != sorted(training)
    assert splits.name == folder.name


def test_the_split_is_the_same_each_time(folder):
    first, second = (load_photographs(folder, None, None, GREY) for _ in range(2))
    assert first.train_files == second.train_files
    assert tones(first.validation.images) == tones(second.validation.images)


def test_no_more_than_a_bound_are_to_validate_on(folder, monkeypatch):
    assert photographs.MOST_VALIDATION == 1000
    monkeypatch.setattr(photographs, "MOST_VALIDATION", 2)
    splits = load_photographs(folder, None, None, GREY)
    assert (len(splits.validation.labels), len(splits.train_files)) == (2, 18)


@pytest.mark.parametrize("count, validation", [(4, 1), (10, 2), (17, 3)])
def test_the_share_is_rounded(tmp_path, count, validation):
    write_tones(tmp_path, range(count))
    splits = load_photographs(tmp_path, None, None, GREY)
    assert (len(splits.validation.labels), len(splits.train_files)) == (validation, count - validation)


def test_training_images_are_read_when_they_are_asked_for(folder):
    splits = load_photographs(folder, None, None, COLOUR)
    assert len(splits.train.labels) == 0
    expected = [int(file.path.stem) for file in splits.train_files]
    assert tones(splits.train_images(5).images) == expected[:5]
    assert tones(splits.train_images().images) == tones(splits.train_images(99).images) == expected
    assert splits.train_images(5).images.shape == (5, 6, 6, 3)
    assert splits.train_images(5).images.dtype == np.uint8


def test_classes_are_unknown_in_a_folder_of_files(folder):
    splits = load_photographs(folder, None, None, GREY)
    assert {file.label for file in splits.train_files} == set(splits.validation.labels) == {-1}
    assert splits.validation.labels.dtype == np.int64
    assert splits.test.images.shape == (0, 6, 6, 1)


def test_a_hidden_folder_is_no_class(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name in (".thumbnails", ".ipynb_checkpoints", "__MACOSX"):
        (copy / name).mkdir()
    splits, of_copy = (load_photographs(root, None, None, GREY) for root in (folder, copy))
    assert [file.path.name for file in of_copy.train_files] == [file.path.name for file in splits.train_files]


def test_classes_come_from_a_table_or_from_folders(folder, tmp_path):
    table = folder.parent / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{folder.name}/{n:02}.png,{n % 7}\n" for n in range(COUNT)))
    for number in range(COUNT):
        write(tmp_path / "photos" / str(number % 7) / f"{number}.png", np.full((5, 5), tone(number)))
    for root, labels in ((folder, table), (tmp_path / "photos", None)):
        splits = load_photographs(root, labels, None, GREY)
        assert [file.label for file in splits.train_files] == [int(file.path.stem) % 7 for file in splits.train_files]
        np.testing.assert_array_equal(splits.validation.labels, np.array(tones(splits.validation.images)) % 7)
        assert len(splits.train_files) == 17


def test_the_classes_are_those_of_all_parts(folder, tmp_path):
    """One file has class 9, to train on or to validate on; -1 is none."""
    write(tmp_path / "tests" / "11" / "a.png", np.full((5, 5), 1))
    table, trained_on = folder.parent / "nine.csv", []
    for nine in (4, 5):
        labels = [9 if number == nine else 2 for number in range(COUNT)]
        rows = [f"{folder.name}/{number:02}.png,{label}" for number, label in enumerate(labels)]
        table.write_text("\n".join(["file,label", *rows, ""]))
        splits = load_photographs(folder, table, None, GREY)
        assert splits.classes == 10
        trained_on.append(9 in {file.label for file in splits.train_files})
    assert sorted(trained_on) == [False, True]
    assert load_photographs(folder, None, tmp_path / "tests", GREY).classes == 12
    assert load_photographs(folder, None, None, GREY).classes == 0


def test_test_images_are_those_of_their_own_folder(folder, tmp_path):
    for number in (3, 8, 9):
        write(tmp_path / "later" / str(number) / "a.png", np.full((5, 5), tone(number)))
    splits = load_photographs(folder, None, tmp_path / "later", GREY)
    assert splits.name == "later"
    assert sorted(tones(splits.test.images)) == sorted(splits.test.labels) == [3, 8, 9]
    assert len(splits.train_files) + len(splits.validation.labels) == COUNT


@pytest.mark.parametrize(
    "root, labels, test_dir, message",
    [
        ("absent", None, None, r"no such folder of images: .*absent"),
        ("empty", None, None, r"no images in .*empty"),
        ("three", None, None, r"three: expected at least 4 images, received 3"),
        ("mixed", None, None, r"mixed: expected class folders named by numbers.*mixed/7 beside .*mixed/tabby"),
        ("four", "absent.csv", None, r"no such table: .*absent\.csv"),
        ("four", None, "absent", r"no such folder of images: .*absent"),
        ("four", None, "three", r"no labelled images in .*three: expected a folder a class"),
        ("cats", None, "dogs", r"dogs: expected a class folder tabby, as .*cats has"),
        ("table.csv", None, "four", r"no labelled images in .*four"),
        ("embedded:train", None, None, r"photographs are image files"),
        ("words", None, None, r"none of 1 files is an image, such as .*words/a\.jpg"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, root, labels, test_dir, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    for name in "abcd":
        (tmp_path / "words" / f"{name}.jpg").write_text("these are words")
    write_tones(tmp_path / "three", range(3))
    write_tones(tmp_path / "four", range(4))
    for folders in ("cats/tabby", "cats/tiger", "dogs/tiger", "mixed/tabby", "mixed/7"):
        write_tones(tmp_path / folders, range(4))
    (tmp_path / "table.csv").write_text(
        "file,label\n" + "".join(f"four/0{number}.png,{number}\n" for number in range(4))
    )
    labels, test_dir = (name and tmp_path / name for name in (labels, test_dir))
    message = message.replace(r"words/a\.jpg", r"words/[abcd]\.jpg")
    photographs = root if ":" in root else tmp_path / root
    with pytest.raises(DataError, match=message):
        load_photographs(photographs, labels, test_dir, GREY)


# --- by classes ---

SEEN, UNSEEN = np.array([6, 1, 3, 0, 5]), np.array([4, 2])
SPLIT = ClassSplit(SEEN, UNSEEN)


@pytest.fixture(scope="module")
def table(folder):
    """File n has class n % 7."""
    table = folder.parent / "sevens.csv"
    table.write_text("file,label\n" + "".join(f"{folder.name}/{n:02}.png,{n % 7}\n" for n in range(COUNT)))
    return table


def test_all_images_of_some_classes_are_trained_on_and_the_others_validate(folder, table, tmp_path):
    for number in range(7):
        write(tmp_path / "later" / str(number) / "a.png", np.full((5, 5), tone(number)))
    (tmp_path / "later.csv").write_text(
        table.read_text().replace(folder.name, str(folder))
        + "".join(f"{tmp_path}/later/{n}/a.png,{n}\n" for n in range(7))
    )
    splits = load_photographs(folder, tmp_path / "later.csv", tmp_path / "later", GREY, SPLIT)
    training, validation = [int(file.path.stem) for file in splits.train_files], tones(splits.validation.images)
    assert sorted(training) == [number for number in range(COUNT) if number % 7 in SEEN]
    assert sorted(validation) == [number for number in range(COUNT) if number % 7 in UNSEEN]
    assert training != sorted(training) and validation != sorted(validation)
    assert sorted(splits.test.labels) == sorted(tones(splits.test.images)) == [2, 4]
    assert splits.name == "later, unseen classes"
    again = load_photographs(folder, tmp_path / "later.csv", None, GREY, SPLIT)
    assert again.train_files == splits.train_files and again.name == f"{folder.name}, unseen classes"
    tested = load_photographs(None, None, tmp_path / "later", GREY, SPLIT)
    assert sorted(tested.test.labels) == [2, 4] and not tested.train_files


def test_no_more_than_a_bound_of_other_classes_validate(folder, table, monkeypatch):
    monkeypatch.setattr(photographs, "MOST_VALIDATION", 2)
    splits = load_photographs(folder, table, None, GREY, SPLIT)
    assert (len(splits.validation.labels), len(splits.train_files)) == (2, 14)


@pytest.mark.parametrize(
    "labeled, split, message",
    [
        (False, SPLIT, r"`class_split` needs the true classes: `labels`, or a folder a class"),
        (True, ClassSplit(SEEN, np.array([4])), r"there are images of class 2, of 6 classes"),
        (True, ClassSplit(np.append(SEEN, UNSEEN), np.array([7])), r"has no images of the 1 classes of a part"),
    ],
    ids=["unknown", "strays", "none"],
)
def test_classes_that_do_not_suit_the_split_are_errors(folder, table, labeled, split, message):
    with pytest.raises(DataError, match=message):
        load_photographs(folder, table if labeled else None, None, GREY, split)


# --- crops ---


def test_each_file_comes_once_a_pass_in_another_order(files):
    """60 crops in batches of 6: three passes of 20, whose ends lie inside batches."""
    numbers = [number for batch in taken(files, 10, 6) for number in tones(batch.images)]
    passes = [tuple(numbers[k : k + COUNT]) for k in range(0, 60, COUNT)]
    assert [sorted(one) for one in passes] == [list(range(COUNT))] * 3
    assert len(set(passes)) == 3


def test_labels_belong_to_their_images(files):
    for batch in taken(files, 5, 6):
        np.testing.assert_array_equal(batch.labels, np.array(tones(batch.images)) % 7)
        assert batch.images.shape == (6, 6, 6, 1)
        assert (batch.images.dtype, batch.labels.dtype) == (np.uint8, np.int64)


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """Two images whose red and green are the position of a pixel."""
    folder = tmp_path_factory.mktemp("ramps")
    y, x = np.mgrid[:SIDE, :SIDE]
    files = [LabeledFile(folder / f"{name}.png", 0) for name in "ab"]
    for blue, file in enumerate(files):
        write(file.path, np.stack([x, y, np.full_like(x, blue)], axis=-1))
    return files


@pytest.mark.parametrize("first_batch", [1, 3, 4])
@pytest.mark.parametrize("kind", ["ramps", "damaged"])
@pytest.mark.parametrize("variety", VARIETIES.values(), ids=VARIETIES)
def test_a_batch_depends_on_files_seed_and_number_alone(kind, first_batch, variety, request):
    files, options = request.getfixturevalue(kind), {"shape": COLOUR, "variety": variety}
    whole = taken(files, 6, seed=3, **options)
    assert same(taken(files, 6 - first_batch, seed=3, first_batch=first_batch, **options), whole[first_batch:])
    assert not same(taken(files, 6, seed=4, **options), whole)
    assert not same(whole[:1], whole[1:2])


def test_the_boxes_depend_on_the_seed(ramps):
    """Of a single file: there is no order to differ."""
    assert not same(*(taken(ramps[:1], 2, seed=seed, shape=COLOUR) for seed in (3, 4)))


def test_crops_have_the_promised_area_and_stretch_and_half_are_flipped(ramps):
    """Of a ramp resized to 6 pixels, the second and the fifth are half of the crop's side apart."""
    images = np.concatenate([batch.images for batch in taken(ramps, 10, 30, shape=COLOUR)]).astype(float)
    across, down = images[:, 2, 4, 0] - images[:, 2, 1, 0], images[:, 4, 2, 1] - images[:, 1, 2, 1]
    width, height = 2 * np.abs(across) / SIDE, 2 * down / SIDE
    tolerance = 0.03  # of rounded pixels and box edges
    assert np.all(down > 0)
    assert 115 < np.sum(across < 0) < 185  # of 300: 150 ± 4 standard deviations
    assert np.all((width * height > 0.35 - tolerance) & (width * height < 1 + tolerance))
    assert np.all((width / height > 0.75 - tolerance) & (width / height < 4 / 3 + tolerance))
    assert np.ptp(width * height) > 0.5 and np.ptp(width / height) > 0.4


def test_boxes_lie_in_the_image_within_the_bounds():
    rng = np.random.default_rng(0)
    x1, y1, x2, y2 = np.array([photographs._draw_box(rng, 0.35) for _ in range(3000)]).T
    assert min(x1.min(), y1.min()) >= 0 and max(x2.max(), y2.max()) <= 1
    width, height = x2 - x1, y2 - y1
    area, stretch = width * height, width / height
    assert 0.35 <= area.min() < 0.36 and 0.97 < area.max() <= 1
    assert 3 / 4 <= stretch.min() + 1e-9 < 0.77 and 1.31 < stretch.max() <= 4 / 3 + 1e-9
    assert np.mean(stretch > 1) == pytest.approx(0.5, abs=0.05)
    for start, side in ((x1, width), (y1, height)):
        wide = side < 0.9
        assert np.mean(start[wide] / (1 - side[wide])) == pytest.approx(0.5, abs=0.03)


def test_a_crop_is_the_drawn_box_resized(ramps, monkeypatch):
    monkeypatch.setattr(photographs, "_draw_box", lambda rng, smallest_area: CropBox(0.25, 0.5, 0.75, 1.0))
    images = np.concatenate([batch.images for batch in taken(ramps, 3, shape=COLOUR)]).astype(float)
    steps = np.arange(10, 120, 20)  # middles of six parts of 120 pixels
    flipped = images[:, 0, 0, 0] > images[:, 0, -1, 0]
    assert 0 < flipped.sum() < len(flipped)
    upright = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    # A pixel's middle is half a pixel after its start; the outer ones lack the neighbours beyond the crop.
    np.testing.assert_allclose(upright[:, 3, 1:-1, 0], np.broadcast_to(60 + steps[1:-1] - 0.5, (12, 4)), atol=1)
    np.testing.assert_allclose(upright[:, 1:-1, 3, 1], np.broadcast_to(120 + steps[1:-1] - 0.5, (12, 4)), atol=1)


def test_varied_crops_reach_a_smaller_area(ramps):
    smallest = {}
    for name, variety in VARIETIES.items():
        only_area = variety._replace(composed=0.0, jitter=0.0)
        images = np.concatenate([batch.images for batch in taken(ramps, 10, 30, shape=COLOUR, variety=only_area)])
        across, down = (np.ptp(images[..., channel].astype(float), axis=(1, 2)) for channel in (0, 1))
        smallest[name] = np.min(across * down) / (SIDE * 5 / 6) ** 2  # from the first to the last of six middles
    assert 0.15 < smallest["varied"] < 0.26 < 0.3 < smallest["plain"] < 0.4


def test_every_other_crop_holds_a_rectangle_of_another_of_up_to_half_its_area(files):
    """The files are flat, so that a crop has one tone or two."""
    shape = CropShape(40, 1)
    numbered = [LabeledFile(file.path, number) for number, file in enumerate(files)]
    batches = taken(numbered, 10, 40, shape=shape, variety=Variety(0.35, composed=0.5))
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches))
    composed = 0
    for image, label in zip(images[..., 0], labels):
        pasted = image != tone(label)
        rows, columns = np.any(pasted, axis=1), np.any(pasted, axis=0)
        assert len(np.unique(image)) <= 2
        assert pasted.sum() == rows.sum() * columns.sum() <= 0.52 * image.size  # a full rectangle, edges rounded
        composed += bool(pasted.any())
    # Of 400: 200 ± 4 standard deviations, less those of one file or of no pixel.
    assert 140 < composed < 240


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_light_is_jittered_within_the_bounds(tmp_path, shape):
    """Grey has neither contrast nor saturation to change: what is left is its brightness."""
    files = [LabeledFile(tmp_path / "grey.png", 0)]
    write(files[0].path, np.full((9, 12, 3), 120))
    batches = taken(files, 5, 40, shape=shape, variety=Variety(0.35, jitter=0.25))
    values = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(values, np.broadcast_to(values[:, :1, :1, :1], values.shape))
    values = values[:, 0, 0, 0].astype(int)
    assert 88 <= values.min() < 95 and 145 < values.max() <= 150
    assert abs(values.mean() - 120) < 5


def halves(left, right) -> np.ndarray:
    image = np.empty((20, 20, 3), np.uint8)
    image[:, :10], image[:, 10:] = left, right
    return image


def jittered(image: np.ndarray) -> np.ndarray:
    """The two tones of `halves` in 300 jittered copies: (copy, half, channel)."""
    rng = np.random.default_rng(0)
    return np.array([photographs._jittered(image, 0.25, rng)[0, (0, -1)] for _ in range(300)], float)


def test_contrast_is_jittered():
    """Of two greys, the difference over the sum is multiplied by the contrast's factor alone."""
    dark, bright = jittered(halves(40, 120))[..., 0].T
    factors = (bright - dark) / (bright + dark) / 0.5
    assert 0.72 < factors.min() < 0.8 and 1.2 < factors.max() < 1.3


def test_saturation_is_jittered():
    """Red over the halves' difference in brightness is multiplied by the saturation's factor alone."""
    dark, red = jittered(halves(20, (140, 60, 60))).transpose(1, 0, 2)
    brightness = (red - dark) @ [0.299, 0.587, 0.114]
    factors = (red[:, 0] - red[:, 1]) / brightness / (80 / 63.92)
    assert 0.72 < factors.min() < 0.8 and 1.2 < factors.max() < 1.3


def test_unreadable_files_are_named_once_and_passed_over(damaged, capsys):
    numbers = [number for batch in taken(damaged, 20, 5) for number in tones(batch.images)]
    assert set(numbers) == {0, 2, 4} and len(numbers) == 100
    assert min(numbers.count(number) for number in (0, 2, 4)) >= 20
    named = capsys.readouterr().out.splitlines()
    assert sorted(named) == [f"left out, no image: {damaged[number].path}" for number in (1, 3)]


def test_files_that_both_readers_meet_are_named_once(tmp_path, monkeypatch):
    files = [*write_tones(tmp_path, [1]), LabeledFile(tmp_path / "absent.png", 0)]
    named = []

    def slowly(text):
        time.sleep(0.02)
        named.append(text)

    monkeypatch.setattr(opening.tqdm, "write", slowly)
    assert tones(taken(files, 1, 12)[0].images) == [1] * 12
    assert named == [f"left out, no image: {files[1].path}"]


def test_no_readable_file_is_an_error(tmp_path):
    files = [LabeledFile(tmp_path / f"{name}.png", 0) for name in "abc"]
    with pytest.raises(DataError, match=r"none of the 3 images can be read; the last: .*\.png"):
        taken(files, 1)

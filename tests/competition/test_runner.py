"""Classifying a folder as the competition does; `CONTRACT` says which test holds what of its rules."""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.util
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from hgd_tf.competition import runner
from hgd_tf.competition.runner import Member, Outcome, RunnerError, classify_folder, load_members
from hgd_tf.data.images import decode_image

TESTS = Path(__file__).parents[1]
CLASSES = 10

# What the competition demands of a defence, and the test that holds it.
CONTRACT = {
    "metadata.json has its four fields, the entry point its run bit": "test_the_submission_has_what_the_toolkit_checks",
    "./run_defense.sh INPUT_DIR OUTPUT_FILE, working directory anywhere": "test_the_script_runs_from_anywhere",
    "299x299 RGB PNG": "test_images_of_every_kind_are_converted_and_classified",
    "any file name": "test_names_survive_whatever_they_hold",
    "the input is read-only": "test_the_file_alone_beside_exported_models_is_a_submission",
    "no network; TensorFlow and NumPy only": "test_it_imports_nothing_but_the_standard_library_numpy_and_tensorflow",
    "labels are 1..1000, the 0-based class + 1": "test_labels_are_classes_plus_one",
    "filename,label a line, no header": "test_every_image_file_has_a_row_and_nothing_else_has",
    "a missing image gets nothing, an unknown name crashes": "test_every_image_file_has_a_row_and_nothing_else_has",
    "a label that is no integer of the range is wrong": "test_broken_images_get_the_most_frequent_class",
    "the scorer drops .png and .jpg, the last row counts": "test_equal_names_are_warned_of",
    "10,000 bytes for 100 images": "test_an_output_beyond_the_competitions_limit_is_warned_of",
    "100 images in 500 s, start-up included": "test_a_hundred_images_as_the_competition_runs_it",
    "24 GiB of memory": "test_a_hundred_images_as_the_competition_runs_it",
    "all rows within the limit": "test_costly_members_are_left_out_where_time_would_not_suffice",
    "the container is stopped without an error": "test_a_killed_run_leaves_the_rows_that_it_had",
    "rows are on disk as soon as their batch is classified": "test_rows_are_on_disk_batch_by_batch",
    "a missing output scores nothing": "test_a_failing_member_is_left_out",
    "a non-zero exit makes it invalid": "test_the_file_alone_beside_exported_models_is_a_submission",
}


def test_every_clause_of_the_contract_has_its_test():
    files = ("competition/test_runner.py", "test_defend.py")
    trees = [ast.parse((TESTS / file).read_text(encoding="utf-8")) for file in files]
    tests = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(CONTRACT.values()) <= tests


class Fake:
    """A member that answers one class, after some seconds of a clock, and remembers what it was given."""

    def __init__(self, answer: int = 3, weight: int = 1, pace: float = 0.0, warm_up: float = 0.0, clock=None):
        self.answer, self.weight, self.pace, self.warm_up, self.clock = answer, weight, pace, warm_up, clock
        self.batches: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.clock:
            self.clock.now += self.pace * len(images) + (0 if self.batches else self.warm_up)
        self.batches.append(images)
        return np.eye(CLASSES, dtype=np.float32)[[self.answer] * len(images)]

    @property
    def count(self) -> int:
        return sum(map(len, self.batches))


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """The runner's clock, which the tests advance."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def write_images(folder: Path, *names: str, size: tuple[int, int] = (4, 3)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, (number, 100, 200)).save(folder / name, "PNG")
    return folder


def classify(folder: Path, *fakes, **options) -> Outcome:
    """Classifies `folder` into `out.csv` beside it; members are named m0, m1, …"""
    members = [Member(f"m{n}", fake, getattr(fake, "weight", 1)) for n, fake in enumerate(fakes)]
    options = {"time_limit": 500.0, "started": runner.time.monotonic(), "batch_size": 2, **options}
    return classify_folder(members, folder, folder.parent / "out.csv", **options)


def rows(folder: Path) -> list[tuple[str, int]]:
    with open(folder.parent / "out.csv", newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return [(name, int(label)) for name, label in csv.reader(lines)]


def tree(*folders: Path) -> dict[str, str]:
    """Every path below the folders with its checksum."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths}


# --- rows ---


def test_every_image_file_has_a_row_and_nothing_else_has(tmp_path):
    names = ["b.png", "a.PNG", ".hidden.png", "c.jpg", "d.JpEg", "e f.png"]
    folder = write_images(tmp_path / "in", *names, "notes.txt", "image.gif", "png")
    (folder / "folder.png").mkdir()
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    counts = []
    outcome = classify(folder, Fake(), on_batch=counts.append)
    assert rows(folder) == [(name, 4) for name in sorted(names)]
    assert (outcome.rows, outcome.unreadable, outcome.guessed) == (6, [], 0)
    assert sum(counts) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.csv"]


@pytest.mark.parametrize("index", [0, 5, 999])
def test_labels_are_classes_plus_one(tmp_path, index):
    folder = write_images(tmp_path / "in", "a.png")
    classify(folder, lambda images: np.eye(1000, dtype=np.float32)[[index] * len(images)])
    assert (tmp_path / "out.csv").read_bytes() == f"a.png,{index + 1}\n".encode()


def test_logits_are_averaged_every_target_with_the_same_weight(tmp_path):
    folder = write_images(tmp_path / "in", "a.png", "b.png", "c.png")
    assert classify(folder, Fake(1, weight=1), Fake(2, weight=3), Fake(3, weight=1)).rows == 3
    assert {label for _, label in rows(folder)} == {3}
    classify(folder, Fake(1, weight=2), Fake(2, weight=3), Fake(1, weight=2))
    assert {label for _, label in rows(folder)} == {2}


def test_names_survive_whatever_they_hold(tmp_path):
    names = [
        "a,b.png",
        'quo"te.png',
        "bär ✓.png",
        "line\nbreak.png",
        b"\xff\xfe.png".decode("utf-8", "surrogateescape"),
    ]
    folder = write_images(tmp_path / "in", *names)
    classify(folder, Fake())
    assert sorted(rows(folder)) == sorted((name, 4) for name in names)


def test_equal_names_are_warned_of(tmp_path, capsys):
    folder = write_images(tmp_path / "in", "a.png", "a.jpg", "b.png", "a.b.png", "A.png")
    classify(folder, Fake())
    assert len(rows(folder)) == 5
    assert capsys.readouterr().err.splitlines() == [
        "warning: a.jpg and a.png differ in their endings only: a scorer takes them for one image"
    ]


def test_an_output_beyond_the_competitions_limit_is_warned_of(tmp_path, capsys):
    names = [f"{number:03}{'x' * 150}.png" for number in range(70)]
    folder = write_images(tmp_path / "in", *names, size=(1, 1))
    classify(folder, Fake(), batch_size=50)
    assert "the output has 11200 bytes; the competition admits 10000 for 70 images" in capsys.readouterr().err
    classify(write_images(tmp_path / "few", *names[:60], size=(1, 1)), Fake(), batch_size=50)
    assert capsys.readouterr().err == ""


def test_what_cannot_be_done_is_an_error_and_leaves_the_output_alone(tmp_path):
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    for folder, message in (
        ("absent", "no such folder of images"),
        ("empty", r"no image files \(\.png, \.jpg, \.jpeg"),
    ):
        with pytest.raises(RunnerError, match=message):
            classify(tmp_path / folder, Fake())
    folder = write_images(tmp_path / "in", "a.png")
    with pytest.raises(RunnerError, match=r"no such folder: .*nowhere"):
        classify_folder([], folder, tmp_path / "nowhere/out.csv", time_limit=1.0, started=0.0, batch_size=1)
    assert (tmp_path / "out.csv").read_text() == "old"


# --- images ---


def write_kinds(folder: Path) -> Path:
    """PNG files of every kind of one picture, and of one pixel."""
    folder.mkdir()
    y, x = np.mgrid[:40, :50]
    picture = Image.fromarray(np.stack([5 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8))
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1"):
        picture.convert(mode).save(folder / f"{mode}.png")
    Image.fromarray((5 * x * 257).astype(np.uint16)).save(folder / "16-bit.png")
    picture.resize((1, 1)).save(folder / "pixel.png")
    picture.save(folder / "jpeg.png", "JPEG")
    interlaced = tf.io.encode_png(np.asarray(picture)).numpy()  # Pillow writes none; see `interlace`
    (folder / "interlaced.png").write_bytes(interlace(interlaced, np.asarray(picture)))
    return folder


def interlace(png: bytes, pixels: np.ndarray) -> bytes:
    """The PNG file with its pixels in Adam7's seven passes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = [line for y, x, down, right in passes for line in pixels[y::down, x::right]]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    content = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    return png[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_kind_are_converted_and_classified(tmp_path, capsys, channels):
    folder = write_kinds(tmp_path / "in")
    fake = Fake()
    outcome = classify(folder, fake, batch_size=1, channels=channels)
    assert (len(rows(folder)), outcome.unreadable, capsys.readouterr().err) == (10, [], "")
    for (name, _), images in zip(rows(folder), fake.batches):
        assert images.dtype == np.uint8
        expected = decode_image(folder / name, channels)[np.newaxis].astype(int)
        # libjpeg's and Pillow's grey of a colour JPEG are not the same.
        assert np.abs(images.astype(int) - expected).max() <= (16 if (name, channels) == ("jpeg.png", 1) else 1), name


def write_broken(folder: Path) -> Path:
    """Four whole images and three that are none, the first of all one of these; and a truncated one."""
    write_images(folder, *(f"{letter}.png" for letter in "bdef"), size=(60, 60))
    noise = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "truncated.png")
    content = (folder / "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(content[: len(content) // 2])
    (folder / "a.png").write_bytes(b"")
    (folder / "c.png").write_bytes(b"")
    (folder / "text.png").write_text("these are words")
    return folder


def test_broken_images_get_the_most_frequent_class(tmp_path, capsys, monkeypatch):
    folder = write_broken(tmp_path / "in")
    outcome = classify(folder, Fake(6))
    warnings = capsys.readouterr().err
    assert (outcome.rows, outcome.guessed, outcome.unreadable) == (8, 3, ["a.png", "c.png", "text.png"])
    assert dict(rows(folder)) == {path.name: 1 if path.name == "a.png" else 7 for path in folder.iterdir()}
    assert "warning: truncated.png is read by Pillow only, perhaps in part" in warnings
    for name in outcome.unreadable:
        assert f"warning: {name} is no image" in warnings
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert classify(folder, Fake(6)).unreadable == ["a.png", "c.png", "text.png", "truncated.png"]
    assert len(rows(folder)) == 8


def test_images_of_one_size_go_together_and_odd_ones_hold_nobody_up(tmp_path):
    folder = write_images(tmp_path / "in", *(f"{number:02}.png" for number in range(14)))
    write_images(folder, "04.png", "07.png", "12.png", size=(9, 9))
    fake = Fake()
    classify(folder, fake, batch_size=6)
    # Two single ones to warm up and to be timed, then parts of six.
    assert [len(batch) for batch in fake.batches] == [1, 1, 4, 2, 5, 1]
    assert [name[:2] for name, _ in rows(folder)] == [f"{n:02}" for n in (0, 1, 2, 3, 5, 6, 4, 7, 8, 9, 10, 11, 13, 12)]


def test_the_next_images_are_read_while_members_compute(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "in", *(f"{number}.png" for number in range(8)))
    read, seen = [], []
    original = runner._read
    monkeypatch.setattr(runner, "_read", lambda *arguments: read.append(arguments[-1]) or original(*arguments))

    def member(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        expected = min(sum(seen) + (1 if len(seen) == 1 else 2), 8)
        limit = time.monotonic() + 5
        while len(read) < expected and time.monotonic() < limit:
            time.sleep(0.01)
        assert len(read) == expected  # the part after this one, and none beyond
        return np.eye(CLASSES, dtype=np.float32)[[0] * len(images)]

    assert classify(folder, member).guessed == 0


# --- time ---


def write_hundred(folder: Path) -> Path:
    return write_images(folder, *(f"{number:03}.png" for number in range(100)), size=(1, 1))


def changes(warnings: str) -> list[str]:
    """Who was asked after each change."""
    return [line.rpartition("classified by ")[2] for line in warnings.splitlines() if "from now on" in line]


def test_costly_members_are_left_out_where_time_would_not_suffice(tmp_path, capsys, clock):
    folder = write_hundred(tmp_path / "in")
    costly, cheap, middle = Fake(1, pace=20, clock=clock), Fake(2, pace=1, clock=clock), Fake(3, pace=2, clock=clock)
    outcome = classify(folder, costly, cheap, middle, batch_size=10)
    assert changes(capsys.readouterr().err) == ["m1, m2"]
    assert (costly.count, cheap.count, middle.count) == (2, 100, 100)
    assert (outcome.rows, outcome.guessed) == (100, 0)
    assert outcome.seconds == clock.now <= 485


def test_who_was_left_out_comes_back_where_time_suffices_amply(tmp_path, capsys, clock):
    costly, cheap = Fake(1, pace=10, clock=clock), Fake(2, pace=1, clock=clock)
    assert classify(write_hundred(tmp_path / "in"), costly, cheap, batch_size=10).guessed == 0
    assert changes(capsys.readouterr().err) == ["m1", "m1, m0"]
    assert (costly.count, cheap.count) == (2 + 8, 100)
    assert clock.now <= 485


def test_a_warm_up_does_not_count(tmp_path, capsys, clock):
    one, other = Fake(pace=0.5, warm_up=100, clock=clock), Fake(pace=1, warm_up=100, clock=clock)
    classify(write_hundred(tmp_path / "in"), one, other, batch_size=10)
    assert (one.count, other.count, capsys.readouterr().err) == (100, 100, "")


def test_a_machine_that_becomes_slower_is_noticed(tmp_path, capsys, clock):
    cheap, costly = Fake(pace=0.5, clock=clock), Fake(pace=2, clock=clock)

    def slow_down(_) -> None:
        if cheap.count == 42:
            cheap.pace, costly.pace = 2.5, 10

    outcome = classify(write_hundred(tmp_path / "in"), cheap, costly, batch_size=10, on_batch=slow_down)
    assert (outcome.guessed, cheap.count) == (0, 100)
    assert changes(capsys.readouterr().err)[0] == "m0"
    assert 42 < costly.count < 100
    assert clock.now <= 485


def test_where_even_the_cheapest_is_too_slow_the_rest_is_guessed_in_time(tmp_path, capsys, clock):
    folder = write_hundred(tmp_path / "in")
    fake = Fake(7, pace=10, clock=clock)
    outcome = classify(folder, fake, batch_size=10)
    assert rows(folder) == [(f"{number:03}.png", 8) for number in range(100)]
    assert (fake.count, outcome.guessed) == (42, 58)
    assert changes(capsys.readouterr().err) == ["nobody: they get the most frequent class"]
    assert clock.now <= 485


def test_what_the_start_up_took_counts(tmp_path, capsys, clock):
    folder = write_hundred(tmp_path / "in")
    clock.now = 600.0
    fake = Fake(clock=clock)
    assert classify(folder, fake, started=100.0).guessed == 100
    assert fake.count == 0
    assert rows(folder) == [(f"{number:03}.png", 1) for number in range(100)]
    assert "the last 100 images get the most frequent class" in capsys.readouterr().err


def test_once_the_time_is_over_no_member_is_asked(tmp_path, clock):
    """Not even within a batch; the answers that are there count."""
    folder = write_images(tmp_path / "in", "a.png")
    first, second = Fake(4, pace=490, clock=clock), Fake(5, weight=9, clock=clock)
    assert classify(folder, first, second).guessed == 0
    assert (first.count, second.count, rows(folder)) == (1, 0, [("a.png", 5)])


# --- failures ---


def failing_at(call: int, error: Exception) -> Fake:
    class Failing(Fake):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            logits = super().__call__(images)
            if len(self.batches) == call:
                raise error
            return logits

    return Failing(1, weight=5)


@pytest.mark.parametrize("call", [1, 3])
def test_a_failing_member_is_left_out(tmp_path, capsys, call):
    folder = write_images(tmp_path / "in", *(f"{number}.png" for number in range(6)))
    failing = failing_at(call, tf.errors.ResourceExhaustedError(None, None, "out of memory"))
    assert classify(folder, failing, Fake(2)).guessed == 0
    assert len(failing.batches) == call
    assert [label for _, label in rows(folder)] == [2] * (call - 1) + [3] * (7 - call)
    assert capsys.readouterr().err.splitlines() == [
        "warning: m0 failed and is left out from now on: ResourceExhaustedError: out of memory"
    ]


def test_where_all_members_fail_the_rest_is_guessed(tmp_path, capsys):
    folder = write_images(tmp_path / "in", *(f"{number}.png" for number in range(6)))
    outcome = classify(folder, failing_at(2, MemoryError()), failing_at(1, ValueError("bad")))
    assert (outcome.rows, outcome.guessed) == (6, 5)
    assert [label for _, label in rows(folder)] == [2] * 6
    assert "the last 4 images get the most frequent class" in capsys.readouterr().err


def test_logits_that_are_not_finite_are_a_failure(tmp_path, capsys):
    folder = write_images(tmp_path / "in", "a.png")
    classify(folder, lambda images: np.full((len(images), CLASSES), np.nan), Fake(2))
    assert rows(folder) == [("a.png", 3)]
    assert "m0 failed and is left out from now on: ValueError: its logits are not finite" in capsys.readouterr().err


def test_rows_are_on_disk_batch_by_batch(tmp_path):
    folder = write_images(tmp_path / "in", *(f"{number}.png" for number in range(9)))
    output = tmp_path / "out.csv"
    output.write_text("old content\n")
    found = []

    def member(images: np.ndarray) -> np.ndarray:
        found.append(output.read_text())
        return np.eye(CLASSES)[[0] * len(images)]

    classify(folder, member, batch_size=3)
    whole = output.read_text()
    assert found == ["old content\n", *("".join(whole.splitlines(True)[:count]) for count in (1, 2, 5, 8))]


def test_a_killed_run_leaves_the_rows_that_it_had(tmp_path):
    folder = write_images(tmp_path / "in", *(f"{number}.png" for number in range(9)))
    program = f"""if True:
        import sys, time
        import numpy as np
        sys.path.insert(0, {str(Path(runner.__file__).parent)!r})
        import runner
        calls = []
        def member(images):
            calls.append(images)
            time.sleep(600 if len(calls) > 3 else 0)
            return np.eye(10)[[8] * len(images)]
        members = [runner.Member("slow", member, 1)]
        options = dict(time_limit=500, started=time.monotonic(), batch_size=3)
        runner.classify_folder(members, "in", "out.csv", **options)
    """
    process = subprocess.Popen([sys.executable, "-B", "-c", program], cwd=tmp_path)
    output, limit = tmp_path / "out.csv", time.monotonic() + 100
    while time.monotonic() < limit and not (output.exists() and output.read_text().count("\n") == 5):
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert rows(folder) == [(f"{number}.png", 9) for number in range(5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.csv"]


# --- exported models, and the command ---


class Exported(tf.Module):
    """Logits that favour one class."""

    def __init__(self, answer: int, strength: float):
        super().__init__()
        self.kernel = tf.Variable(strength * tf.one_hot(answer, CLASSES))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")])
    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.kernel * tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])[:, tf.newaxis]
        return {"logits": logits, "probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=-1)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of two exported models, the costly one first, and the runner."""
    folder = tmp_path_factory.mktemp("models")
    entries = []
    for name, answer, strength, weight, seconds in (("A->X", 4, 1.0, 1, 2.0), ("B->Y", 6, 0.5, 3, 0.5)):
        model, path = Exported(answer, strength), name.replace("->", "_") + "/1"
        tf.saved_model.save(model, str(folder / path), signatures={"serving_default": model.serve})
        entries.append({"name": name, "path": path, "weight": weight, "seconds": seconds})
    (folder / "members.json").write_text(json.dumps(entries))
    shutil.copy(runner.__file__, folder)
    return folder


def test_exported_models_are_loaded_the_cheapest_first(models, tmp_path):
    members = load_members(models)
    assert [(member.name, member.weight) for member in members] == [("B->Y", 3), ("A->X", 1)]
    images = np.full((2, 5, 7, 3), 10, np.uint8)
    np.testing.assert_allclose(members[0].logits(images), 5 * np.eye(CLASSES, dtype=np.float32)[[6, 6]])
    classify_folder(
        members, write_images(tmp_path / "in", "a.png"), tmp_path / "out.csv",
        time_limit=500.0, started=time.monotonic(), batch_size=10,
    )  # fmt: skip
    assert rows(tmp_path / "in") == [("a.png", 7)]


def test_missing_models_are_errors_that_name_every_one(models, tmp_path):
    with pytest.raises(RunnerError, match=r"members\.json is missing or no list of models: FileNotFoundError"):
        load_members(tmp_path)
    table = tmp_path / "members.json"
    for content in ("words", "{}", "[]", '[{"name": "A"}]', "[5]"):
        table.write_text(content)
        with pytest.raises(RunnerError, match=r"members\.json is missing or no list of models|0 of 0 models"):
            load_members(tmp_path)
    shutil.copytree(models / "A_X", tmp_path / "A_X")
    shutil.copy(models / "members.json", table)
    (tmp_path / "A_X/1/saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(RunnerError, match=r"2 of 2 models cannot be loaded\. B->Y: .*B_Y/1.*; A->X: .*A_X/1"):
        load_members(tmp_path)


def test_the_file_alone_beside_exported_models_is_a_submission(models, tmp_path):
    folder = write_images(tmp_path / "in", "a.png", "b.png", "c.png")
    for path in (folder, models):
        path.chmod(0o555)
    before = tree(folder, models)
    command = [sys.executable, "-I", models / "runner.py", "in", "out.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 images, 0 of them guessed, in ")
    assert tree(folder, models) == before
    assert rows(folder) == [("a.png", 7), ("b.png", 7), ("c.png", 7)]
    for path in (folder, models):
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: input_dir, output_file"),
        (["in"], "the following arguments are required: output_file"),
        (["in", "out.csv", "--time_limit=soon"], "argument --time_limit: invalid float value: 'soon'"),
        (["in", "out.csv", "--batch_size=0"], "expected --batch_size of at least 1, received 0"),
        (["in", "out.csv", "--models=absent"], "absent/members.json is missing or no list of models"),
        (["absent", "out.csv"], "no such folder of images: absent"),
        (["models", "out.csv"], "no image files (.png, .jpg, .jpeg) in models"),
        (["in", "models"], "Is a directory"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(models, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    write_images(tmp_path / "in", "a.png")
    shutil.copytree(models, tmp_path / "models")
    arguments = arguments if "--models=absent" in arguments else [*arguments, "--models=models"]
    try:
        status = runner.main(arguments)
    except SystemExit as end:
        status = end.code
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "out.csv").exists()


def test_it_imports_nothing_but_the_standard_library_numpy_and_tensorflow():
    """Pillow, and only where it is installed, salvages damaged images."""
    nodes = list(ast.walk(ast.parse(Path(runner.__file__).read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    installed = {name for name in names if "site-packages" in str(importlib.util.find_spec(name).origin)}
    assert installed == {"numpy", "tensorflow", "PIL"}

"""A tournament of small programs, most of which misbehave."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from heed_sigint import HEED_SIGINT
from PIL import Image

from hgd_tf.competition.outputs import clip_to_ball, collect_labels
from hgd_tf.competition.runner import admitted_bytes
from hgd_tf.errors import DataError, RunError
from hgd_tf.tournaments.page import render
from hgd_tf.tournaments.reports import Report, make_report, write_organizers_files, write_scores
from hgd_tf.tournaments.tournament import TournamentConfig, play

IMAGES = 6
NAMES = [f"img{number}.png" for number in range(IMAGES)]
COPY = 'cp "$1"/*.png "$2"\n'
ANSWER = 'cat answers.csv > "$2"\n'
RIGHT = "".join(f"{name},{1 + number}\n" for number, name in enumerate(NAMES))
AIMED = "".join(f"{name},{101 + number}\n" for number, name in enumerate(NAMES))
LIMIT = 60  # seconds that a process may take on a busy machine
HOSTILE = str(Path(__file__).parent / "hostile")


class World:
    """A folder with images, their table, attacks and defences; every program's runs are counted."""

    def __init__(self, root: Path):
        self.root, self.images, self.table, self.calls = root, root / "images", root / "table.csv", root / "calls.txt"
        self.images.mkdir()
        rng = np.random.default_rng(0)
        rows = ["ImageId,TrueLabel,TargetClass"]
        for number, name in enumerate(NAMES):
            Image.fromarray(rng.integers(256, size=(8, 9, 3), dtype=np.uint8)).save(self.images / name)
            rows.append(f"img{number},{1 + number},{101 + number}")
        self.table.write_text("\n".join([*rows, "absent,1,2"]) + "\n")

    def entry(self, kind: str, name: str, script: str, files: Optional[dict[str, str]] = None) -> Path:
        folder = self.root / ("defenses" if kind == "defense" else "attacks") / name
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {"type": kind, "container": "c", "container_gpu": "g", "entry_point": "run.sh"}
        (folder / "metadata.json").write_text(json.dumps(metadata))
        (folder / "run.sh").write_text(f"#!/bin/sh\necho '{name}' >> '{self.calls}'\n{script}")
        (folder / "run.sh").chmod(0o755)
        for file, content in (files or {}).items():
            (folder / file).write_text(content)
        return folder

    def attack(self, name: str, script: str = COPY, kind: str = "attack") -> Path:
        return self.entry(kind, name, script)

    def defense(self, name: str, answers: str = RIGHT, script: str = ANSWER) -> Path:
        return self.entry("defense", name, script, {"answers.csv": answers})

    def config(self, **others: Any) -> TournamentConfig:
        config = TournamentConfig(
            [str(self.root / "attacks")], [str(self.root / "defenses")], str(self.images), str(self.table),
            str(self.root / "out"), time_limit=LIMIT,
        )  # fmt: skip
        return config._replace(**others)

    def play(self, **others: Any) -> Report:
        config = self.config(**others)
        report = make_report(config, play(config))
        write_organizers_files(report, Path(config.output_dir), all_classification=True)
        write_scores(report, Path(config.output_dir))
        return report

    def command(self, *others: str) -> list[str]:
        folders = {
            "attacks_dir": self.root / "attacks",
            "defenses_dir": self.root / "defenses",
            "images": self.images,
        }
        flags = [f"--{name}={folder}" for name, folder in folders.items()]
        flags += [f"--table={self.table}", f"--output_dir={self.root / 'out'}"]
        return [sys.executable, "-m", "hgd_tf.tournament", *flags, *others]

    def count(self) -> Counter[str]:
        return Counter(self.calls.read_text().splitlines() if self.calls.exists() else [])

    def rows(self, name: str) -> list[list[str]]:
        with open(self.root / "out" / name, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def problems(report: Report, title: str = "") -> list[str]:
    return [problem.text for problem in report.problems if problem.title.startswith(title)]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def save_white(folder: Path, size: tuple[int, int] = (9, 8)) -> None:
    for name in NAMES:
        Image.fromarray(np.full((size[1], size[0], 3), 255, np.uint8)).save(folder / name)


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- scores and files ---


def test_the_organizers_files_hold_their_counts(world):
    world.attack("plain")
    world.attack("aimed", COPY + f'cp "$1/target_class.csv" "{world.root}"\n', "targeted_attack")
    world.defense("right")
    world.defense("fooled", "".join(RIGHT.splitlines(True)[:2] + AIMED.splitlines(True)[2:5]) + "img5.png,7\n")
    report = world.play()
    assert (world.root / "target_class.csv").read_text() == AIMED
    assert world.rows("accuracy_on_attacks.csv") == [["", "fooled", "right"], ["plain", "2", "6"]]
    assert world.rows("accuracy_on_targeted_attacks.csv") == [["", "fooled", "right"], ["aimed", "2", "6"]]
    assert world.rows("hit_target_class.csv") == [["", "fooled", "right"], ["aimed", "3", "0"]]
    assert world.rows("defense_ranking.csv") == [["DefenseName", "Score"], ["right", "12"], ["fooled", "4"]]
    assert world.rows("attack_ranking.csv") == [["AttackName", "Score"], ["plain", "4"]]
    assert world.rows("targeted_attack_ranking.csv") == [["AttackName", "Score"], ["aimed", "3"]]
    labels = world.rows("all_classification.csv")
    assert len(labels) == 1 + 2 * 2 * IMAGES
    assert ["aimed", "True", "fooled", "img3", "104", "4", "104"] in labels
    scores = json.loads((world.root / "out" / "scores.json").read_text())
    assert [row["normalized"] for row in scores["defenses"]] == [1.0, pytest.approx(1 / 3)]
    assert scores["hit_target_class"]["aimed"] == {"fooled": 0.5, "right": 0.0}
    assert all(row["median_seconds_for_100_images"] > 0 for row in scores["attacks"] + scores["defenses"])
    assert report.problems == []


def test_entries_of_several_folders_play_by_name(world):
    world.attack("b")
    world.attack("a").rename(world.root / "mine")
    (world.root / "others").mkdir()
    (world.root / "mine").rename(world.root / "others" / "a")
    world.defense("right")
    folders = [str(world.root / name) for name in ("attacks", "others")]
    assert [score.name for score in world.play(attacks_dir=folders).attacks] == ["a", "b"]
    world.attack("a")
    with pytest.raises(DataError, match=r"expected entries of different names, received .*attacks/a and .*others/a"):
        play(world.config(attacks_dir=folders))


def test_batches_are_of_the_size_asked_for(world):
    world.attack("plain", COPY + f'ls "$1" | wc -l >> "{world.root}/sizes"; echo "$3" >> "{world.root}/epsilons"\n')
    world.defense("right", script='for file in "$1"/*; do grep "$(basename "$file")" answers.csv; done > "$2"\n')
    report = world.play(batch_size=4, epsilon=(12,))
    assert [int(size) for size in (world.root / "sizes").read_text().split()] == [4, 2]
    assert (world.root / "epsilons").read_text().split() == ["12", "12"]
    assert world.count() == {"plain": 2, "right": 2}
    assert [score.score for score in report.defenses] == [6]


def test_each_batch_has_one_of_several_radii_the_same_for_all_attacks(world):
    for name in ("one", "other"):
        world.attack(name, COPY + f'echo "$3" >> "{world.root}/{name}"\n')
    world.defense("right")
    report = world.play(batch_size=1, epsilon=(4, 8, 12))
    one, other = ((world.root / name).read_text().split() for name in ("one", "other"))
    assert one == other and len(one) == 6
    assert sorted(one[:3]) == sorted(one[3:]) == sorted(["4", "8", "12"]), "all of them before one comes again"
    assert "ε = 4, 8, 12 of 255, one drawn for each batch" in render(report)


def test_several_at_a_time_give_the_same_files(world):
    for name in ("one", "two", "three"):
        world.attack(name)
        world.defense(f"against {name}", RIGHT[: 11 * (1 + len(name))])
    world.play(jobs=1)
    names = ["accuracy_on_attacks.csv", "defense_ranking.csv", "attack_ranking.csv", "all_classification.csv"]
    alone = {name: world.rows(name) for name in names}
    world.play(jobs=2, rerun="all")
    assert {name: world.rows(name) for name in names} == alone
    assert set(world.count().values()) == {2, 6}


def test_clipping_is_exact():
    original = np.array([[[0, 10, 250], [255, 128, 16]]], np.uint8)
    white, black = np.full_like(original, 255), np.zeros_like(original)
    assert clip_to_ball(white, original, 16).tolist() == [[[16, 26, 255], [255, 144, 32]]]
    assert clip_to_ball(black, original, 16).tolist() == [[[0, 0, 234], [239, 112, 0]]]
    assert clip_to_ball(original, original, 1).tolist() == original.tolist()


@pytest.mark.parametrize("size", [(9, 8), (5, 5)])
def test_what_an_attack_writes_is_clipped_and_resized_as_the_organizers_do_it(world, size):
    save_white(world.attack("white", 'cp *.png "$2"; cp run.sh "$2/other.png"\n'), size)
    world.defense("right")
    report = world.play(epsilon=(8,))
    (folder,) = (world.root / "out" / "results" / "attacks" / "white").iterdir()
    assert sorted(path.name for path in (folder / "images").iterdir()) == NAMES
    for name in NAMES:
        clean = pixels(world.images / name)
        np.testing.assert_array_equal(pixels(folder / "images" / name), np.minimum(clean + 8, 255))
    resized = ["6 of 6 images were resized: img0.png (5×5 instead of 9×8), img1.png (5×5 instead of 9×8), "
               "img2.png (5×5 instead of 9×8), …"]  # fmt: skip
    assert problems(report) == ([] if size == (9, 8) else resized)


def test_defenses_are_scored_by_the_finals_rule_on_complete_attacks_only(world):
    world.attack("plain")
    world.attack("lazy", 'cp "$1"/img[0-2].png "$2"; echo none > "$2/img3.png"; ln -s "$1/img4.png" "$2/img4.png"\n')
    world.defense("half", RIGHT[: 3 * 11])
    report = world.play()
    assert problems(report, "attack lazy") == [
        "2 of 6 images were not written: img4.png, img5.png",
        "1 of 6 images are no images: img3.png",
    ]
    assert world.rows("accuracy_on_attacks.csv")[1:] == [["lazy", "3"], ["plain", "3"]]
    (half,) = report.defenses
    assert (half.score, half.normalized, half.worst_attack) == (6, 0.5, "plain")
    assert {score.name: score.normalized for score in report.attacks} == {"plain": 0.5, "lazy": None}
    assert "incomplete: 3 of 6 images" in render(report)


# --- entries that misbehave ---


def test_what_hangs_is_killed_with_its_children_and_its_rows_count(world):
    world.attack("plain")
    pids = world.root / "pids"
    hang = f'head -n 2 answers.csv > "$2"\nsleep 600 & echo "$$ $!" > "{pids}"\nsleep 600\n'
    world.defense("hangs", script=hang)
    world.defense("leaves children", script=ANSWER + f'sleep 600 & echo $! > "{pids}.2"\n')
    start = time.monotonic()
    report = world.play(time_limit=1.5)
    assert time.monotonic() - start < 30
    killed = [int(process) for process in (pids.read_text() + (world.root / "pids.2").read_text()).split()]
    assert len(killed) == 3
    wait_for(lambda: not any(map(is_alive, killed)))
    assert {score.name: score.score for score in report.defenses} == {"hangs": 2, "leaves children": 6}
    assert problems(report) == [
        "killed at the time limit of 1.5 s",
        "4 of 6 images are without a label: img2, img3, img4, …",
    ]


def test_the_hostile_entries_stop_nobody(world):
    world.attack("plain")
    world.defense("right")
    report = world.play(
        attacks_dir=[str(world.root / "attacks"), HOSTILE],
        defenses_dir=[str(world.root / "defenses"), HOSTILE],
        time_limit=2.0,
    )
    assert {score.name: score.score for score in report.defenses} == {"right": 7, "writes_garbage": 0}
    assert {score.name: score.written for score in report.attacks} == {"plain": 6, "hangs": 1}
    assert {score.name: score.normalized for score in report.attacks} == {"plain": 0.5, "hangs": None}
    hanging, garbage = problems(report, "attack hangs"), problems(report, "defense writes_garbage")
    assert hanging[0] == "killed at the time limit of 2 s" and hanging[1].startswith("5 of 6 images were not written")
    assert any("changed its input" in problem for problem in garbage)
    assert any("labels are of no image here: nobody" in problem for problem in garbage)


def test_what_crashes_or_writes_nothing_or_too_much_stops_nobody(world, capsys):
    world.attack("plain")
    world.attack("crashes", 'cp "$1/img0.png" "$2"; exit 3\n')
    world.attack("dies", 'rm -rf "$1" "$2" "$2/.."; kill -9 $$\n')
    world.defense("large", RIGHT + "#" * 10_000)
    world.defense("silent", script="echo why >&2\n")
    world.defense("folder", script='mkdir "$2"\n')
    world.defense("right")
    (world.defense("no program") / "run.sh").write_text("#!/absent\n")
    report = world.play()
    assert problems(report, "attack crashes") == [
        "exited with status 3", "5 of 6 images were not written: img1.png, img2.png, img3.png, …",
    ]  # fmt: skip
    assert problems(report, "attack dies")[0] == "killed by signal 9"
    assert problems(report, "defense large on attack plain") == [
        "output refused: 10066 bytes, admitted are 10000 for 6 images"
    ]
    for name in ("silent", "folder"):
        assert problems(report, f"defense {name} on attack plain") == ["there is no output file"]
    assert problems(report, "defense no program on attack plain")[0] == "cannot be started, see its log"
    assert {score.name: score.score for score in report.defenses} == {
        "right": 7, "large": 0, "silent": 0, "folder": 0, "no program": 0,
    }  # fmt: skip
    (log,) = {problem.log for problem in report.problems if problem.title == "defense silent on attack plain, batch 1"}
    assert (world.root / "out" / log).read_text() == "why\n"
    shown = capsys.readouterr()
    assert "warning: attack crashes, batch 1: exited with status 3" in shown.err
    assert "why" not in shown.err + shown.out


def test_rows_count_as_the_organizers_count_them(tmp_path):
    output = tmp_path / "labels.csv"
    output.write_bytes(
        b"filename,label\nimg0.png,5\nimg0,1\nimg1.jpg, 2 ,more\n\nimg2.png\nimg3.png,four\nimg4.png,1001\n"
        b"img5.png,-1\nimg5.png,6.0\n\xff\0.png,3\nother.png,4"
    )
    labels = collect_labels(NAMES, output)
    assert labels.by_image == {"img0": 1, "img1": 2}
    assert labels.problems == [
        "2 of 6 images are without a label: img2, img3",
        "2 of 6 images have a label outside 1..1000: img4 (1001), img5 (-1)",
        "2 labels are of no image here: other, \ufffd\ufffd",
    ]
    assert [admitted_bytes(images) for images in (1, 100, 101, 250)] == [10_000, 10_000, 20_000, 30_000]


def test_a_changed_input_harms_nobody(world):
    world.attack("plain", COPY + 'echo changed > "$1/img0.png"\n')
    world.defense("a vandal", script=ANSWER + 'for file in "$1"/*; do echo changed > "$file"; done\n')
    world.defense(
        "right", script='grep -L changed "$1"/* | while read f; do grep "${f##*/}" answers.csv; done > "$2"\n'
    )
    report = world.play()
    assert {score.name: score.score for score in report.defenses} == {"a vandal": 6, "right": 6}
    assert set(problems(report)) == {"it changed its input, which is read-only in the competition"}
    assert len(report.problems) == 2


def test_what_is_changed_elsewhere_is_reported_and_not_scored(world):
    right = world.defense("right")
    world.attack("a vandal", COPY + f'echo more >> "{right}/answers.csv"; touch notes\n')
    world.attack("plain")
    results = world.root / "out" / "results"
    touch_log = f'for log in "{results}"/attacks/plain/*/log.txt; do echo >> "$log"; done'
    world.attack("z vandal", f'{COPY}rm "{world.images}/img0.png"; {touch_log}\n')
    report = world.play()
    (answers, notes) = problems(report, "attack a vandal")
    assert answers == f"while it ran, {right}/answers.csv was changed"
    assert notes == f"while it ran, {world.root}/attacks/a vandal/notes was added"
    (log, image) = problems(report, "attack z vandal")
    assert re.fullmatch(r"while it ran, .*/results/attacks/plain/1-\w+/log\.txt was changed", log)
    assert image == f"while it ran, {world.images}/img0.png was removed"
    assert problems(report, "defense right on attack plain") == [
        f"not run: {right} is not as it was when the tournament read it"
    ]
    assert world.count()["right"] == 0


def test_what_ran_too_is_named_where_it_may_have_been_it(world):
    world.attack("waits", COPY + f'while [ ! -e "{world.root}/done" ]; do sleep 0.05; done\n')
    world.attack("writes", COPY + f'echo >> "{world.table}"; sleep 0.2\n')
    world.defense("right", script=ANSWER + f'touch "{world.root}/done"\n')
    world.entry("attack", "z frees", COPY + f'touch "{world.root}/done"\n')
    report = world.play(jobs=2)
    assert problems(report, "attack writes") == [
        f"while it ran, {world.table} was changed; attack waits, batch 1 ran too"
    ]


# --- resuming ---


def test_only_what_is_missing_or_changed_is_run_again(world):
    world.attack("plain")
    world.attack("crashes", COPY + "exit 1\n")
    world.defense("right")
    first = world.play()
    before = {"plain": 1, "crashes": 1, "right": 2}
    assert world.count() == before
    again = world.play()
    assert world.count() == before
    assert (again.defenses, again.problems) == (first.defenses, first.problems)
    world.defense("new", RIGHT[:11])
    assert [(score.name, score.score) for score in world.play().defenses] == [("right", 12), ("new", 2)]
    assert world.count() == {**before, "new": 2}
    world.defense("right", RIGHT[:22])
    assert [(score.name, score.score) for score in world.play().defenses] == [("right", 4), ("new", 2)]
    assert world.count() == {"plain": 1, "crashes": 1, "right": 4, "new": 2}
    world.play(rerun="failed")
    assert world.count() == {"plain": 1, "crashes": 2, "right": 4, "new": 2}
    world.play(epsilon=(4,), attacks=["plain"], defenses=["new"])
    assert world.count() == {"plain": 2, "crashes": 2, "right": 4, "new": 2}, "the copies are the same at any epsilon"


@pytest.mark.parametrize("damage", ["cut", "labels", "image"])
def test_a_damaged_result_is_made_again(world, damage):
    world.attack("plain")
    world.defense("right")
    world.play()
    result = next((world.root / "out" / "results").glob("defenses/right/plain/*/result.json"))
    if damage == "cut":
        result.write_text(result.read_text()[:50])
    elif damage == "labels":
        result.write_text(result.read_text().replace('"img0": 1', '"img0": 2'))
    else:
        next((world.root / "out" / "results").glob("attacks/plain/*/images/img0.png")).write_bytes(b"")
    assert world.play().defenses[0].score == 6
    assert world.count() == ({"plain": 2, "right": 1} if damage == "image" else {"plain": 1, "right": 2})


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_tournament_goes_on(world, signal_number):
    pid = world.root / "pid"
    world.attack("plain")
    world.attack("other")
    waits = f'echo $$ > "{pid}.new"; mv "{pid}.new" "{pid}"; [ -e "{world.root}/go" ] || sleep 600\n'
    world.defense("a quick")
    world.defense("waits", script=ANSWER + waits)
    process = subprocess.Popen([sys.executable, "-c", HEED_SIGINT, *world.command()], stderr=subprocess.PIPE, text=True)
    wait_for(pid.exists)
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=LIMIT)
    entry = int(pid.read_text())
    assert world.count() == {"plain": 1, "other": 1, "a quick": 2, "waits": 1}
    if signal_number == signal.SIGKILL:
        os.killpg(entry, signal.SIGKILL)
    else:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
        assert not is_alive(entry)
    assert not (world.root / "out" / "index.html").exists()
    (world.root / "go").touch()
    report = world.play(time_limit=500.0)
    assert world.count() == {"plain": 1, "other": 1, "a quick": 2, "waits": 3}
    assert [score.score for score in report.defenses] == [12, 12]
    assert report.problems == []
    assert sorted(path.name for path in (world.root / "out" / "results").iterdir()) == ["attacks", "defenses"]
    assert not (world.root / "out" / "work").exists()


def test_two_tournaments_do_not_share_a_folder(world):
    world.attack("plain")
    world.defense("right")
    (world.root / "out").mkdir()
    with open(world.root / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another tournament is running in"):
            world.play()
    assert world.play().defenses[0].score == 6


# --- page and command ---


class Cells(HTMLParser):
    """The texts of a page's cells, and its tags."""

    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_escapes_names_and_holds_every_number(world):
    hostile = '<script>alert("&")'.replace("/", "")
    world.attack(hostile, COPY.replace('"$2"', '"$2" && exit 5'))
    world.attack("aimed", kind="targeted_attack")
    world.defense("<b>half", RIGHT[:22] + AIMED[26:52])
    world.defense("right")
    report = world.play(jobs=2)
    page = render(report)
    cells = Cells()
    cells.feed(page)
    assert not cells.tags & {"script", "b", "img", "link", "iframe"}
    assert not re.search(r"https?://|url\(|@import", page)
    assert {hostile, "<b>half", "exited with status 5", "targeted"} <= {text.strip() for text in cells.texts}
    assert "<title>Tournament of attacks and defenses</title>" in page
    shares = re.findall(r'class="heat"[^>]*title="([^"]*)">([^<]*)(?:<small>([^<]*))?', page)
    assert sorted(shares) == [
        ("2 of 6 correct", "33.3 %", ""),
        ("2 of 6 correct, target class said 2 times", "33.3 %", "target 33.3 %"),
        ("6 of 6 correct", "100.0 %", ""),
        ("6 of 6 correct, target class said 0 times", "100.0 %", "target 0.0 %"),
    ]
    for number in ("12", "4", "2", *(f"{seconds:.1f}" for seconds in report.seconds.values())):
        assert number in cells.texts
    assert "share of the images that the defense classified correctly" in page
    assert "do not know the defense" in page


def test_the_command_prints_a_table_and_where_the_rest_is(world):
    world.attack("plain")
    world.defense("right")
    done = subprocess.run(world.command("--epsilon=8"), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^right +6 +100\.0 % +100\.0 % +100\.0 % +\d+\.\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^plain +0 +0\.0 % +6 +\d+\.\d$", done.stdout, re.MULTILINE)
    assert f"0 problems; all figures, and the problems, are in {world.root}/out/index.html" in done.stdout
    assert (world.root / "out" / "index.html").is_file()
    assert not (world.root / "out" / "all_classification.csv").exists()
    assert "warning" not in done.stderr


def test_tensorflow_is_not_loaded():
    check = "import hgd_tf.tournament, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=LIMIT).returncode == 0


def broken_metadata(world: World, **fields: Any) -> None:
    path = world.root / "defenses" / "right" / "metadata.json"
    metadata = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in metadata.items() if value is not None}))


def clear_images(world: World) -> None:
    for name in NAMES:
        (world.images / name).unlink()


def write(name: str, content: str) -> Callable[[World], Any]:
    return lambda world: (world.root / name).write_text(content)


def metadata_with(**fields: Any) -> Callable[[World], Any]:
    return lambda world: broken_metadata(world, **fields)


METADATA, COLUMNS = "defenses/right/metadata.json", "ImageId,TrueLabel,TargetClass"
MISTAKES: dict[str, tuple[Callable[[World], Any], str]] = {
    "unknown type": (metadata_with(type="sport"), r"attack, targeted_attack, defense.*'sport'"),
    "fields": (metadata_with(container=None, type=3), r"expected texts in.*none in type, container$"),
    "no entry point": (metadata_with(entry_point="x.sh"), r"file of this directory.*'x\.sh'"),
    "foreign program": (metadata_with(entry_point="../../attacks/plain/run.sh"), r"file of this directory"),
    "no JSON": (write(METADATA, "{"), r"metadata\.json is not JSON"),
    "no run bit": (
        lambda world: (world.root / "defenses/right/run.sh").chmod(0o644),
        r"run bit set.*received mode 644",
    ),
    "no entry": (lambda world: (world.root / METADATA).unlink(), r"type defense.* found none"),
    "no images": (clear_images, r"no \.png files in"),
    "no image": (write("images/img2.png", "x"), r"img2\.png is truncated or no image"),
    "no columns": (write("table.csv", "ImageId,TrueLabel\n"), r"TargetClass, received ImageId, TrueLabel"),
    "bad label": (write("table.csv", f"{COLUMNS}\nimg0,0,1\n"), r"line 2.*1\.\.1000.*'0'"),
    "other table": (write("table.csv", f"{COLUMNS}\nx,1,1\n"), r"such as img0, found none"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_what_was_expected(world, name):
    world.attack("plain")
    world.defense("right")
    make, named = MISTAKES[name]
    make(world)
    with pytest.raises(DataError, match=named):
        play(world.config())
    assert world.count() == {}
    assert not (world.root / "out").exists()


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--attacks_dir={root}/attacks,absent", r"attacks_dir=.*absent.*expected folders that exist"),
        ("--images=absent", r"images=absent.*expected a folder that exists"),
        ("--table=absent.csv", r"table=absent\.csv.*expected a file that exists"),
        ("--epsilon=4,256", r"epsilon.*256"),
        ("--epsilon=", r"expected whole numbers of 1 to 255"),
        ("--time_limit=soon", r"time_limit.*soon"),
        ("--defenses=left", r"expected directories with a metadata\.json of type defense, among left, found none"),
        ("--output_dir={root}/attacks/plain/out", r"expected an output folder outside of the entries"),
    ],
)
def test_a_bad_flag_is_one_line(world, flag, named):
    world.attack("plain")
    world.defense("right")
    command = world.command(flag.format(root=world.root))
    done = subprocess.run(command, cwd=world.root, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and re.search(named, line), line
    assert done.stdout == ""

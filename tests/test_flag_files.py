"""Flag files stand for the same flags wherever a command is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from absl import flags

from hgd_tf.bundled import FOLDER, bundled, bundled_names
from hgd_tf.errors import HgdError
from hgd_tf.flag_files import expanded

NAMES = bundled_names("*.flags")
DEFAULTS = "--defaults=embedded.flags"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working directory, an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **contents: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.flags").write_text(content, encoding="utf-8")


def test_every_flag_file_of_the_root_comes_with_the_package():
    root = Path(__file__).parents[1]
    assert sorted(path.name for path in root.glob("*.flags")) == NAMES
    assert {"lgd.flags", "fgd.flags", "nips_lite.flags"} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_file_says_from_everywhere_what_absl_reads_at_the_root(name, elsewhere, monkeypatch):
    """Where it names no defaults, in the order of absl too."""
    arguments = ["--seed=3", f"--flagfile={name}", "--width=0.25", "more"]
    from_elsewhere = expanded(arguments), expanded(["--flagfile", str(FOLDER / name), *arguments[2:]])
    monkeypatch.chdir(FOLDER)
    by_absl = flags.FlagValues().read_flags_from_files(arguments)
    embedded = flags.FlagValues().read_flags_from_files(["--flagfile=embedded.flags"])
    if DEFAULTS in by_absl:
        by_absl = [*embedded, *(line for line in by_absl if line != DEFAULTS)]
    assert len(by_absl) > 5
    assert from_elsewhere == (by_absl, [line for line in by_absl if line != "--seed=3"])
    assert expanded(arguments) == by_absl


def meaning(*names: str) -> dict[str, str]:
    """The flags of flag files, by their names; of a flag that is said twice, the last one."""
    lines = expanded([f"--flagfile={name}.flags" for name in names])
    return dict(line[2:].partition("=")[::2] for line in lines)


EMBEDDED = {
    "width": "0.125",
    "train_images": "2000",
    "validation_images": "300",
    "learning_rate": "3e-3",
    "epochs": "5",
    "steps_per_epoch": "180",
    "patience": "1",
    "stop_patience": "3",
}
HOW = {
    "lgd": {"guidance": "logits"},
    "fgd": {"guidance": "feature"},
    "cgd": {"guidance": "label"},
    "pixel": {"guidance": "pixel"},
    "dae": {"guidance": "pixel", "denoiser": "dae"},
    "distillation": {"guidance": "distillation"},
}


@pytest.mark.parametrize("name", HOW)
def test_how_to_train_goes_with_what_in_either_order(name, elsewhere):
    how = {**HOW[name], "run_dir": f"runs/{name}"}
    assert meaning(name) == meaning("embedded", name) == meaning(name, "embedded") == {**EMBEDDED, **how}
    for what in ("imagenet", "comparison"):
        assert meaning(name, what) == meaning(what, name) == {**EMBEDDED, **meaning(what), **how}
    assert meaning("paper", name) == {**EMBEDDED, **meaning("paper"), **how}
    assert not {*EMBEDDED, "patience", "stop_patience"} - set(meaning("paper"))


def test_defaults_come_before_all_flags_whatever_names_them(elsewhere):
    write(elsewhere, outer="--a\n--flagfile=inner.flags\n--b\n", inner="--c\n--defaults=base.flags\n", base="--d\n")
    assert expanded(["--e", "--flagfile=outer.flags", "--f"]) == ["--d", "--e", "--a", "--c", "--b", "--f"]
    write(elsewhere, base="--defaults=outer.flags")
    with pytest.raises(HgdError, match=r"itself in the end: outer\.flags → inner\.flags → base\.flags → outer\.flags$"):
        expanded(["--flagfile=outer.flags"])


def test_a_file_in_the_working_directory_comes_before_the_packages(elsewhere):
    write(elsewhere, lgd="--width=0.5\n")
    assert expanded(["--flagfile=lgd.flags"]) == expanded(["-flagfile", "./lgd.flags"]) == ["--width=0.5"]


def test_a_nested_file_is_beside_the_one_that_names_it_or_the_packages(elsewhere):
    write(elsewhere, inner="--width=1\n")
    outer = "# ε\n\n  --flagfile=inner.flags\n//\n--flagfile=mini.flags\n"
    write(elsewhere / "folder", inner="--width=2\n", outer=outer)
    found = expanded(["--flagfile=folder/outer.flags", "--epochs", "3"])
    assert found == ["--width=2", *expanded(["--flagfile=mini.flags"]), "--epochs", "3"]


def test_a_file_may_be_named_twice_and_the_flags_end_at_two_dashes(elsewhere):
    write(elsewhere, a="--a\n--flagfile=b.flags\n--flagfile=b.flags\n", b="--b\n")
    arguments = ["--flagfile=a.flags", "--flagfile=", "--", "--flagfile=absent.flags"]
    assert expanded(arguments) == ["--a", "--b", "--b", "--", "--flagfile=absent.flags"]


MISTAKES = {
    "missing": (["--flagfile=absent.flags"], r"no such flag file: absent\.flags; the package has .*lgd\.flags"),
    "no path of the package": (["--flagfile=folder/lgd.flags"], r"no such flag file: folder/lgd\.flags"),
    "missing inside": (["--flagfile=outer.flags"], r"outer\.flags: no such flag file: absent\.flags"),
    "circle": (["--flagfile=first.flags"], r"itself in the end: first\.flags → second\.flags → first\.flags$"),
    "folder": (["--flagfile=folder"], "expected a flag file, received a folder: folder"),
    "no text": (["--flagfile=binary.flags"], r"UTF-8, received binary\.flags"),
    "no name": (["--width=1", "--flagfile"], "a file's name after --flagfile"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name, elsewhere):
    arguments, message = MISTAKES[name]
    write(elsewhere, outer="--flagfile=absent.flags", first="--flagfile=second.flags", second="--flagfile=first.flags")
    (elsewhere / "binary.flags").write_bytes(b"\xff\xfe\n")
    (elsewhere / "folder").mkdir()
    with pytest.raises(HgdError, match=message) as raised:
        expanded(arguments)
    assert "\n" not in str(raised.value)


def test_the_package_gives_nothing_but_what_it_brings(elsewhere):
    assert bundled("submission/models.json") == FOLDER / "submission/models.json"
    for other in ("setup.py", "submission/metadata.json", str(elsewhere / "lgd.flags"), "../lgd.flags"):
        assert bundled(other) == Path(other)
    (elsewhere / "submission").mkdir()
    (elsewhere / "submission/models.json").write_text("{}")
    assert bundled("submission/models.json") == Path("submission/models.json")

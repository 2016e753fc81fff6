"""The organizers' checks find what is wrong with a submission, and nothing else."""

from __future__ import annotations

import json
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Optional

import pytest
from PIL import Image

from hgd_tf.submissions import validation
from hgd_tf.submissions.validation import Check, validate

SCRIPTS = {
    "attack": 'cp "$1"/*.png "$2"; test "$3" = 16',
    "targeted_attack": 'cp "$1"/*.png "$2"; test "$(wc -l < "$1/target_class.csv")" = 2',
    "defense": 'cd "$1"; for name in *.png; do echo "$name,1000" >> "$2"; done',
}
NO_CHECK_FAILED: set[str] = set()


def _submission(folder: Path, kind: str, script: Optional[str] = None, **metadata) -> Path:
    """A submission's directory; `metadata` replaces fields, None removes one."""
    folder.mkdir(parents=True)
    fields = {"type": kind, "container": "image", "container_gpu": "image-gpu", "entry_point": "run.sh", **metadata}
    fields = {name: value for name, value in fields.items() if value is not None}
    (folder / "metadata.json").write_text(json.dumps(fields))
    (folder / "run.sh").write_text(f"#!/usr/bin/env bash\nset -e\n{SCRIPTS[kind] if script is None else script}\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def _failed(path: Path, **options) -> dict[str, str]:
    return {check.name: check.found for check in validate(path, **{"images": 2, **options}) if not check.passed}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_valid_directory_passes(tmp_path, kind):
    seen: list[Check] = []
    checks = validate(_submission(tmp_path / "submission", kind), images=2, on_check=seen.append)
    assert [check for check in checks if not check.passed] == []
    assert seen == checks
    names = {check.name for check in checks}
    assert names >= {"kind", "metadata.json", "type", "entry point", "time", "exit status", "input"}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("top", ["", "top"], ids=["flat", "in a folder"])
def test_archives_of_every_kind_pass(tmp_path, ending, top):
    folder = tmp_path / "packed"
    _submission(folder / top if top else folder, "defense")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._run.sh").write_text("of no meaning")
    kind = {"tar.gz": "gztar"}.get(ending, ending)
    if kind == "zip":
        path = Path(f"{folder}.zip")
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, file.relative_to(folder))
    else:
        path = Path(shutil.make_archive(str(folder), kind, folder))
    assert path.name == f"packed.{ending}"
    assert _failed(path) == {}


@pytest.mark.parametrize(
    "changes, name, found",
    [
        ({"type": None}, "entry", "none in type"),
        ({"container_gpu": None}, "entry", "none in container_gpu"),
        ({"container": 3}, "entry", "none in container"),
        (
            {"type": "offense"},
            "entry",
            "metadata.json: expected a type of attack, targeted_attack, defense, received 'off",
        ),
        ({"entry_point": "absent.sh"}, "entry", "received 'absent.sh'"),
        ({"entry_point": "../input/x"}, "entry", "a file of this directory"),
        ({"entry_point": "/bin/true"}, "entry", "a file of this directory"),
    ],
    ids=str,
)
def test_metadata(tmp_path, changes, name, found):
    failed = _failed(_submission(tmp_path / "submission", "defense", **changes))
    assert list(failed) == [name] and found in failed[name]


def test_metadata_that_is_missing_or_no_object(tmp_path):
    for number, content in enumerate((None, "{", "[]")):
        folder = _submission(tmp_path / str(number), "defense")
        (folder / "metadata.json").unlink()
        if content is not None:
            (folder / "metadata.json").write_text(content)
        assert list(_failed(folder)) == ["metadata.json" if content is None else "entry"]


def test_the_run_bit(tmp_path):
    folder = _submission(tmp_path / "submission", "defense")
    (folder / "run.sh").chmod(0o644)
    assert "chmod +x" in _failed(folder)["entry"]


@pytest.mark.parametrize(
    "kind, script, names",
    [
        ("defense", "exit 3", {"exit status"}),
        ("defense", 'echo "out of memory" >&2; exit 1', {"exit status"}),
        ("defense", "true", {"labels"}),
        ("defense", 'echo noise_000.png,1 > "$2"', {"labels"}),
        ("defense", 'printf "noise_000.png,1\\nnoise_001.png,x\\n" > "$2"', {"labels"}),
        ("defense", 'printf "noise_000.png,1\\nnoise_001.png,0\\n" > "$2"', {"labels"}),
        ("defense", 'printf "noise_000.png,1\\nnoise_001.png,1001\\n" > "$2"', {"labels"}),
        ("defense", 'printf "noise_000.png,1\\nnoise_001.png,2\\nother.png,3\\n" > "$2"', {"labels"}),
        ("defense", SCRIPTS["defense"] + '; yes x | head -c 10001 >> "$2"', {"labels"}),
        ("defense", SCRIPTS["defense"] + "; rm noise_000.png", {"input"}),
        ("defense", SCRIPTS["defense"] + "; echo >> noise_001.png", {"input"}),
        ("defense", 'printf "name,label\\nnoise_000,9\\nnoise_001.png,0\\nnoise_001.png,1\\n" > "$2"', NO_CHECK_FAILED),
        ("attack", 'cp "$1"/noise_000.png "$2"', {"images"}),
        ("attack", 'mv "$1"/*.png "$2"; mkdir "$1"/folder', {"input"}),
        ("attack", 'cp "$1"/*.png "$2"; echo text > "$2"/noise_001.png', {"images"}),
        ("attack", 'cp "$1"/*.png "$2"; cp "$1"/noise_000.png "$2"/noise_001.png', NO_CHECK_FAILED),
    ],
)
def test_what_it_does(tmp_path, kind, script, names):
    assert set(_failed(_submission(tmp_path / "submission", kind, script))) == names


def test_what_a_failed_program_said_is_shown(tmp_path):
    folder = _submission(tmp_path / "submission", "attack", 'echo "out of memory" >&2; exit 1')
    assert _failed(folder)["exit status"] == "1; it said: out of memory"


def test_perturbations_beyond_epsilon_are_a_remark(tmp_path):
    script = 'for name in noise_000 noise_001; do cp "$1"/noise_000.png "$2"/$name.png; done'
    folder = _submission(tmp_path / "submission", "attack", script)
    found = {check.name: check for check in validate(folder, images=2)}
    assert found["perturbation"].passed and "of 16: it is clipped" in found["perturbation"].found


def test_images_of_another_size(tmp_path):
    folder = _submission(tmp_path / "submission", "attack", 'cp "$1"/*.png "$2"; cp tiny.png "$2"/noise_000.png')
    Image.new("RGB", (298, 299)).save(folder / "tiny.png")
    failed = _failed(folder)
    assert list(failed) == ["images"] and "1 of 2 images were resized" in failed["images"]


def test_a_program_over_its_time_is_stopped_with_its_children(tmp_path):
    marker = tmp_path / "marker"
    folder = _submission(tmp_path / "submission", "defense", f'(sleep 3; touch "{marker}") & sleep 60')
    started = time.monotonic()
    assert _failed(folder, time_limit=0.5).keys() == {"time"}
    assert time.monotonic() - started < 30
    time.sleep(3)
    assert not marker.exists()


def test_a_program_without_interpreter(tmp_path):
    folder = _submission(tmp_path / "submission", "defense")
    (folder / "run.sh").write_text("#!/no/such/shell\n")
    assert "cannot be started" in _failed(folder)["exit status"]


# --- archives ---


def _zip(path: Path, entries: dict[str, str], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def _tar_of_link(path: Path, kind: bytes, target: str) -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def test_nothing_leaves_the_folder(tmp_path):
    for number, name in enumerate(("../escaped", "a/../../escaped", f"{tmp_path}/escaped", "..\\escaped")):
        failed = _failed(_zip(tmp_path / f"{number}.zip", {name: "x"}))
        assert "leads out of the submission" in failed["archive"]
    failed = _failed(_zip(tmp_path / "link.zip", {"link": "/etc"}, mode=0o120777))
    assert "links are not followed" in failed["archive"]
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
        failed = _failed(_tar_of_link(tmp_path / f"{number}.tar", kind, "/etc/passwd"))
        assert "links are not followed" in failed["archive"]
    assert not list(tmp_path.rglob("escaped"))


def test_damaged_and_unknown_archives(tmp_path):
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"no archive")
        assert "cannot be unpacked" in _failed(tmp_path / name)["archive"]
    (tmp_path / "a.rar").touch()
    assert ".tar.gz, .tar, .zip" in _failed(tmp_path / "a.rar")["archive"]
    assert "no such file or directory" in _failed(tmp_path / "absent.zip")["archive"]


def test_sizes(tmp_path, monkeypatch):
    path = _zip(tmp_path / "a.zip", {"file": "x" * 1000})
    monkeypatch.setattr(validation, "MOST_UNPACKED_BYTES", 999)
    assert _failed(path)["archive"] == "it has 1000 bytes unpacked; 999 are admitted"
    monkeypatch.setattr(validation, "MOST_ZIPPED_BYTES", 100)
    assert list(_failed(path)) == ["size"]

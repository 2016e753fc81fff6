"""Outputs are complete or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hgd_tf.files import replacing, write_json


class _StoppedError(Exception):
    pass


def _write_folder(path, content: str):
    Path(path).mkdir()
    (Path(path) / "part.txt").write_text(content)


def _content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_file_appears_complete(tmp_path):
    with replacing(tmp_path / "out.txt") as temporary:
        Path(temporary).write_text("new")
        assert not (tmp_path / "out.txt").exists()
    assert _content(tmp_path) == {"out.txt": "new"}


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    (tmp_path / "out.txt").write_text("old")
    with replacing(tmp_path / "out.txt") as temporary:
        Path(temporary).write_text("new")
        assert (tmp_path / "out.txt").read_text() == "old"
    assert _content(tmp_path) == {"out.txt": "new"}


def test_a_folder_is_replaced_whole(tmp_path):
    _write_folder(tmp_path / "out", "old")
    (tmp_path / "out" / "left_over.txt").write_text("of the old one")
    with replacing(tmp_path / "out") as temporary:
        _write_folder(temporary, "new")
        assert (tmp_path / "out" / "part.txt").read_text() == "old"
    assert _content(tmp_path) == {"out/part.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [_StoppedError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_no_temporary(tmp_path, error):
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(error), replacing(tmp_path / "out.txt") as temporary:
        Path(temporary).write_text("half of the n")
        raise error
    assert _content(tmp_path) == {"out.txt": "old"}


def test_a_failure_keeps_the_old_folder_and_leaves_no_temporary(tmp_path):
    _write_folder(tmp_path / "out", "old")
    with pytest.raises(_StoppedError), replacing(tmp_path / "out") as temporary:
        _write_folder(temporary, "half of the n")
        raise _StoppedError
    assert _content(tmp_path) == {"out/part.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_before_anything_is_written_leaves_nothing(tmp_path):
    with pytest.raises(_StoppedError), replacing(tmp_path / "out.txt"):
        raise _StoppedError
    assert list(tmp_path.iterdir()) == []


def test_an_old_folder_stays_where_nothing_new_was_written(tmp_path):
    _write_folder(tmp_path / "out", "old")
    with pytest.raises(OSError), replacing(tmp_path / "out"):
        pass
    assert _content(tmp_path) == {"out/part.txt": "old"}


def test_the_temporary_stands_beside_its_place_and_has_its_ending(tmp_path):
    path = tmp_path / "model.weights.h5"
    with replacing(path) as temporary:
        assert Path(temporary).parent == tmp_path
        assert Path(temporary).name != path.name
        assert temporary.endswith("model.weights.h5")
        Path(temporary).write_text("new")


def test_missing_folders_are_made(tmp_path):
    with replacing(str(tmp_path / "a" / "b" / "out.txt")) as temporary:
        Path(temporary).write_text("new")
    assert _content(tmp_path) == {"a/b/out.txt": "new"}


def test_json_is_written_to_be_read(tmp_path):
    value = {"seed": 1, "rows": [0.5, None, "ε"]}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.startswith('{\n  "seed": 1') and text.endswith("\n")


def test_a_value_that_json_cannot_hold_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {1, 2})
    assert _content(tmp_path) == {"value.json": "1\n"}

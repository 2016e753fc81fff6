"""The package is a layered house: its folders import downwards alone, and WORKSPACE.md shows them as they are."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

house = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "docs" / "draw_house.py")))
MOST = 0.15  # of the lines in one room


@pytest.fixture(scope="module")
def stands_on() -> dict[str, dict[str, str]]:
    return house.stands_on()


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_every_room_has_its_layer_and_every_layer_its_rooms(stands_on):
    assert set(stands_on) == set(house.LAYER_OF)


def test_a_room_stands_on_lower_ones_alone(stands_on):
    """Neither on one above nor on one beside it: so there is no cycle either."""
    for room, others in stands_on.items():
        for other, example in others.items():
            assert house.LAYER_OF[room] < house.LAYER_OF[other], f"{room} stands on {other}: {example}"


def test_the_reading_sees_imports_of_every_kind(stands_on):
    """Of names, of modules in a package, inside functions; not what serves types alone."""
    assert {"attacks", "evaluation", "study"} <= set(stands_on["commands"])
    assert "defenses" in stands_on["commands"] and "competition" in stands_on["submissions"]
    assert set(stands_on["foundation"]) == set()


def test_the_map_shows_the_rooms_as_they_are():
    written, printed = rows(house.written_table()), rows(house.table())
    assert [row[:3] for row in written] == [row[:3] for row in printed], "python docs/draw_house.py --write"
    assert max(float(row[-1].rstrip("%")) for row in printed[2:]) <= 100 * MOST


# They read command lines, write some, or hold a style sheet.
PROGRAMS = ("flag_files.py", "runner.py", "attack_directories.py", "packaging.py", "page.py")


def test_messages_below_the_commands_speak_of_arguments_not_of_flags():
    """A command spells them as its flags (`cli.py`); a Python program that calls a function has none."""
    below = [path for room, paths in house.rooms().items() if room != "commands" for path in paths]
    found = []
    for path in below:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in texts else None
            if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", text) and path.name not in PROGRAMS:
                found.append(f"{path}:{node.lineno}: {text}")
    assert len(below) > 100
    assert not found


def test_the_functions_that_the_map_follows_are_there():
    followed = re.findall(
        r"^\d+\. `([\w.]+?)\.(?:[A-Z]\w+\.)?(\w+)`", house.WORKSPACE.read_text(encoding="utf-8"), re.M
    )
    assert len(followed) == 10
    for module, function in followed:
        path = house.PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
        assert f"def {function}(" in path.read_text(encoding="utf-8"), (module, function)

"""Prints the package's folders as the rooms of a house, a Markdown table, from what their modules import.

    python docs/draw_house.py

LAYERS says who may stand on whom; tests/test_layers.py compares it with the imports, and the table in WORKSPACE.md with
what this prints. To refresh the table, its counts of lines too: python docs/draw_house.py --write
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hgd_tf"
WORKSPACE = ROOT / "WORKSPACE.md"
BEGIN, END = "<!-- docs/draw_house.py prints this -->", "<!-- to here -->"

COMMANDS, SMALL = "commands", "foundation"
# From top to bottom; each room stands on those below alone, and those of one layer do not know each other.
LAYERS = (
    (COMMANDS,),  # the modules with flags
    ("study",),
    ("training", "evaluation"),
    ("experiment",),
    ("crafting", "submissions", "tournaments"),
    ("competition",),
    ("attacks", "guidance", "defenses"),
    ("targets",),
    ("architectures", "data", "denoisers"),
    ("checkpoints",),
    (SMALL,),  # the folder, and the modules beside the folders that read no flags
)
LAYER_OF = {room: number for number, layer in enumerate(LAYERS, start=1) for room in layer}


@functools.cache
def room_of(path: Path) -> str:
    """The room of a module: its folder; `__main__.py`, wherever it stands, is a command."""
    if path.name == "__main__.py" or (path.parent == PACKAGE and _reads_flags(path)):
        return COMMANDS
    return SMALL if path.parent == PACKAGE else path.relative_to(PACKAGE).parts[0]


def rooms() -> dict[str, list[Path]]:
    """The modules by their rooms."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        found[room_of(path)].append(path)
    return dict(found)


def stands_on() -> dict[str, dict[str, str]]:
    """By room, the other rooms that its modules import, each with one import as an example."""
    found: dict[str, dict[str, str]] = {}
    for room, paths in rooms().items():
        uses = found.setdefault(room, {})
        for path in paths:
            for module in _imported(path):
                other = room_of(module)
                if other != room:
                    uses.setdefault(other, f"{path.relative_to(ROOT)} imports {module.relative_to(ROOT)}")
    return found


def table() -> str:
    """Layer, room, what it stands on beside the foundation, lines neither empty nor comments, and their share."""
    uses = stands_on()
    lines = {room: sum(map(_line_count, paths)) for room, paths in rooms().items()}
    rows = ["| layer | room | stands on | lines | share |", "| --- | --- | --- | --- | --- |"]
    for room, layer in LAYER_OF.items():
        below = ", ".join(other for other in LAYER_OF if other in uses[room] and other != SMALL)
        rows.append(f"| {layer} | {room} | {below} | {lines[room]} | {lines[room] / sum(lines.values()):.0%} |")
    return "\n".join(rows)


def written_table() -> str:
    """The table in WORKSPACE.md."""
    return WORKSPACE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def _reads_flags(path: Path) -> bool:
    imports = [node for node in _nodes(path) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return any(name.split(".")[0] == "absl" or name == "hgd_tf.cli" for node in imports for name in _names(node))


def _imported(path: Path) -> Iterator[Path]:
    """The package's modules that one imports, at its start or later; what serves types alone does not count."""
    for node in _nodes(path):
        for name in _names(node) if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            place = ROOT.joinpath(*name.split("."))
            module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
            if name.startswith(f"{PACKAGE.name}.") and module.is_file():
                yield module


def _names(node) -> list[str]:
    """What a statement imports: modules, or names in them that may be modules too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert not node.level, "imports name their modules from the package on"
    return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


def _nodes(path: Path) -> Iterator[ast.AST]:
    """Of a module's syntax tree, without blocks under TYPE_CHECKING."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        yield node
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            todo.extend(ast.iter_child_nodes(node))


def _line_count(path: Path) -> int:
    lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


if __name__ == "__main__":
    print(table())
    if "--write" in sys.argv:
        before, _, rest = WORKSPACE.read_text(encoding="utf-8").partition(BEGIN)
        WORKSPACE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")

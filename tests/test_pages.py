"""The pages: the first one is short, no link of any leads nowhere, and what they have one type may be typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from warm_commands import run_warm

import hgd_tf

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("*.md", "docs/*.md", "submission/*.md", "hgd_tf/data/**/*.md", "hgd_tf/defenses/shipped/*/*.md")
PAGES = sorted(path for place in PLACES for path in ROOT.glob(place))
OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
MOST_LINES = 200
LIMIT = 900  # seconds that the tutorial may take on a busy machine
TUTORIAL, REFERENCE, COMMANDS = (ROOT / "docs" / f"{name}.md" for name in ("tutorial", "reference", "commands"))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_page_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        aim = page.parent / path if path else page
        assert aim.exists(), f"{link}: nothing at {aim}"
        assert not anchor or anchor in anchors(aim), f"{link}: no such heading among {sorted(anchors(aim))}"


def commands(text: str) -> list[list[str]]:
    """The words of every line that starts a command, and of code in a sentence that has arguments; loops unrolled."""

    def unrolled(loop: re.Match[str]) -> str:
        return "".join(f"\n{loop[3].replace(f'${loop[1]}', value)}\n" for value in loop[2].split())

    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"for (\w+) in ([^;\n]+); do ([^\n]+?); done", unrolled, text)
    lines = [part.strip() for line in text.splitlines() for part in re.split(r"&&|;", line)]
    lines += [" ".join(code.split()) for code in re.findall(r"`(python -m hgd_tf\.\w+\s[^`]+)`", text)]
    found = [line for line in lines if re.match(r"(\S+/)?python -m hgd_tf\.\w+(\s|$)", line)]
    return [shlex.split(line, comments=True)[2:] for line in found]


def mistakes(words: list[str]) -> str:
    """What a command says of its arguments without running, but of files that are not there."""
    module, *arguments = words
    outcome = run_warm(ROOT, module, [*arguments, "--only_check_args"])
    told = re.sub(r"flag --\w+=\S+: expected a (folder|file) that exists", "", outcome.stderr)
    return told if outcome.status and told.strip() != "error:" else ""


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_knows_the_flags_that_a_page_gives_it(page):
    mistaken = {" ".join(words): told for words in commands(text_of(page)) if (told := mistakes(words))}
    assert not mistaken


def test_commands_are_found_in_pages_and_mistakes_in_commands():
    assert len([words for page in OF_TODAY for words in commands(text_of(page))]) > 60
    page = "    .venv/bin/python -m hgd_tf.train --flagfile=lgd.flags \\\n        --gidance=pixel  # the package's\n"
    page += "Say `python -m hgd_tf.train --epochs=0`, or `python -m hgd_tf.train`.\n"
    page += "    for run in lgd fgf; do python -m hgd_tf.train --flagfile=$run.flags; done\n"
    page += "    true && python -m hgd_tf.defend --images=a.png b.png"
    named = ["gidance", "fgf.flags", "'b.png'", "epochs"]
    told = [mistakes(words) for words in commands(page)]
    assert told.pop(1) == ""  # lgd
    assert len(told) == len(named)
    for name, line in zip(named, told):
        assert name in line and line.count("\n") == 1


def python_blocks(page: Path) -> list[str]:
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in blocks]


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_on_a_page_compiles_and_names_what_is_public(page):
    for number, block in enumerate(python_blocks(page)):
        compile(block, f"{page}, block {number}", "exec")
    named = set(re.findall(r"(?<![\w/.-])(?<!-m )hgd_tf\.([A-Za-z_]\w*)", text_of(page)))
    named |= {
        name for names in re.findall(r"from hgd_tf import ([\w, ]+)", text_of(page)) for name in names.split(", ")
    }
    unknown = named - set(hgd_tf.__all__)
    assert not {name for name in unknown if importlib.util.find_spec(f"hgd_tf.{name}") is None}


def test_the_reference_has_every_public_name_and_every_command():
    names = re.findall(r"^\.\. (?:auto)?(?:class|function|exception|data):: (\w+)$", text_of(REFERENCE), re.MULTILINE)
    assert sorted(names) == hgd_tf.__all__
    modules = [*ROOT.glob("hgd_tf/*.py"), *ROOT.glob("hgd_tf/*/__main__.py")]
    runnable = {path for path in modules if "\n    cli.run(main" in text_of(path)}
    described = re.findall(r"^```{command-help} (\w+)$", text_of(COMMANDS), re.MULTILINE)
    assert sorted(described) == sorted(path.parent.name if path.stem == "__main__" else path.stem for path in runnable)


@pytest.mark.slow
def test_the_tutorial_is_a_program_whose_figures_are_ordered_as_it_says(tmp_path):
    program = tmp_path / "tutorial.py"
    program.write_text("\n".join(python_blocks(TUTORIAL)), encoding="utf-8")
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"^ *([\d.]+) %  (.+)$", done.stdout, re.MULTILINE)
    accuracy = {title: float(figure) for figure, title in printed}
    clean, known = accuracy["clean, guarded"], accuracy["PGD, guarded (adaptive)"]
    assert len(accuracy) == 9
    assert accuracy["clean, no defence"] > 75
    assert clean > accuracy["clean, no defence"] - 4
    assert accuracy["FGSM, guarded (oblivious)"] > accuracy["FGSM, no defence"] + 10
    assert known < accuracy["FGSM, guarded (oblivious)"] - 15
    assert known < accuracy["PGD, no defence"]
    assert accuracy["PGD, guarded by one trained under attacks on itself (adaptive)"] > known + 10
    assert "FAIL" not in done.stdout
    assert accuracy["clean, loaded"] == clean

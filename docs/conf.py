"""The pages as a site: `sphinx-build docs build/site`, with the extra `docs`.

Sphinx with MyST, and not MkDocs: MyST is CommonMark, so that lists, tables and code in lists are what GitHub makes of
the same pages. MkDocs' Python-Markdown, older than CommonMark, wants four spaces where they have two, and takes a list
right after a paragraph's last line for more of that paragraph. And autodoc, which makes the reference of the
docstrings, comes with Sphinx.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import runpy
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import inspect
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from hgd_tf import __version__  # noqa: E402  of this tree, whether or not it is installed
from hgd_tf.foundation.description import settings  # noqa: E402
from hgd_tf.foundation.quiet import mute_tensorflow  # noqa: E402

project = "hgd-tf"
author = "The hgd-tf authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
default_role = "literal"  # docstrings are read as Markdown has it, `name`
highlight_language = "bash"  # of blocks that are indented alone: commands, most of them
smartquotes_action = "D"  # dashes; the pages' quotes stay as they are
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_inherit_docstrings = False  # Keras' own are about Keras
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_attr_annotations = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"hgd-tf {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False

BESIDE_CODE = DOCS / "beside_code"
MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_site(file: Path) -> Path:
    """Where the site's source has a file of the project: pages from outside of this folder are copied into it."""
    is_copied = file.suffix == ".md" and DOCS not in file.parents
    return BESIDE_CODE / file.relative_to(ROOT) if is_copied else file


def links(page: Path) -> set[Path]:
    """Files of the project that a page leads to."""
    found = MARKDOWN_LINK.findall(page.read_text(encoding="utf-8"))
    return {(page.parent / path).resolve() for _, path, _ in found if (page.parent / path).is_file()}


def with_links(text: str, page: Path) -> str:
    """A page's text, whose links lead to the same files from where the site has it, and none to a folder."""

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found.groups(default="")
        aim = (page.parent / path).resolve()
        if aim.is_dir():
            return text
        if not aim.is_file():
            return found[0]
        return f"[{text}]({Path(os.path.relpath(on_site(aim), on_site(page).parent)).as_posix()}{anchor})"

    return MARKDOWN_LINK.sub(link, text)


def copy_pages_beside_code(app: Sphinx) -> None:
    """Cards of denoisers and the like stand beside the code; those that pages here lead to are pages of the site."""
    shutil.rmtree(BESIDE_CODE, ignore_errors=True)
    read, coming = set(), set(DOCS.glob("*.md"))
    while coming:
        page = coming.pop()
        read.add(page)
        coming |= {aim for aim in links(page) if aim.suffix == ".md"} - read
        if on_site(page) != page:
            on_site(page).parent.mkdir(parents=True, exist_ok=True)
            on_site(page).write_text(with_links(page.read_text(encoding="utf-8"), page), encoding="utf-8")


def lead_out_of_the_folder(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if BESIDE_CODE not in page.parents:
        source[0] = with_links(source[0], page)


class CommandHelp(SphinxDirective):
    """What `python -m hgd_tf.COMMAND --helpshort` prints, as it is."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = _printed_in_a_fork(f"hgd_tf.{self.arguments[0]}", "--helpshort")
        return [nodes.literal_block(text, text.replace(f"{ROOT}{os.sep}", ""), language="none")]


def _printed_in_a_fork(module: str, argument: str) -> str:
    """Flags are defined once a process, and a process of its own would import TensorFlow again for every command."""
    mute_tensorflow()
    import hgd_tf.study  # noqa: F401  with most of what commands import

    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(theirs, 1)
            sys.stdout, sys.argv = os.fdopen(1, "w", encoding="utf-8"), [module, argument]
            with contextlib.suppress(SystemExit):
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as pipe:
        text = pipe.read().rstrip()
    os.waitpid(child, 0)
    if not text.endswith("a list of all flags."):
        raise ExtensionError(f"python -m {module} {argument} printed no help: {text!r}")
    return text


def name_init_s_arguments(app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, returns: str):
    """Keras' models have a `__new__` of any arguments, which is not what a reader asks for."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    found = inspect.signature(thing.__init__, bound_method=True)
    return inspect.stringify_signature(found, show_return_annotation=False, unqualified_typehints=True), returns


def describe_settings(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Fields that JSON files name say themselves what they mean (`hgd_tf/foundation/description.py`)."""
    if dataclasses.is_dataclass(thing) and any(field.metadata for field in dataclasses.fields(thing)):
        lines += ["", "Args:"]
        for setting in settings(thing).values():
            rule = f" Expected: {setting.rule.words}." if setting.rule.words else ""
            lines.append(f"  {setting.name}: {setting.meaning}{rule}")


def skip_numbered_fields(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> Optional[bool]:
    """A named tuple's docstring says what its fields are; their own is "Alias for field number 0"."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    app.add_directive("command-help", CommandHelp)
    app.connect("builder-inited", copy_pages_beside_code)
    app.connect("source-read", lead_out_of_the_folder)
    app.connect("autodoc-process-signature", name_init_s_arguments)
    app.connect("autodoc-process-docstring", describe_settings, priority=400)  # before napoleon reads it
    app.connect("autodoc-skip-member", skip_numbered_fields)

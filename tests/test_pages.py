"""The pages: the first one is short, and no link of any leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("*.md", "docs/*.md", "submission/*.md", "hgd_tf/data/**/*.md", "hgd_tf/defenses/shipped/*/*.md")
PAGES = sorted(path for place in PLACES for path in ROOT.glob(place))
MOST_LINES = 200


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        aim = page.parent / path if path else page
        assert aim.exists(), f"{link}: nothing at {aim}"
        assert not anchor or anchor in anchors(aim), f"{link}: no such heading among {sorted(anchors(aim))}"

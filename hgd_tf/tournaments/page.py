"""A tournament as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Optional
from urllib.parse import quote

from hgd_tf.competition.entries import DEFENSE
from hgd_tf.files import replacing
from hgd_tf.tournaments.reports import Report, decimal, percent
from hgd_tf.tournaments.scoring import AttackScore

PAGE_FILE = "index.html"
TITLE = "Tournament of attacks and defenses"

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --text: #1c1c1a; --soft: #5c5c58; --line: #deded9;
  --heat: 42 120 214; }
@media (prefers-color-scheme: dark) {
  :root { --page: #1a1a19; --text: #f0efea; --soft: #aeada5; --line: #3a3a37; --heat: 70 140 230; }
}
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1200px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, caption, small, .soft { color: var(--soft); } p { max-width: 48rem; }
.scroll { max-height: 85vh; overflow: auto; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; min-width: 100%; }
caption { text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; } tbody th { font-weight: 400; }
th:first-child, td.words { text-align: left; } td.words { white-space: normal; overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; background: var(--page); z-index: 1; }
th:first-child { position: sticky; left: 0; background: var(--page); z-index: 1; border-right: 1px solid var(--line); }
thead th:first-child { z-index: 2; }
td.heat { background: rgb(var(--heat) / calc(var(--share) * .6)); text-align: center; }
td.heat small { color: inherit; display: block; }
.mark { border: 1px solid var(--line); border-radius: 3px; color: var(--soft); font-size: .8rem; padding: 0 .3rem; }
.scale { background: linear-gradient(90deg, transparent, rgb(var(--heat) / .6)); border: 1px solid var(--line);
  display: inline-block; height: .8rem; vertical-align: middle; width: 8rem; }
a { color: inherit; }
"""


def write_page(report: Report, folder: Path) -> Path:
    """Writes the page; returns its path."""
    with replacing(folder / PAGE_FILE) as temporary:
        Path(temporary).write_text(render(report), encoding="utf-8")
    return folder / PAGE_FILE


def render(report: Report) -> str:
    parts = [_introduction(report), _matrix(report), _defenses(report), _attacks(report), _problems(report)]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{TITLE}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _introduction(report: Report) -> str:
    config, found = report.config, report.classifications
    radii = ", ".join(map(str, config.epsilon))
    drawn = ", one drawn for each batch" if len(config.epsilon) > 1 else ""
    return (
        f"<h1>{TITLE}</h1>\n<p>{len(found.attacks)} attacks and {len(found.defenses)} defenses on "
        f"{len(found.image_ids)} images; ε = {radii} of 255{drawn}, {config.time_limit:g} s for a batch of "
        f"{config.batch_size} images.</p>"
    )


def _matrix(report: Report) -> str:
    """Attacks × defences, in the order of their rankings."""
    found = report.classifications
    correct, hits = found.correct, found.hits
    columns = [found.defenses.index(defense.name) for defense in report.defenses]
    rows = []
    for attack in report.attacks:
        row = found.attacks.index(attack.name)
        cells = [
            _heat(int(correct[row, column].sum()), int(hits[row, column].sum()), len(found.image_ids), attack.targeted)
            for column in columns
        ]
        rows.append((_attack_name(attack, report), cells))
    legend = (
        "<p>Each number is the share of the images that the defense classified correctly: "
        '0 % <span class="scale"></span> 100 %. Below it, for targeted attacks, is the share that it took for the '
        "class that the attack was to reach. The attacks do not know the defense that they meet, unless their name "
        "says so: a high number here is no robustness against an attack made for the defense. An image that an attack "
        "did not write counts as not classified correctly.</p>"
    )
    head = ["attack", *(escape(defense.name) for defense in report.defenses)]
    return f"<h2>Accuracy under attack</h2>\n{legend}\n{_table(head, rows)}"


def _heat(correct: int, hits: int, images: int, targeted: bool) -> str:
    title = f"{correct} of {images} correct"
    below = ""
    if targeted:
        title += f", target class said {hits} times"
        below = f"<small>target {percent(hits / images)}</small>"
    share = f"--share: {correct / images:.4f}"
    return f'<td class="heat" style="{share}" title="{title}">{percent(correct / images)}{below}</td>'


def _defenses(report: Report) -> str:
    head = [
        "defense", "score", "normalized score", "under the worst attack", "worst attack", "under every attack",
        "seconds for 100 images",
    ]  # fmt: skip
    rows = [
        (
            escape(score.name),
            _cells(
                str(score.score),
                percent(score.normalized),
                percent(score.worst_accuracy),
                score.worst_attack or "–",
                percent(score.worst_image_accuracy),
                decimal(report.seconds[DEFENSE, score.name]),
            ),
        )
        for score in report.defenses
    ]
    return (
        "<h2>Defenses</h2>\n<p>The score is the number of correctly classified images, over all attacks. The other "
        "figures are over those attacks that wrote every image: the normalized score is the share of their images "
        "that is classified correctly; <em>under every attack</em> counts an image only if it is classified "
        "correctly whatever the attack. Times are medians over the batches, start-up included, scaled to 100 images; "
        f"{report.config.jobs} ran at a time.</p>\n{_table(head, rows)}"
    )


def _attacks(report: Report) -> str:
    head = ["attack", "score", "normalized score", "images written", "seconds for 100 images"]
    rows = [
        (
            _attack_name(score, report),
            _cells(str(score.score), percent(score.normalized), str(score.written), decimal(report.seconds_of(score))),
        )
        for score in report.attacks
    ]
    return (
        "<h2>Attacks</h2>\n<p>The score is the number of images times defenses less the correctly classified ones; of "
        "a targeted attack, the number of times that a defense said the target class. The normalized score is its "
        "share of images times defenses; an attack that did not write every image has none.</p>\n"
        f"{_table(head, rows)}"
    )


def _problems(report: Report) -> str:
    if not report.problems:
        return "<h2>Problems</h2>\n<p>None.</p>"
    rows = [
        (escape(problem.title), [f'<td class="words">{escape(problem.text)}</td>', f"<td>{_link(problem.log)}</td>"])
        for problem in report.problems
    ]
    return f"<h2>Problems</h2>\n{_table(['run', 'what happened', 'log'], rows)}"


def _attack_name(attack: AttackScore, report: Report) -> str:
    marks = ["targeted"] if attack.targeted else []
    if attack.written < len(report.classifications.image_ids):
        marks.append(f"incomplete: {attack.written} of {len(report.classifications.image_ids)} images")
    return " ".join([escape(attack.name), *(f'<span class="mark">{mark}</span>' for mark in marks)])


def _table(head: Sequence[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table of ready HTML: the head's cells, and the rows' first cells and others."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "\n".join(f'<tr><th scope="row">{first}</th>{"".join(cells)}</tr>' for first, cells in rows)
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>"
    )


def _cells(*texts: str) -> list[str]:
    return [f"<td>{escape(text)}</td>" for text in texts]


def _link(log: Optional[str]) -> str:
    return f'<a href="{escape(quote(log))}">log</a>' if log else ""

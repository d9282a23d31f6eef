"""The page itself: one HTML file that needs nothing else, runs no foreign script and calls nobody.

The same input gives the same bytes. Text from the user is escaped by jinja2 in the HTML and by
`draw.label` in figures; the Content-Security-Policy lets only our own scripts run, by their hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from equiprune.report import papertable, tables
from equiprune.report.content import Page, StepPage
from equiprune.report.draw import PALETTE
from equiprune.report.numbers import count, visible
from equiprune.report.plates import plates
from equiprune.report.standards import MISSING, standards, unanswered
from equiprune.report.sweepwords import on_test
from equiprune.report.verdict import EVIDENCE, verdict

__all__ = ["Page", "StepPage", "render"]

HERE = Path(__file__).parent
MOST_METHODS = 40
"""Models in the papers' table on the page; the exported one has them all."""


def render(page: Page) -> str:
    """The report as one self-contained HTML document.

    Args:
        page: the run as plain data; see `Page` and `StepPage`.

    Returns:
        HTML in UTF-8 with plotly's script inside (4.9 MB); it opens without a network. Equal
        input gives equal bytes.

    Raises:
        KeyError: an audit lacks a part that `audit.json` always has.
    """
    scripts = [_own("page.js"), _plotly()]
    items = standards(page)
    template = _environment().from_string(_own("template.html"))
    return template.render(
        page=page,
        verdict=verdict(page),
        evidence=EVIDENCE,
        performance=tables.performance(page),
        fairness=tables.fairness(page),
        ends=tables.ends(page),
        on_test=None if page.sweep is None else on_test(page.sweep),
        plates=plates(page),
        methods=papertable.parts(page.models[:MOST_METHODS]),
        methods_left=max(0, len(page.models) - MOST_METHODS),
        paper=papertable,
        items=items,
        unanswered=unanswered(items),
        missing=MISSING,
        leaks=tables.leaks(page),
        classes=[(step, tables.by_class(step)) for step in page.steps],
        splits=tables.splits(page),
        removed=tables.removed(page),
        costs=tables.costs(page),
        conventions=tables.plain(page.last.audit["conventions"]),
        environment=tables.plain(page.environment),
        skipped=tables.plain(page.data.get("skipped") or {}),
        settings=[(step, tables.plain(step.settings)) for step in page.steps],
        interval=page.last.audit["conventions"]["interval"],
        count=count,
        palette=PALETTE,
        policy=_policy(scripts),
        # Scripts and style are part of the package and hold nothing of the user's.
        scripts=[Markup(script) for script in scripts],
        style=Markup(_own("page.css")),
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}
    return environment


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return str(get_plotlyjs())


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    # plotly sets style attributes, and writes its pictures for download as data.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )

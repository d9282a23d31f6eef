"""`equiprune report`: the page of one or several runs, and what else it can be written as."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from equiprune.errors import Problem, UsageError
from equiprune.progress import say

if TYPE_CHECKING:
    from equiprune.report.content import Page


def report(
    runs: tuple[Path, ...],
    /,
    *,
    out: Path = Path("report.html"),
    card: Path | None = None,
    tables: Path | None = None,
    figures: Path | None = None,
    embed_images: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter(name="--json", help="Prints the files as JSON.", negative=())] = False,
) -> None:
    """Writes one HTML page for one or several runs on the same data, or for a sweep, and its content as JSON beside it.

    Args:
        runs: directories of runs, or that of one sweep.
        out: the page.
        card: a TOML or YAML file of what only you know: intended use, where the attribute is from; docs/report.md.
        tables: folder for the table of methods as CSV, LaTeX and Markdown.
        figures: folder for every figure as SVG and PNG; needs a Chromium.
        embed_images: puts pictures of test images into the page, those whose answer changed; mind whom they show.
        json_: see there.
    """
    from equiprune.files import refuse_missing, write_text
    from equiprune.report.document import as_text, place
    from equiprune.report.from_sweep import page_of_paths
    from equiprune.report.modelcard import ModelCard
    from equiprune.report.page import render
    from equiprune.report.pictures import browser, write_figures

    if out.suffix not in (".html", ".htm"):
        raise UsageError(Problem("the report is an HTML page", file=str(out), hint="Give a name that ends in .html"))
    refuse_missing(runs, "run")
    data = place(out)
    said = {} if card is None else ModelCard.read(card).given()
    if figures is not None:
        browser()  # a missing one is told before the work, not after
    say("auditing")
    page = replace(page_of_paths(runs, images=embed_images), card=said)
    for reason in page.left_out:
        say(f"left out: {reason}")
    write_text(out, render(page))
    write_text(data, as_text(page))
    written = [out, data]
    written += [] if tables is None else _tables(page, tables)
    if figures is not None:
        say("drawing the figures")
        written += write_figures(page, figures)
    if json_:
        print(json.dumps({"report": str(out), "files": [str(path) for path in written]}))
        return
    for folder in (tables, figures):
        if folder is not None:
            say(f"{sum(path.parent == folder for path in written)} files in {folder}")
    say(f"report: {out}")


def _tables(page: Page, folder: Path) -> list[Path]:
    from equiprune.files import write_text
    from equiprune.report import published
    from equiprune.report.papertable import as_csv, as_latex, as_markdown, parts

    table = parts(page.models)
    texts = {"methods.csv": as_csv(table), "methods.tex": as_latex(table), "methods.md": as_markdown(table)}
    texts |= {} if page.published is None else published.files(page.published)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]

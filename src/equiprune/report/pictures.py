"""The figures as SVG and PNG for a paper, drawn by a Chromium that is on the machine already.

plotly draws in a browser; its own way to files brings a browser along, of 200 MB. So we ask for one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from plotly.offline import get_plotlyjs

from equiprune.errors import DataError, Problem, UsageError
from equiprune.files import replacing
from equiprune.report.content import Page
from equiprune.report.draw import PALETTE, Spec
from equiprune.report.plates import plates

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH = 700
SCALE = 2  # pixels of the PNG for each of the SVG
SECONDS = 600
KINDS = ("svg", "png")
PICTURE = re.compile(r'<i data-name="([\w-]+)" data-kind="(svg|png)">([^<]*)</i>')

# Chance is seeded, because plotly names parts of a drawing by it and equal input is to give equal bytes.
DRAWING = """
let state = 1;
Math.random = () => (state = (state * 48271) % 2147483647) / 2147483647;
document.addEventListener("DOMContentLoaded", async () => {
  for (const [name, spec] of Object.entries(JSON.parse(document.getElementById("specs").textContent))) {
    for (const kind of ["svg", "png"]) {
      const found = document.createElement("i");
      found.dataset.name = name;
      found.dataset.kind = kind;
      const size = { width: WIDTH, height: spec.layout.height, scale: kind === "png" ? SCALE : 1 };
      found.textContent = await Plotly.toImage(spec, { format: kind, ...size });
      document.body.append(found);
    }
  }
});
""".replace("WIDTH", str(WIDTH)).replace("SCALE", str(SCALE))


def browser() -> str:
    """The path of a Chromium.

    Raises:
        UsageError: there is none.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        hint = "Install one, or save single figures with the SVG buttons of the page"
        raise UsageError(
            Problem(
                f"figures are drawn by a Chromium or Chrome, and the PATH has none of {', '.join(BROWSERS)}", hint=hint
            )
        )
    return found


def write_figures(page: Page, folder: Path) -> list[Path]:
    """Writes every figure of the page, light and on white, as `ID.svg` and `ID.png`.

    Args:
        page: the page.
        folder: made where it is not there; files of the same name are replaced.

    Raises:
        UsageError: there is no Chromium, or the folder cannot be written to.
        DataError: Chromium did not draw them.
    """
    path = browser()
    specs = {name: _painted(spec) for name, spec in plates(page).specs().items()}
    found = _drawn(path, _page(specs))
    missing = [f"{name}.{kind}" for name in specs for kind in KINDS if (name, kind) not in found]
    if missing:
        raise DataError(Problem(f"{path} did not draw {', '.join(missing[:5])}", hint="Does it start with --headless?"))
    written = []
    for (name, kind), content in found.items():
        with replacing(folder / f"{name}.{kind}") as part:
            part.write_bytes(content)
        written.append(folder / f"{name}.{kind}")
    return written


def _page(specs: Mapping[str, Spec]) -> str:
    # No name of a user's may end the script that it stands in.
    data = json.dumps(specs, allow_nan=False).replace("<", "\\u003c")
    head = f"<script>{get_plotlyjs()}</script><script>{DRAWING}</script>"
    return (
        f'<!DOCTYPE html><meta charset="utf-8">{head}<script type="application/json" id="specs">{data}</script><body>'
    )


def _drawn(path: str, html: str) -> dict[tuple[str, str], bytes]:
    with tempfile.TemporaryDirectory(prefix="equiprune-") as scratch:
        file = Path(scratch) / "figures.html"
        file.write_text(html, encoding="utf-8")
        # Without a sandbox, since containers and root have none: nothing runs there but what is written above.
        command = [
            path,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]
        command += [f"--user-data-dir={scratch}/profile", "--virtual-time-budget=600000", "--dump-dom", file.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise DataError(Problem(f"drawing the figures failed: {error}", file=path)) from None
    pictures = PICTURE.findall(done.stdout.decode("utf-8", "replace"))
    return {(name, kind): _bytes(text.replace("&amp;", "&")) for name, kind, text in pictures}


def _bytes(address: str) -> bytes:
    """The content of a data address."""
    head, _, content = address.partition(",")
    try:
        return base64.b64decode(content, validate=True) if head.endswith(";base64") else unquote_to_bytes(content)
    except binascii.Error as error:
        raise DataError(Problem(f"drawing the figures failed: {error}")) from None


def _painted(spec: Spec) -> Spec:
    found: Spec = _coloured(spec, "")
    return {**found, "layout": {**found["layout"], "paper_bgcolor": "#ffffff", "width": WIDTH}}


def _coloured(value: Any, key: str) -> Any:  # noqa: ANN401 - whatever a figure is made of
    if isinstance(value, Mapping):
        return {name: _coloured(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_coloured(inner, key) for inner in value]
    if isinstance(value, str) and key.endswith(("color", "colorscale")):
        return PALETTE["light"].get(value, value)
    return value

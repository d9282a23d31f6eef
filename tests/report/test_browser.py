"""The page in a real browser, where there is one: all drawn, nothing refused, nothing run that is not ours."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from equiprune.report.page import Page, render

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
LIGHT_BLUE, DARK_BLUE = "rgb(0, 114, 178)", "rgb(91, 184, 240)"
PLOTS = 26
FOREIGN = "script|img|iframe|object|b|br|i|font|sup|base|link|form|input|math|svg onload"
AXE = files("axe_playwright_python") / "axe.min.js"
BARRIERS = """
axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations
  .filter((one) => one.impact === "serious" || one.impact === "critical")
  .map((one) => [one.id, ...one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200) + " " + node.failureSummary)]))
"""
QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
# A browser that is spoken to through pipes listens at 3 and writes to 4.
STARTER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page with")


class Browser:
    """One tab, driven by the browser's own protocol: real keys and clicks, and a record of all it asked for."""

    def __init__(self, folder: Path) -> None:
        theirs_in, self.out = _pipe()
        self.into, theirs_out = _pipe()
        flags = ["--headless", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        command = [sys.executable, "-c", STARTER, str(theirs_in), str(theirs_out), str(CHROMIUM), *flags]
        command += [f"--disable-{part}" for part in QUIET]
        self.process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.count, self.buffer, self.session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{part}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self.count += 1
        message: dict[str, object] = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self.count:
                assert "error" not in found, found
                return dict(found["result"])
            self.events.append(found)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 120
        while b"\0" not in self.buffer:
            assert select.select([self.into], [], [], max(0.0, deadline - time.monotonic()))[0], "the browser is silent"
            self.buffer += os.read(self.into, 1 << 20)
        text, self.buffer = self.buffer.split(b"\0", 1)
        return dict(json.loads(text))

    def show(self, file: Path, *, width: int = 1200) -> None:
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=file.as_uri())
        deadline = time.monotonic() + 60
        while self.ask("document.documentElement?.dataset.drawn ?? null") is None:
            assert time.monotonic() < deadline, "nothing was drawn"
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page answers
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        names = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **names)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def click(self, spot: str) -> None:
        """Clicks a point of the explorer as soon as plotly has it under the pointer; on a busy machine that takes time.

        Args:
            spot: an expression for where it is, which may move as long as figures above it are drawn.
        """
        deadline = time.monotonic() + 20
        while True:
            x, y = self.ask(spot)
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
            time.sleep(0.2)  # plotly looks under the pointer at intervals
            found = self.ask("(document.getElementById('explorer')._hoverdata || []).length")
            if found and [x, y] == self.ask(spot):
                break
            assert time.monotonic() < deadline, "nothing lies under the pointer"
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 40, y=y + 40)
        for what in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1)

    def complaints(self) -> list[object]:
        """Errors and warnings of the console, exceptions, and what went wrong in the page's own script."""
        logged = [
            event["params"]
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
            or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "assert"))
        ]
        own = self.ask("document.documentElement.dataset.error ?? null")
        return logged if own is None else [*logged, own]

    def requests(self) -> set[str]:
        """Everything that was asked for, without what the page holds itself."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return {url for url in asked if not url.startswith(("data:", "blob:"))}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.out)
        os.close(self.into)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are far from 3 and 4, where the browser has its own."""
    ends = os.pipe()
    found = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return found[0], found[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def file(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(page, tmp_path_factory.mktemp("page"))


def written(page: Page, folder: Path) -> Path:
    file = folder / "report.html"
    file.write_text(render(page), encoding="utf-8")
    return file


def test_it_opens_without_a_complaint_and_asks_nobody(browser: Browser, file: Path) -> None:
    for width in (1200, 390):
        browser.show(file, width=width)
        assert browser.complaints() == []
        assert browser.requests() == {file.as_uri()}
        assert browser.ask("document.documentElement.scrollWidth") <= width
        drawn = browser.ask(
            "[...document.querySelectorAll('.plot')].map((plot) => plot.querySelector('.main-svg') !== null)"
        )
        assert drawn == [True] * PLOTS


def test_each_theme_has_its_own_colours(browser: Browser, file: Path) -> None:
    for theme, blue in (("dark", DARK_BLUE), ("light", LIGHT_BLUE)):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        browser.show(file)
        drawn = browser.ask("document.body.innerHTML")
        assert [colour for colour in (LIGHT_BLUE, DARK_BLUE) if colour in drawn] == [blue]


def test_choosing_a_model_by_key_or_click_shows_its_groups(browser: Browser, file: Path) -> None:
    browser.show(file)
    shown = (
        "[document.getElementById('explorer-name').textContent, document.getElementById('explorer-groups').innerText]"
    )
    ring = "document.getElementById('explorer').data.find((trace) => trace.meta === 'chosen').customdata[0]"
    name, groups = browser.ask(shown)
    assert name == "02-fairprune"
    assert "0.520" in groups  # F1 of the first group
    browser.ask("document.getElementById('explorer-model').focus()")
    browser.press("ArrowUp", 38)
    name, groups = browser.ask(shown)
    assert name == "01-vanilla"
    assert "0.500" in groups
    assert browser.ask(ring) == 0
    spot = (
        "(() => { const plot = document.getElementById('explorer'); "
        "plot.scrollIntoView({ block: 'center', behavior: 'instant' });"
        "const { xaxis: x, yaxis: y } = plot._fullLayout, box = plot.getBoundingClientRect();"
        "const data = plot.data.find((trace) => trace.name === 'fairprune');"
        "return [box.left + x._offset + x.l2p(data.x[0]), box.top + y._offset + y.l2p(data.y[0])]; })()"
    )
    browser.click(spot)
    assert browser.ask(shown)[0] == "02-fairprune"
    assert browser.ask(ring) == 1
    assert browser.complaints() == []


def test_another_metric_gap_and_class_are_drawn(browser: Browser, file: Path) -> None:
    browser.show(file)

    def choose(box: str, place: int) -> None:
        browser.ask(f"(() => {{ const box = document.querySelector({box!r}); box.selectedIndex = {place};"
                    "box.dispatchEvent(new Event('change')); })()")  # fmt: skip

    star = "document.getElementById('explorer').data.find((trace) => trace.name === 'baseline')"
    before = browser.ask(f"[{star}.x[0], {star}.y[0]]")
    choose("#explorer-metric", 3)
    choose("#explorer-gap", 1)
    assert before == pytest.approx([0.12, 0.59])
    assert browser.ask(f"[{star}.x[0], {star}.y[0]]") == pytest.approx([0.0132, 0.53])
    assert browser.ask("document.getElementById('explorer').layout.xaxis.title.text") == "Eopp0 (lower is better)"
    curve = "document.getElementById('roc-last').data[1].y"
    mean = browser.ask(curve)
    choose("select[data-heights]", 1)
    one = browser.ask(curve)
    assert len(one) == len(mean) == 62
    assert one != mean
    assert browser.complaints() == []


def test_a_table_is_sorted_by_keyboard(browser: Browser, file: Path) -> None:
    browser.show(file)
    table = "document.querySelector('#class-gaps table')"
    cells = f"[...{table}.tBodies[0].rows].map((row) => row.cells[2].textContent)"
    browser.ask("document.querySelector('#class-gaps details').open = true")
    browser.ask(f"{table}.tHead.rows[0].cells[1].querySelector('button').focus()")
    browser.press("Tab", 9)
    browser.press("Enter", 13, "\r")
    assert browser.ask(f"{table}.tHead.rows[0].cells[2].ariaSort") == "ascending"
    values = [float(cell) for cell in browser.ask(cells)]
    assert values == sorted(values)
    assert len(set(values)) > 1
    browser.press("Enter", 13, "\r")
    assert [float(cell) for cell in browser.ask(cells)] == sorted(values, reverse=True)


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_hostile_text_runs_nothing_and_adds_nothing(
    browser: Browser, hostile_page: Page, hostile_sweep: Page, tmp_path: Path, kind: str
) -> None:
    file = written(hostile_page if kind == "run" else hostile_sweep, tmp_path)
    browser.show(file)
    for box in ("explorer-model", "explorer-gap"):
        browser.ask(f"(() => {{ const box = document.getElementById('{box}'); box.selectedIndex = 0;"
                    "box.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert browser.complaints() == []
    assert browser.requests() == {file.as_uri()}
    dom = browser.ask("document.documentElement.outerHTML")
    body = re.sub(r"<(script|style)\b.*?</\1>", "", dom[dom.index("<body") :], flags=re.DOTALL)
    assert set(re.findall(rf"<({FOREIGN})\b[^>]*>", body)) <= {"b"}
    # Our own bold type stands in table cells only, and never with the hostile word in it.
    assert "<b>bold</b>" not in body
    assert re.search(r"<a\b[^>]*(?:javascript|xlink)", body) is None
    assert re.search(r"<[^>]*\son\w+=\s*[\"'](?:alert|document)", re.sub(r'"[^"]*"', '""', body)) is None


def test_a_foreign_script_is_refused_and_the_refusal_recorded(browser: Browser, page: Page, tmp_path: Path) -> None:
    script = "<script>document.documentElement.dataset.foreign = 'ran'</script>"
    file = tmp_path / "report.html"
    file.write_text(render(page).replace("</main>", f"{script}</main>"), encoding="utf-8")
    browser.show(file)
    assert browser.ask("document.documentElement.dataset.foreign ?? null") is None
    assert browser.ask("document.documentElement.dataset.error") == "script-src-elem blocked inline"


def test_it_prints_with_its_figures(browser: Browser, file: Path) -> None:
    browser.show(file)
    content = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 5
    assert browser.complaints() == []


@pytest.mark.parametrize("kind", ["run", "sweep"])
@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 1200), ("light", 390)])
def test_axe_finds_no_barrier(
    browser: Browser, page: Page, swept_page: Page, tmp_path: Path, kind: str, theme: str, width: int
) -> None:
    """Every rule of axe-core for what keeps people with disabilities out; all that is folded is open."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    browser.show(written(swept_page if kind == "sweep" else page, tmp_path), width=width)
    browser.ask("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    browser.ask(AXE.read_text(encoding="utf-8") + ";0")
    assert browser.ask(BARRIERS) == []


def test_axe_would_find_one(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text("<html lang='en' data-drawn='0'><title>x</title><main><h1>x</h1><button></button></main></html>")
    browser.show(file)
    browser.ask(AXE.read_text(encoding="utf-8") + ";0")
    assert [found[0] for found in browser.ask(BARRIERS)] == ["button-name"]


def test_choosing_a_setting_of_a_sweep_shows_its_values_and_groups(
    browser: Browser, swept_page: Page, tmp_path: Path
) -> None:
    browser.show(written(swept_page, tmp_path))
    assert browser.ask("document.getElementById('explorer-name').textContent") == "beta 0.2 · ratio 0.1"
    browser.ask("(() => { const box = document.getElementById('explorer-model'); box.selectedIndex = 1;"
                "box.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert browser.ask("document.getElementById('explorer-name').textContent") == "beta 0.1 · ratio 0.1"
    assert browser.ask("document.getElementById('explorer-settings').textContent").startswith(
        "On validation, mean over 3"
    )
    assert "female" in browser.ask("document.getElementById('explorer-groups').innerText")
    assert browser.ask("document.getElementById('explorer-gaps').rows.length") == 3
    assert browser.complaints() == []

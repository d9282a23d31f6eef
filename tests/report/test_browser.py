"""The page in a real browser, where there is one: all drawn, nothing refused, nothing run that is not ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from equiprune.report.page import Page, render

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
LIGHT_BLUE, DARK_BLUE = "rgb(0, 114, 178)", "rgb(91, 184, 240)"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page with")


def browse(html: str, folder: Path, *flags: str) -> str:
    """The page's elements after its scripts have run."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{part}" for part in quiet),
               f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000",
               *flags, file.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def root(dom: str) -> str:
    found = re.search(r"<html[^>]*>", dom)
    assert found is not None
    return found.group()


def assert_drawn(dom: str, blue: str) -> None:
    assert 'data-drawn="17"' in root(dom)
    plots = re.split(r'<div class="(?:plot|plot wide)[ "]', dom)[1:]
    assert len(plots) == 17
    assert all("main-svg" in plot for plot in plots)
    drawn = dom[dom.index("<body") :]
    assert [colour for colour in (LIGHT_BLUE, DARK_BLUE) if colour in drawn] == [blue]


def test_every_figure_is_drawn_and_the_dark_theme_has_its_own_colours(page: Page, tmp_path: Path) -> None:
    dom = browse(render(page), tmp_path, "--dump-dom", "--blink-settings=preferredColorScheme=0")
    assert "data-error" not in root(dom)
    assert_drawn(dom, DARK_BLUE)


def test_hostile_text_runs_nothing_and_adds_nothing(hostile_page: Page, tmp_path: Path) -> None:
    dom = browse(render(hostile_page), tmp_path, "--dump-dom")
    assert "data-error" not in root(dom)
    assert_drawn(dom, LIGHT_BLUE)
    body = re.sub(r"<(script|style)\b.*?</\1>", "", dom[dom.index("<body") :], flags=re.DOTALL)
    assert set(re.findall(r"<(script|img|iframe|object|b|br|i|font|svg onload)\b[^>]*>", body)) <= {"b"}
    # Our own bold type stands in table cells only, and never with the hostile word in it.
    assert "<b>bold</b>" not in body
    assert re.search(r"<a\b[^>]*(?:javascript|xlink)", body) is None
    assert re.search(r"<[^>]*\son\w+=\s*[\"'](?:alert|document)", re.sub(r'"[^"]*"', '""', body)) is None


def test_a_foreign_script_is_refused_and_the_refusal_recorded(page: Page, tmp_path: Path) -> None:
    script = "<script>document.documentElement.dataset.foreign = 'ran'</script>"
    dom = browse(render(page).replace("</main>", f"{script}</main>"), tmp_path, "--dump-dom")
    assert "data-foreign" not in root(dom)
    assert 'data-error="script-src-elem blocked inline"' in root(dom)


def test_it_prints_with_its_figures(page: Page, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    browse(render(page), tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={target}")
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 5

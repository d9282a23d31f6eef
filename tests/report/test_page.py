from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from equiprune.audit import audit
from equiprune.predictions import Predictions
from equiprune.report import figures
from equiprune.report.draw import Dot, Series, dots, label
from equiprune.report.page import Page, StepPage, render
from equiprune.report.saliency import saliency
from equiprune.report.verdict import EVIDENCE, verdict

Make = Callable[..., Page]


class Elements(HTMLParser):
    """What a browser makes of the page: its elements with their attributes, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text.append(data)

    def tags(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.found)


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return render(page)


@pytest.fixture(scope="module")
def elements(html: str) -> Elements:
    return Elements(html)


def changed(page: Page, at: int, **parts: Any) -> Page:  # noqa: ANN401
    steps = list(page.steps)
    steps[at] = dataclasses.replace(steps[at], audit={**steps[at].audit, **parts})
    return dataclasses.replace(page, steps=tuple(steps))


def words(page: Page) -> str:
    return " ".join(verdict(page).sentences)


def test_the_same_input_gives_the_same_bytes(page: Page, html: str) -> None:
    assert render(page) == html


def test_the_page_says_what_it_does_not_show(elements: Elements) -> None:
    assert EVIDENCE in elements.text
    assert EVIDENCE == "This report describes evidence; it does not show that a model is fair or fit for clinical use."


def test_only_our_two_scripts_may_run(elements: Elements) -> None:
    policy = next(
        attrs["content"] for tag, attrs in elements.found if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    scripts = [attrs for tag, attrs in elements.found if tag == "script"]
    texts = [text for text, attrs in zip(elements.scripts, scripts, strict=True) if attrs.get("type") is None]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert len(hashes) == 2
    assert "'unsafe-eval'" not in policy
    assert "http" not in policy


def test_nothing_is_loaded_from_anywhere(elements: Elements) -> None:
    addresses = [attrs.get(name) or "" for _, attrs in elements.found for name in ("src", "href", "action", "srcset")]
    assert [address for address in addresses if address and not address.startswith("#")] == []


def test_ids_are_unique_and_every_link_has_its_target(elements: Elements) -> None:
    ids = Counter(attrs["id"] for _, attrs in elements.found if "id" in attrs)
    assert max(ids.values()) == 1
    links = {(attrs["href"] or "")[1:] for tag, attrs in elements.found if tag == "a" and "href" in attrs}
    assert links <= set(ids)


def test_every_figure_has_a_finding_and_a_table(elements: Elements) -> None:
    tags = elements.tags()
    assert tags["figure"] == tags["figcaption"] == 10
    plots = [attrs for tag, attrs in elements.found if attrs.get("class") in ("plot", "plot wide")]
    assert len(plots) == 26
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in plots)


def test_plotly_accepts_every_figure(elements: Elements, palette: Mapping[str, Mapping[str, str]]) -> None:
    def painted(value: Any, key: str = "") -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {name: painted(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [painted(inner, key) for inner in value]
        return (
            palette["light"].get(value, value)
            if key.endswith(("color", "colorscale")) and isinstance(value, str)
            else value
        )

    specs = [json.loads(text) for (tag, attrs), text in zip(
        [found for found in elements.found if found[0] == "script"], elements.scripts, strict=True
    ) if (attrs.get("id") or "").startswith("spec-")]  # fmt: skip
    assert len(specs) == 26
    for spec in specs:
        go.Figure(painted(spec))  # raises ValueError on a name or value plotly does not know


def test_hostile_text_adds_no_element(hostile_page: Page, make_page: Make) -> None:
    groups = tuple(f"g{at}" for at in range(len(hostile_page.groups)))
    classes = tuple(f"c{at}" for at in range(len(hostile_page.data["classes"])))
    tame = Elements(render(make_page(groups, classes)))
    wild_html = render(hostile_page)
    wild = Elements(wild_html)
    assert wild.tags() == tame.tags()
    names = {name for _, attrs in wild.found for name in attrs}
    assert names == {name for _, attrs in tame.found for name in attrs}
    assert not any(name.startswith("on") for name in names)
    assert "{{ 7 * 7 }}" in wild_html
    assert "\u202e" not in wild_html
    assert "<b>bold</b>" in " ".join(wild.text)
    wild_html.encode("utf-8")


def test_hostile_labels_reach_plotly_as_text(hostile_page: Page) -> None:
    found = [figures.per_group(hostile_page), figures.gaps(hostile_page), figures.iterations(hostile_page.last, 1),
             figures.training(hostile_page.first, 0), saliency(hostile_page.last, 1)]  # fmt: skip

    def strings(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in strings(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    texts = [text for figure in found if figure for panel in figure.panels for text in strings(panel.spec)]
    assert len(texts) > 500
    assert not any("<" in text or "\u202e" in text for text in texts)


def test_long_labels_are_cut_before_they_are_escaped() -> None:
    assert label("<" * 100, longest=3) == "&lt;&lt;…"


def test_a_gap_is_called_chance_or_not_by_its_p_value(page: Page) -> None:
    gap = page.last.audit["gaps"]["eopp1"]
    for p_value, said in (
        (0.049, "The gap is distinguishable"),
        (0.05, "not distinguishable"),
        (None, "cannot be said"),
    ):
        gaps = {**page.last.audit["gaps"], "eopp1": {**gap, "p_value": p_value}}
        assert said in verdict(changed(page, 1, gaps=gaps)).sentences[1]


def test_other_gaps_are_named_where_they_are_no_chance_even_so(page: Page) -> None:
    gaps = page.last.audit["gaps"]
    assert "02-fairprune: of 4 other gaps" not in words(page)
    sure = {**gaps, "auroc": {**gaps["auroc"], "value": 0.289, "p_value": 0.001}, "f1": {**gaps["f1"], "p_value": 0.02}}
    said = words(changed(page, 1, gaps=sure))
    assert (
        "02-fairprune: of 4 other gaps, distinguishable from chance even when corrected for their number: AUROC" in said
    )
    assert "(p = 0.001)." in said


def test_an_overlap_is_not_sold_as_a_change(page: Page) -> None:
    assert "Eopp1 went from 0.120 to 0.080 (−0.040); the intervals overlap, so the change may be chance" in words(page)
    gaps = {
        **page.last.audit["gaps"],
        "eopp1": {"value": 0.02, "low": 0.01, "high": 0.03, "floor": 0.06, "p_value": 0.9},
    }
    assert "the intervals do not overlap; this is one training run" in words(changed(page, 1, gaps=gaps))


def test_two_gaps_at_the_floor_are_no_evidence_of_a_change(page: Page) -> None:
    assert "neither is evidence" not in words(page)
    low = {"value": 0.05, "low": 0.02, "high": 0.09, "floor": 0.06, "p_value": 0.7}
    for at in (0, 1):
        page = changed(page, at, gaps={**page.steps[at].audit["gaps"], "eopp1": low})
    assert "neither is evidence of a change" in words(page)


def test_the_worse_off_group_is_the_one_with_the_lowest_f1(page: Page) -> None:
    rows = page.last.audit["by_group"]
    swapped = {
        "female": {**rows["female"], "f1": rows["male"]["f1"]},
        "male": {**rows["male"], "f1": rows["female"]["f1"]},
    }
    assert "female is worse off, with the lowest F1, 0.580" in words(page)
    assert "male is worse off, with the lowest F1, 0.580" in words(changed(page, 1, by_group=swapped))


def test_what_is_undefined_is_said_and_not_shown_as_zero(page: Page) -> None:
    nothing = {"value": None, "low": None, "high": None}
    audit = page.last.audit
    gaps = {
        name: {**nothing, "floor": None, "p_value": None, "classes_used": 0, "classes_skipped": 3}
        for name in audit["gaps"]
    }
    groups = {name: {**row, **dict.fromkeys(("f1", "accuracy", "recall", "precision", "auroc", "ece"), nothing)}
              for name, row in audit["by_group"].items()}  # fmt: skip
    bare = changed(page, 1, gaps=gaps, by_group=groups, fate={"eopp0": None, "eopp1": None, "eodd": None})
    said = words(bare)
    assert "Eopp1) is not estimable" in said
    assert "which group is worse off cannot be said" in said
    assert "FATE" not in said
    elements = Elements(render(bare))
    assert "undefined" in elements.text
    assert "nan" not in " ".join(elements.text).lower().split()


def test_warnings_hold_the_notices_and_name_small_groups(page: Page) -> None:
    rows = page.last.audit["by_group"]
    small = changed(page, 1, by_group={**rows, "female": {**rows["female"], "n": 12}}, notices=["no unit ids"])
    said = verdict(dataclasses.replace(small, data={**page.data, "unit": None, "units": None})).warnings
    assert said == (
        "Only 12 test images of female: its figures are little more than anecdotes.",
        "1 class left out of Eopp1: no images in some group.",
        "No unit ids.",
        "2 rows have no label.",
    )


def test_keeping_the_unpruned_model_is_said(page: Page) -> None:
    kept = dataclasses.replace(page.last, facts={**page.last.facts, "kept_iteration": 0})
    said = " ".join(verdict(dataclasses.replace(page, steps=(page.first, kept))).warnings)
    assert "no pruning iteration beat the model before pruning" in said


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_steps(page: Page, count: int) -> None:
    steps = (*page.steps, page.last)[:count]
    found = Elements(render(dataclasses.replace(page, steps=steps)))
    assert ("Change since 01-vanilla" in found.text) is (count > 1)


def test_no_step_is_refused(page: Page) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        dataclasses.replace(page, steps=())


def test_a_missing_part_of_the_audit_is_an_error(page: Page) -> None:
    step: StepPage = page.last
    audit = {name: part for name, part in step.audit.items() if name != "by_class"}
    with pytest.raises(KeyError, match="by_class"):
        render(dataclasses.replace(page, steps=(page.first, dataclasses.replace(step, audit=audit))))


def test_an_interval_that_misses_its_value_is_drawn_where_it_stands() -> None:
    spec = dots(["a"], [Series("gap", 0, (Dot(0.192, 0.235, 0.298),))], "gap")
    whiskers, marker = spec["data"]
    assert whiskers["x"] == [0.235, 0.298, None]
    assert marker["x"] == [0.192]


def test_saliency_finding_counts_the_weights(page: Page) -> None:
    found = {"parameter": "w", "groups": ["female", "male"], "index": [0, 1, 2, 3], "layers": [],
             "values": {"female": [1.0, 4.0, 2.0, 0.0], "male": [2.0, 1.0, 1.0, 1.0]}}  # fmt: skip
    figure = saliency(dataclasses.replace(page.last, saliency=found), 1)
    assert figure is not None
    assert figure.finding.startswith("50.0 % of the first layer's weights shown matter more to female than to male")
    assert [row[0] for row in figure.table.rows] == ["1", "2", "0", "3"]
    assert len(figure.panels) == 1


def test_the_kept_iteration_is_marked_where_it_stands(page: Page) -> None:
    figure = figures.iterations(page.last, 1)
    assert figure is not None
    shape = figure.panels[0].spec["layout"]["shapes"][0]
    assert shape["x0"] == shape["x1"] == pytest.approx(25.0)
    assert "iteration 5 was kept, with 25.0 %" in figure.finding
    assert figures.iterations(page.first, 0) is None
    assert figures.training(page.last, 1) is None


def test_114_classes_stay_under_eight_megabytes(make_page: Make) -> None:
    page = make_page(("light", "dark"), tuple(f"condition {at}" for at in range(114)))
    assert len(render(page).encode()) < 8_000_000


def predictions(groups: int, multilabel: bool, skill: float) -> Predictions:
    """Scores that are right more often in later groups; the last group has no row of class 2."""
    random = np.random.default_rng(3)
    group = random.integers(-1, groups, 600)
    label = random.integers(0, 3, 600)
    label[(group == groups - 1) & (label == 2)] = 0
    logits = random.normal(size=(600, 3)) + (skill + 0.4 * group[:, None]) * np.eye(3)[label]
    names, kinds = ["mel", "nev", "bcc"], [f"type {at}" for at in range(groups)]
    if multilabel:
        return Predictions(np.eye(3)[label], 1 / (1 + np.exp(-logits)), group, names, kinds, attribute="skin type")
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    unit = [f"patient {at // 2}" for at in range(600)]
    return Predictions(label, score, group, names, kinds, attribute="skin type", unit=unit)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("groups", [2, 4])
def test_real_audits_make_a_page(make_page: Make, groups: int, multilabel: bool) -> None:
    audits = [audit(predictions(groups, multilabel, skill), replicates=60).to_dict() for skill in (0.5, 1.5)]
    audits[1]["fate"] = {"baseline": "01-vanilla", "eopp0": None, "eopp1": 0.1, "eodd": -0.1}
    kinds = tuple(audits[0]["attribute"]["groups"])
    made = make_page(kinds, ("mel", "nev", "bcc"))
    steps = [dataclasses.replace(step, audit=found) for step, found in zip(made.steps, audits, strict=True)]
    page = dataclasses.replace(made, steps=tuple(steps))
    said = verdict(page)
    assert ("the most distant pair" in said.sentences[1]) is (groups == 4)
    assert any("rows of unknown skin type" in warning for warning in said.warnings)
    lowest = min(kinds, key=lambda kind: audits[1]["by_group"][kind]["f1"]["value"])
    assert said.cards[1].answer == lowest
    text = Elements(render(page)).text
    assert f"{audits[1]['overall']['f1']['value']:.3f}" in text


def _with(step: StepPage, method: str, gap: float, **facts: object) -> StepPage:
    audit = json.loads(json.dumps(step.audit))
    audit["gaps"]["eopp1"]["value"] = gap
    return dataclasses.replace(step, name=method, method=method, audit=audit, facts={**step.facts, **facts})


@pytest.mark.parametrize(
    ("method", "controls", "answer"),
    [
        (0.05, [0.07, 0.11], "shrank it more than every control did"),
        (0.08, [0.07, 0.11], "gained nothing that random channels do not give as well"),
        (0.2, [0.07], "did not shrink the gap"),
    ],
)
def test_a_gain_that_random_channels_give_as_well_is_no_gain(
    page: Page, method: float, controls: list[float], answer: str
) -> None:
    steps = (
        _with(page.first, "vanilla", 0.1),
        _with(page.last, "scp", method),
        *(_with(page.last, "random_channels", gap) for gap in controls),
    )
    sentences = verdict(dataclasses.replace(page, steps=steps)).sentences
    (found,) = [sentence for sentence in sentences if sentence.startswith("Control: scp")]
    assert answer in found
    assert not any("Control:" in sentence for sentence in verdict(page).sentences)


def test_what_was_saved_is_said_for_channels_and_denied_for_zeros(page: Page) -> None:
    cut = _with(page.last, "scp", 0.1, parameters=5_600_000, zeros=0, flops=2e9, latency_ms={"1": 5.0, "32": 80.0})
    first = _with(page.first, "vanilla", 0.1, flops=4e9, latency_ms={"1": 10.0, "32": 160.0})
    smaller = dataclasses.replace(page, steps=(first, cut))
    assert any(
        "50.0 % of the parameters are left, and 50.0 % of the arithmetic" in s for s in verdict(smaller).sentences
    )
    html = render(smaller)
    assert "80 ms (2.00 times less)" in html
    assert "5,600,000 (2.00 times less)" in html
    assert "4 GFLOP" in html
    assert any("neither time nor space" in sentence for sentence in verdict(page).sentences)


def test_channels_are_called_channels(page: Page) -> None:
    log = [{**record, "channels": {"conv": 4}} for record in page.last.log]
    figure = figures.iterations(dataclasses.replace(page.last, log=log), 1)
    assert figure is not None
    assert "of the channels removed" in figure.finding

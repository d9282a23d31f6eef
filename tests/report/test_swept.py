"""A sweep on the page: all that was tried on validation, and what is said of the choice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from equiprune.report.content import SweepPage, Tried
from equiprune.report.document import as_text
from equiprune.report.marks import Explorer
from equiprune.report.over_axis import over_axes
from equiprune.report.page import Page, render
from equiprune.report.sweepwords import on_test, sweep_warnings, swept_sentences
from equiprune.report.swept import swept
from equiprune.report.tried import baselines, settings
from equiprune.report.verdict import verdict

Make = Callable[..., SweepPage]


def explored(page: Page, sweep: SweepPage) -> Explorer:
    found = swept(page, sweep)
    assert found is not None
    return found


def changed(point: Tried, at: int, **figures: Any) -> Tried:  # noqa: ANN401
    steps = list(point.steps)
    steps[at] = {**steps[at], **figures}
    return dataclasses.replace(point, steps=steps)


def test_settings_are_means_over_seeds(sweep_of: Make) -> None:
    found = settings(sweep_of())
    assert [one.name for one in found][:3] == ["beta 0.1 · ratio 0.1", "beta 0.1 · ratio 0.35", "beta 0.2 · ratio 0.1"]
    assert [one.taken for one in found] == [False, False, True, False, False, False]
    assert [point.choice["seed"] for point in found[0].points] == [0, 1, 2]
    assert found[0].lost == pytest.approx(0.02 + 0.001 - 0.002)
    (base,) = baselines(sweep_of())
    assert base.name == "01-vanilla (baseline)"
    assert len(base.steps) == 3


def test_every_setting_is_explored_on_validation(page: Page, sweep_of: Make) -> None:
    found = explored(page, sweep_of())
    assert found.names[:2] == ("01-vanilla (baseline)", "beta 0.1 · ratio 0.1")
    assert len(found.names) == 7
    assert found.names[found.chosen] == "beta 0.2 · ratio 0.1"
    assert list(found.metrics) == ["f1", "mean_f1", "worst_f1"]
    assert list(found.gaps) == ["eopp1", "eopp0", "eodd"]
    values = found.data["metrics"]["f1"]
    assert values["value"][0] == pytest.approx(0.61)
    assert values["low"][0] == pytest.approx(0.61 - 4.3027 * 0.01 / 3**0.5, abs=1e-4)
    assert found.data["metrics"]["worst_f1"]["value"][0] == pytest.approx(0.59)
    assert "on validation" in found.title
    assert "not on test" in found.hint
    assert "Validation has 1,132 images" in found.note
    assert "On validation, on the front" in found.advice
    assert found.advice.startswith("The sweep's rule took beta 0.2 · ratio 0.1.")
    traces = {trace["name"]: trace for trace in found.spec["data"]}
    assert {"FATE = 0", "front", "vanilla", "beta 0.1", "beta 0.2", "beta 0.4", "baseline", "taken", "chosen"} == set(
        traces
    )
    assert traces["taken"]["customdata"] == [3]
    assert traces["baseline"]["customdata"] == [0]
    assert "error_y" in traces["beta 0.1"]
    details = found.data["details"][3]
    assert details["settings"].startswith("On validation, mean over 3 seeds (0, 1, 2); 20.0 % of 11,200,000 parameters")
    assert details["settings"].endswith("This setting was taken.")
    assert details["groups"][0][0] == "female"
    assert len(details["groups"][0]) == len(found.heads[0]) == 4
    assert len(details["gaps"][0]) == len(found.heads[1]) == 5
    assert [row[-1] for row in found.table.rows] == ["baseline", "–", "–", "taken", "–", "–", "–"]


def test_two_seeds_have_no_bars_and_one_no_interval(page: Page, sweep_of: Make) -> None:
    two = explored(page, sweep_of(seeds=(0, 1)))
    assert two.data["metrics"]["f1"]["low"] == [None] * 7
    assert "[" in two.data["details"][1]["groups"][0][1]
    one = explored(page, sweep_of(seeds=(0,)))
    assert "one seed" in one.data["details"][1]["settings"]
    assert "[" not in one.data["details"][1]["groups"][0][1]


def test_a_model_that_says_the_same_of_every_image_is_on_no_front(page: Page, sweep_of: Make) -> None:
    sweep = sweep_of(seeds=(0,), taken=None, seen=())
    points = (changed(sweep.points[0], -1, eopp1=0.0, f1=0.9, constant=True), *sweep.points[1:])
    found = explored(page, dataclasses.replace(sweep, points=points))
    assert 1 not in found.data["pairs"]["f1 eopp1"]["front"]
    assert "It says the same of every image" in found.data["details"][1]["settings"]
    assert "constant" in [trace["name"] for trace in found.spec["data"]]
    assert "taken" not in [trace["name"] for trace in found.spec["data"]]
    (beta, _) = over_axes(dataclasses.replace(sweep, points=points))
    assert "and not counted" in beta.finding
    assert "0.900" not in beta.finding


def test_figures_that_are_not_estimable_are_left_blank(page: Page, sweep_of: Make) -> None:
    sweep = sweep_of(seeds=(0,))
    nothing = {"eopp1": None, "eopp0": None, "eodd": None}
    bare = tuple(changed(changed(point, 0, **nothing), -1, **nothing) for point in sweep.points)
    assert swept(page, dataclasses.replace(sweep, points=bare)) is None
    part = (changed(sweep.points[0], -1, eopp1=None), *sweep.points[1:])
    found = explored(page, dataclasses.replace(sweep, points=part))
    assert found.data["gaps"]["eopp1"]["value"][1] is None
    assert found.table.rows[1][4] == "not estimable"
    no_f1 = tuple(changed(changed(point, 0, eopp1=None), -1, eopp1=None) for point in sweep.points)
    told = explored(page, dataclasses.replace(sweep, points=no_f1))
    assert list(told.gaps) == ["eopp0", "eodd"]
    half = {"f1_by_group": {"female": None, "male": 0.5}}
    lone = tuple(changed(changed(point, 0, **half), -1, **half) for point in sweep.points)
    assert list(explored(page, dataclasses.replace(sweep, points=lone)).metrics) == ["f1", "worst_f1"]


def test_an_axis_of_the_first_step_has_a_baseline_for_each_value(page: Page, sweep_of: Make) -> None:
    sweep = sweep_of(seeds=(0,))
    points = tuple(
        dataclasses.replace(point, choice={"model.backbone": name, **point.choice})
        for name in ("resnet18", "vgg11_bn")
        for point in sweep.points
    )
    points = tuple(dataclasses.replace(point, name=f"{at}") for at, point in enumerate(points))
    wide = dataclasses.replace(sweep, points=points, axes={"model.backbone": "backbone", **sweep.axes}, taken=None)
    found = explored(page, wide)
    assert found.names[:2] == ("01-vanilla, backbone resnet18 (baseline)", "01-vanilla, backbone vgg11_bn (baseline)")
    assert found.data["pairs"]["f1 eopp1"]["fate"] == [[], []]
    beta, ratio = over_axes(wide)  # the backbone is no number
    assert [trace["name"] for trace in beta.panels[0].spec["data"]] == ["mean of the others"]
    assert "mean over all values of backbone and ratio" in beta.finding
    assert beta.panels[0].spec["data"][0]["error_y"]["array"][0] > 0
    assert ratio.table.head[0] == "ratio"


def test_each_axis_has_lines_for_the_values_of_the_other(sweep_of: Make) -> None:
    beta, ratio = over_axes(sweep_of())
    f1, gap = beta.panels
    assert [trace["name"] for trace in f1.spec["data"]] == ["ratio 0.1", "ratio 0.35", "baseline"]
    assert f1.spec["data"][0]["x"] == [0.1, 0.2, 0.4]
    assert f1.spec["data"][0]["y"][0] == pytest.approx(0.6 + 0.012 - 0.02 - 0.001)
    assert f1.spec["data"][0]["error_y"]["array"][0] == pytest.approx(4.3027 * 0.012 / 3**0.5, rel=1e-3)
    assert gap.title == "Eopp1 over beta, on validation"
    assert "F1 is highest at beta 0.1" in beta.finding
    assert "Eopp1 is smallest at beta 0.4" in beta.finding
    assert len(ratio.panels[0].spec["data"]) == 4
    assert len(ratio.table.rows) == 6


def test_a_single_axis_has_one_line_and_a_search_has_points(sweep_of: Make) -> None:
    (beta,) = over_axes(sweep_of(ratios=(0.1,)))
    assert [trace["name"] for trace in beta.panels[0].spec["data"]] == ["settings", "baseline"]
    many = tuple(at / 100 for at in range(1, 12))
    beta, ratio = over_axes(sweep_of(betas=many, ratios=(0.001, 0.35)))
    assert ratio.panels[0].spec["data"][0]["mode"] == "markers"
    assert ratio.panels[0].spec["layout"]["xaxis"]["type"] == "log"
    assert "type" not in beta.panels[0].spec["layout"]["xaxis"]
    assert over_axes(sweep_of(betas=(0.1,), ratios=(0.1,))) == ()


def test_the_verdict_says_how_many_were_tried_and_that_one_was_taken(sweep_of: Make) -> None:
    told = swept_sentences(sweep_of())
    assert told[0] == (
        "6 settings of beta and ratio were tried over 3 seeds: 18 runs, and 1 more could not be carried out."
    )
    assert "One was taken, by validation alone: beta 0.2 · ratio 0.1, the smallest Eopp1 that loses at most" in told[1]
    assert "Test figures exist for the taken one only." in told[1]
    assert (
        "Eopp1 0.145 on validation and 0.150 on test (baseline 0.200), means over 3 seeds. Shown in detail" in told[2]
    )
    assert sweep_warnings(sweep_of()) == []
    looked = sweep_of(looked=2)
    assert "Test figures are shown for the taken one only." in swept_sentences(looked)[1]
    assert "2 other runs of this sweep have test figures too" in " ".join(sweep_warnings(looked))


def test_a_sweep_that_is_not_finished_or_took_nothing_says_so(sweep_of: Make) -> None:
    begun = sweep_of(seeds=(0,), betas=(0.1,), ratios=(0.1,), budget=None, taken=None, among=None, seen=(), left=5)
    told = swept_sentences(begun)
    assert told[0].startswith(
        "1 setting of beta and ratio was tried: 1 run, and 1 more could not be carried out; 5 are left"
    )
    assert told[1] == "No choice has been made yet. Everything here is on validation; no test figure exists."
    assert "All figures on this page are on validation images" in sweep_warnings(begun)[0]
    none = swept_sentences(sweep_of(taken=None, seen=()))
    assert none[1].startswith("None was taken: no setting loses at most 0.05 of macro F1")
    late = swept_sentences(sweep_of(seen=(), among=16))
    assert late[2] == "The taken setting is not audited on test yet: the same `equiprune sweep` does it."
    assert late[3] == "2 runs came in after the choice, and had no part in it."
    alone = sweep_of(seeds=(0,))
    assert "another seed may take another" in sweep_warnings(alone)[0]
    assert "means over" not in swept_sentences(alone)[2]


def test_the_taken_setting_is_told_seed_by_seed(sweep_of: Make) -> None:
    rows = on_test(sweep_of()).rows
    assert [row[0] for row in rows] == ["0", "1", "2", "Mean"]
    assert rows[0][1:4] == ("0.600", "0.570", "−0.030")
    assert rows[3][3].startswith("−0.020 [−0.045, +0.0048]")
    assert on_test(sweep_of(seeds=(0,))).rows == ()
    sweep = sweep_of(seeds=(0, 1))
    lost = tuple(dataclasses.replace(one, after={**one.after, "eopp1": None}) for one in sweep.seen)
    assert on_test(dataclasses.replace(sweep, seen=lost)).rows[0][-1] == "not estimable"


def test_the_page_and_its_data_hold_the_sweep(swept_page: Page, page: Page) -> None:
    html = render(swept_page)
    assert "Trade-off of all that was tried, on validation" in html
    assert "The taken setting on test, seed by seed" in html
    assert "What beta does, on validation" in html
    found = json.loads(as_text(swept_page))
    assert found["split"] == "test"
    assert len(found["sweep"]["points"]) == 18
    assert json.loads(as_text(page))["sweep"] is None


def test_a_page_on_validation_never_says_test(page: Page, sweep_of: Make) -> None:
    sweep = sweep_of(budget=None, taken=None, among=None, seen=())
    alone = dataclasses.replace(page, steps=page.steps[:1], split="validation", sweep=sweep)
    said = verdict(alone)
    assert said.audited.startswith("1,132 validation images of 800 patients")
    assert said.cards[0].question == "Validation images"
    html = render(alone)
    assert "On the validation split." in html
    assert "test image" not in html


def test_hostile_values_of_a_sweep_stay_text(hostile_page: Page, sweep_of: Make) -> None:
    groups = tuple(hostile_page.groups)
    bad = ("<b>1</b>", '"><img src=x onerror=alert(1)>', "</script>")
    sweep = sweep_of(groups=groups, seeds=(0,))
    points = tuple(
        dataclasses.replace(point, choice={**point.choice, "2.beta": bad[at % 3]})
        for at, point in enumerate(sweep.points)
    )
    html = render(dataclasses.replace(hostile_page, sweep=dataclasses.replace(sweep, points=points, taken=None)))
    assert "<b>1</b>" not in html
    assert "<img src=x" not in html

"""Figures that the page of the other tests does not reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from equiprune.report.by_score import calibration, roc
from equiprune.report.channels import fate_together, scores
from equiprune.report.class_gaps import class_gaps
from equiprune.report.confusion import confusion
from equiprune.report.content import Model, Page, StepPage
from equiprune.report.explorer import explorer
from equiprune.report.figures import per_group
from equiprune.report.page import render
from equiprune.report.plates import plates

Make = Callable[..., Page]
NOTHING = {"value": None, "low": None, "high": None}


def with_audit(page: Page, **parts: Any) -> Page:  # noqa: ANN401
    last = dataclasses.replace(page.last, audit={**page.last.audit, **parts})
    return dataclasses.replace(page, steps=(*page.steps[:-1], last))


def without_predictions(page: Page) -> Page:
    return dataclasses.replace(page, steps=tuple(dataclasses.replace(step, predicted=None) for step in page.steps))


def scp(step: StepPage, cut: tuple[int, ...], *, kept: int = 1, method: str = "scp") -> StepPage:
    before, after = [0.3, 0.1, 0.2, 0.9], [0.5, 0.6]
    log = [
        {**record, "scores": {"conv": values}, "cut": gone, "channels": {"conv": len(values)}}
        for record, values, gone in zip(step.log, (before, after), ({}, {"conv": list(cut)}), strict=False)
    ]
    return dataclasses.replace(step, name=f"{method}-x", method=method, log=log, facts={"kept_iteration": kept})


def test_cut_channels_are_marked_among_the_sorted_scores(page: Page) -> None:
    figure = scores(scp(page.last, (1, 2)), 0)
    assert figure is not None
    before, after, cut = figure.panels[0].spec["data"]
    assert before["y"] == [0.1, 0.2, 0.3, 0.9]
    assert after["y"] == [0.5, 0.6]
    assert (cut["x"], cut["y"], cut["mode"]) == ([1, 2], [0.1, 0.2], "markers")
    assert (
        "Of 4 channels, 2 were cut: before pruning their mean score was 0.15, that of the others 0.6" in figure.finding
    )
    assert "keeps the groups apart" in figure.finding
    assert [row[3] for row in figure.table.rows] == ["left", "cut", "cut", "left"]
    other = scores(scp(page.last, (1, 2), method="magnitude_channels"), 0)
    assert other is not None
    assert "keeps the groups apart" not in other.finding


@pytest.mark.parametrize("cut", [(0, 3), (1, 17)])
def test_channels_that_were_numbered_before_an_earlier_cut_are_not_marked(page: Page, cut: tuple[int, ...]) -> None:
    figure = scores(scp(page.last, cut), 0)
    assert figure is not None
    assert len(figure.panels[0].spec["data"]) == 2
    assert "not marked" in figure.finding


def test_a_model_that_was_kept_whole_has_no_channel_missing(page: Page) -> None:
    figure = scores(scp(page.last, (1, 2), kept=0), 0)
    assert figure is not None
    assert figure.finding == "No channel is missing from the model that was kept."
    assert scores(page.last, 0) is None


def test_fate_of_several_steps_is_drawn_together(page: Page) -> None:
    assert fate_together(page) is None
    worse = [{**record, "fate": {"eopp1": -0.1 * record["iteration"]}} for record in page.last.log]
    other = dataclasses.replace(page.last, name="worse", log=worse)
    figure = fate_together(dataclasses.replace(page, steps=(*page.steps, other)))
    assert figure is not None
    assert "FATE on Eopp1 is highest in 02-fairprune, 0.210 with 35.0 % removed" in figure.finding
    assert [len(panel.spec["data"]) for panel in figure.panels] == [2, 2, 2]
    both = fate_together(dataclasses.replace(page, steps=(page.first, other, other)))
    assert both is not None
    assert "no iteration has a FATE above 0" in both.finding


def test_without_predictions_there_is_no_figure_of_scores(page: Page) -> None:
    bare = without_predictions(page)
    assert roc(bare) is None
    assert calibration(bare) is None
    assert confusion(bare) is None
    assert 'id="roc"' not in render(bare)


def test_two_classes_show_the_curve_of_the_second(make_page: Make) -> None:
    figure = roc(make_page(("f", "m"), ("no", "yes")))
    assert figure is not None
    assert figure.choice is not None
    assert figure.choice.names == ("yes", "no")
    alone = make_page(("f", "m"), ("no", "yes"))
    figure = roc(dataclasses.replace(alone, steps=alone.steps[:1]))
    assert figure is not None
    assert len(figure.panels) == 1


def test_auroc_of_one_group_is_no_comparison(page: Page) -> None:
    figure = roc(page)
    assert figure is not None
    assert "not estimable for at least two groups" in figure.finding
    rows = {group: {**row, "auroc": {"value": 0.7 + at / 10, "low": 0.6, "high": 0.9}}
            for at, (group, row) in enumerate(page.last.audit["by_group"].items())}  # fmt: skip
    figure = roc(with_audit(page, by_group=rows))
    assert figure is not None
    assert "ranks images of female worst" in figure.finding.replace("rank images", "ranks images")


def test_the_map_shows_where_the_gap_is_more_than_chance(page: Page) -> None:
    figure = class_gaps(page)
    assert figure is not None
    # melanoma is 0.02, naevus 0.03 on few images, basal cell carcinoma 0.04 and surely there.
    assert figure.panels[0].spec["layout"]["yaxis"]["ticktext"] == ["basal cell carcinoma", "melanoma", "naevus"]
    assert figure.panels[0].spec["data"][0]["text"][0][0] == "+4.0*"
    assert figure.panels[0].spec["data"][0]["text"][2][0] == "−3.0°"
    assert figure.finding.startswith("More than chance (*, Holm over classes of a rate) in basal cell carcinoma.")
    assert "Above zero, the rate of male is the higher one. ° marks too few images." in figure.finding
    assert class_gaps(with_audit(page, gaps_by_class=())) is None


def test_gaps_of_several_pairs_have_no_direction_and_most_rows_are_in_the_table(make_page: Make) -> None:
    page = make_page(("a", "b", "c"), tuple(f"class {at}" for at in range(50)))
    records = [
        {**record, "pair": ["a", "bc"[at % 2]], "signed": None, "p_holm": 0.6, "supported": at % 7 == 0,
         "value": None if at < 4 else record["value"]}
        for at, record in enumerate(page.last.audit["gaps_by_class"])
    ]  # fmt: skip
    figure = class_gaps(with_audit(page, gaps_by_class=records))
    assert figure is not None
    trace = figure.panels[0].spec["data"][0]
    assert len(trace["y"]) == 40
    assert trace["zmin"] == 0
    assert figure.finding.startswith("In no class is a difference surely more than chance")
    assert "Above zero" not in figure.finding
    assert len(figure.table.rows) == 200


def test_the_most_confused_pairs_of_many_classes_stand_in_a_table(make_page: Make) -> None:
    page = make_page(("f", "m"), tuple(f"class {at}" for at in range(20)))
    figure = confusion(page)
    assert figure is not None
    assert figure.panels == ()
    assert len(figure.table.rows) == 20
    assert "the most common error is" in figure.finding
    right: dict[str, Any] = {"counts": None, "pairs": []}
    last = dataclasses.replace(page.last, predicted={**(page.last.predicted or {}), "confusion": right})
    figure = confusion(dataclasses.replace(page, steps=(page.first, last)))
    assert figure is not None
    assert "no image is called wrongly" in figure.finding


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (
            {"female": [[3, 1], [0, 4]], "male": [[4, 0], [0, 4]]},
            "female has most beyond male is a called b, by 25 points",
        ),
        ({"female": [[4, 0], [0, 4]], "male": [[4, 0], [0, 4]]}, "no error is more common in female than in male"),
        ({"female": [[4, 0], [0, 0]], "male": [[4, 0], [0, 4]]}, "no error is more common"),
    ],
)
def test_the_finding_of_the_matrices(page: Page, counts: dict[str, list[list[int]]], told: str) -> None:
    predicted = {**(page.last.predicted or {}), "confusion": {"counts": counts, "pairs": None}}
    last = dataclasses.replace(page.last, predicted=predicted, audit={**page.last.audit, "classes": ["a", "b"]})
    figure = confusion(dataclasses.replace(page, steps=(page.first, last)))
    assert figure is not None
    assert told in figure.finding
    assert len(figure.panels) == 3


def test_without_two_known_groups_there_is_no_difference(page: Page) -> None:
    rows = {group: {**row, "f1": NOTHING} for group, row in page.last.audit["by_group"].items()}
    figure = confusion(with_audit(page, by_group=rows))
    assert figure is not None
    assert len(figure.panels) == 2
    assert "cannot be told apart by F1" in figure.finding


def test_groups_below_support_are_grey_and_told(page: Page) -> None:
    rows = dict(page.last.audit["by_group"])
    rows["female"] = {**rows["female"], "supported": False}
    small = with_audit(page, by_group=rows)
    trace = per_group(small).panels[0].spec["data"][1]
    assert trace["name"] == "female (n = 400, too few)"
    assert trace["marker"]["color"] == ["series0", "muted"]
    assert trace["marker"]["opacity"] == [1, 0.5]
    assert "Too few to be judged: female." in render(small)


def test_the_explorer_draws_baseline_front_and_the_line_of_no_gain(page: Page) -> None:
    found = explorer(page)
    assert found is not None
    pair = found.data["pairs"]["mean_f1 eopp1"]
    # 0.02 more F1 and a gap of 0.08 instead of 0.12: the second model beats the first in both.
    assert pair["front"] == [1]
    (x0, x1), (y0, y1) = pair["fate"]
    assert (x0, y0) == (0, 0)
    assert y1 / x1 == pytest.approx(0.59 / 0.12)
    assert "02-fairprune, 1 of 2 models. The baseline is not among them" in found.finding
    assert "may be chance" not in found.finding
    assert found.data["details"][0]["groups"][0][:3] == ["female", "400", "0.560 [0.510, 0.610]"]
    assert explorer(dataclasses.replace(page, steps=page.steps[:1])) is None


def test_gaps_that_may_all_be_chance_put_the_order_in_doubt(page: Page) -> None:
    gaps = {name: {**gap, "p_value": 0.3} for name, gap in page.first.audit["gaps"].items()}
    first = dataclasses.replace(page.first, audit={**page.first.audit, "gaps": gaps})
    found = explorer(dataclasses.replace(page, steps=(first, page.last)))
    assert found is not None
    assert "so their order may be chance" in found.finding


def test_models_of_a_sweep_only_add_to_the_list(page: Page) -> None:
    others = tuple(Model(f"run {at}", "fairprune", f"beta {at}", page.last.audit) for at in range(30))
    wide = dataclasses.replace(page, others=others)
    found = explorer(wide)
    assert found is not None
    assert len(found.names) == 32
    points = [trace for trace in found.spec["data"] if trace["name"] == "fairprune"]
    assert points[0]["customdata"] == list(range(1, 32))
    assert "error_x" not in points[0]  # of so many models, only the chosen one has bars
    assert "and 26 more" in found.finding
    assert "run 29" in render(wide)


def test_models_without_figures_are_not_explored(page: Page) -> None:
    gaps = dict.fromkeys(page.last.audit["gaps"], NOTHING)
    steps = tuple(dataclasses.replace(step, audit={**step.audit, "gaps": gaps}) for step in page.steps)
    assert explorer(dataclasses.replace(page, steps=steps)) is None


def test_a_baseline_without_a_gap_has_no_line_and_models_without_both_no_front(page: Page) -> None:
    gaps = {
        name: {**gap, "value": 0.0 if name == "eopp1" else gap["value"]}
        for name, gap in page.first.audit["gaps"].items()
    }
    first = dataclasses.replace(page.first, audit={**page.first.audit, "gaps": gaps})
    found = explorer(dataclasses.replace(page, steps=(first, page.last)))
    assert found is not None
    assert found.data["pairs"]["mean_f1 eopp1"]["fate"] == [[], []]
    lost = {group: {**row, "f1": NOTHING} for group, row in page.first.audit["by_group"].items()}
    alone = dataclasses.replace(page.first, audit={**page.first.audit, "by_group": lost})
    gaps = {name: {**gap, **NOTHING} if name == "eopp1" else gap for name, gap in page.last.audit["gaps"].items()}
    other = dataclasses.replace(page.last, audit={**page.last.audit, "gaps": gaps})
    found = explorer(dataclasses.replace(page, steps=(alone, other)))
    assert found is not None
    assert "not estimable together for any of them" in found.finding


def test_every_drawing_has_a_name_of_its_own(page: Page) -> None:
    specs = plates(page).specs()
    assert len(specs) == 26
    assert next(iter(specs)) == "explorer"

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import equiprune as ep
from equiprune.audit import audit
from equiprune.comparefile import Change, Comparison, GapChange
from equiprune.comparing import Rules, compare
from equiprune.errors import DataError, UsageError
from equiprune.predictions import Predictions
from tests.repeating import repeated

CLASSES = ["mel", "nev", "bcc"]


def model(
    signal: tuple[float, float] = (1.5, 1.0), n: int = 600, *, noise: int = 1, units: bool = False
) -> Predictions:
    """Predictions on always the same images; how well each group (light, dark) is served is a choice."""
    rng = np.random.default_rng(0)
    group = np.arange(n) % 2
    label = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    shared = rng.normal(size=(n, 3))
    own = np.random.default_rng(noise).normal(size=(n, 3))
    logit = 0.8 * shared + 0.6 * own + np.array(signal)[group][:, None] * (label[:, None] == np.arange(3))
    score = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    return Predictions(
        label,
        score,
        group,
        CLASSES,
        ["light", "dark"],
        "tone",
        unit=[f"p{i // 4 * 2 + i % 2}" for i in range(n)] if units else None,
        image=[f"{i:04d}.png" for i in range(n)],
    )


def fast(baseline: Predictions, other: Predictions, **settings: object) -> Comparison:
    return compare(baseline, {"new": other}, replicates=300, **settings)  # type: ignore[arg-type]


def test_it_is_public_and_has_the_figures_of_both_audits() -> None:
    first, second = model(units=True), model((1.6, 1.4), noise=2, units=True)
    found = ep.compare(first, {"new": second}, replicates=50, privileged="light")
    assert isinstance(found, ep.Comparison)
    one, two = (audit(p, replicates=50, privileged="light") for p in (first, second))
    new = found.comparisons["new"]
    for name, figure in one.overall.items():
        assert new.overall[name].baseline == pytest.approx(figure.value), name
        assert new.overall[name].value == pytest.approx(two.overall[name].value), name
        assert new.by_group["dark"][name].value == pytest.approx(getattr(two.by_group["dark"], name).value), name
    for name, gap in one.gaps.items():
        assert new.gaps[name].baseline == pytest.approx(gap.value), name
        assert new.gaps[name].value == pytest.approx(two.gaps[name].value), name
        assert (new.gaps[name].baseline_pair, new.gaps[name].pair) == (gap.pair, two.gaps[name].pair), name
    assert found.baseline_gaps["eopp1"].p_value == one.gaps["eopp1"].p_value
    assert (found.n, found.n_units, found.conventions.drawn) == (600, one.n_units, "units")


def test_the_file_is_what_was_computed(tmp_path: Path) -> None:
    found = fast(model(), model(noise=2))
    found.write(tmp_path / "compare.json")
    assert Comparison.read(tmp_path / "compare.json") == found
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content == found.to_dict()
    assert content["schema"] == "equiprune-compare/1"
    assert set(content["comparisons"]["new"]["gaps"]["eopp1"]) == {
        "baseline", "value", "change", "low", "high", "p_value", "p_holm", "baseline_pair", "pair",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "cannot be read"), ("{", "is no JSON"), ('{"schema": 1, "no": 2}', "is no equiprune-compare/1")],
)
def test_a_file_that_is_no_comparison(text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match=told):
        Comparison.read(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("before", "after", "code", "quality"),
    [
        ((2.2, 0.8), (2.2, 1.9), "fairer", "better"),
        ((2.2, 0.8), (0.9, 0.8), "levelling_down", "worse"),
        ((2.2, 1.9), (2.2, 0.8), "less_fair", "worse"),
        ((2.0, 1.2), (2.0, 1.2), "no_change", "no_change"),
    ],
)
def test_verdicts(before: tuple[float, float], after: tuple[float, float], code: str, quality: str) -> None:
    found = fast(model(before, 1200), model(after, 1200, noise=2), privileged="light").comparisons["new"]
    assert found.fairness.code == code, found.fairness.text
    assert found.quality.code == quality, found.quality.text
    assert (found.fairness.worst_group, found.fairness.better_group) == ("dark", "light")
    assert "F1 of dark" in found.fairness.text


def test_a_model_against_itself() -> None:
    found = fast(model(), model())
    new = found.comparisons["new"]
    assert (new.decisions_changed, new.fairness.code, new.quality.code) == (0, "identical", "identical")
    changes: list[Change | GapChange] = [*new.overall.values(), *new.gaps.values(), *new.by_group["dark"].values()]
    for one in changes:
        assert (one.change, one.low, one.high, one.p_value, one.p_holm) == (0, 0, 0, 1, 1)
    assert all((fate.value, fate.low, fate.high) == (0, 0, 0) for fate in new.fate.values())


def test_a_gap_that_cannot_be_computed_is_null() -> None:
    score = [[0.9, 0.1], [0.2, 0.8]] * 4
    p = Predictions([0, 0, 1, 1] * 2, score, [0, 0, 1, 1] * 2, ["a", "b"], ["f", "m"])  # no class is in both groups
    found = fast(p, replace(p, score=p.score[::-1])).comparisons["new"]
    assert found.fairness.code == "undefined"
    assert found.gaps["eopp1"].change is None
    assert found.gaps["eopp1"].pair is None
    assert found.fate["eopp1"].value is None


def test_several_models_are_adjusted_for_and_do_not_change_each_other() -> None:
    others = {f"m{i}": model((1.6, 1.2), noise=i) for i in range(2, 5)}
    alone = compare(model(), {"m3": others["m3"]}, replicates=200).comparisons["m3"]
    found = compare(model(), others, replicates=200)
    together = found.comparisons["m3"]
    for name, gap in together.gaps.items():
        assert gap.p_value == alone.gaps[name].p_value
        assert gap.p_holm is not None
        assert gap.p_value is not None
        assert gap.p_value <= gap.p_holm <= min(1, 3 * gap.p_value)
        assert alone.gaps[name].p_holm == gap.p_value
    assert found.models == ("baseline", "m2", "m3", "m4")
    assert any("3 models" in notice for notice in found.notices)


def test_the_pareto_front() -> None:
    others = {"good": model((2.5, 2.4), noise=2), "bad": model((1.0, 0.2), noise=3)}
    found = compare(model((1.8, 1.2)), others, replicates=50)
    assert [point.model for point in found.pareto] == ["baseline", "good", "bad"]
    points = {point.model: point for point in found.pareto}
    assert "eopp1" in points["good"].front
    assert points["bad"].front == ()
    f1 = [found.comparisons["good"].by_group[group]["f1"].value for group in ("light", "dark")]
    assert points["good"].f1 == pytest.approx(np.mean(f1))  # type: ignore[arg-type]


def test_a_gap_that_may_be_chance_is_named() -> None:
    fair = fast(model((1.5, 1.5), 300), model((1.5, 1.5), 300, noise=2))
    assert any("no more than chance explains" in notice for notice in fair.notices)
    unfair = fast(model((2.2, 0.8)), model((2.2, 0.8), noise=2))
    assert not any("no more than chance explains" in notice for notice in unfair.notices)


def test_rows_are_paired_by_image_whatever_their_order() -> None:
    first, second = model(units=True), model((1.6, 1.4), noise=2, units=True)
    order = np.random.default_rng(1).permutation(600)
    columns = [2, 0, 1]
    mixed = Predictions(
        [["bcc", "mel", "nev"].index(CLASSES[k]) for k in second.label[order]],
        second.score[order][:, columns],
        1 - second.group[order],
        ["bcc", "mel", "nev"],
        ["dark", "light"],
        "tone",
        image=None if second.image is None else second.image[order],
    )
    plain, turned = fast(first, second), fast(first, mixed)
    assert plain == turned
    assert plain.conventions.paired_by == "image"


def test_without_ids_rows_are_paired_by_position() -> None:
    first, second = model(), model(noise=2)
    found = fast(replace(first, image=None), second)
    assert found.conventions.paired_by == "position"
    assert any("rows are paired by their order" in notice for notice in found.notices)
    assert not any("paired by" in notice for notice in fast(first, second).notices)
    assert found.comparisons == fast(first, second).comparisons
    with pytest.raises(DataError, match=r"new: has 599 rows, baseline has 600\. Without image ids"):
        fast(replace(first, image=None), second.take(np.arange(599)))
    with pytest.raises(DataError, match=r"the same in .* more of 600 rows\. Are both tables in the same order"):
        fast(replace(first, image=None), replace(second, label=second.label[::-1]))


def _with(p: Predictions, **columns: np.ndarray) -> Predictions:
    return replace(p, **columns)  # type: ignore[arg-type]


def test_everything_that_disagrees_is_told_at_once() -> None:
    first = model(units=True)
    label, group, unit = first.label.copy(), first.group.copy(), np.asarray(first.unit).astype("U9")
    label[3] = (label[3] + 1) % 3
    group[4] = 1 - group[4]
    unit[5] = "somebody"
    image = np.asarray(first.image).copy()
    image[7] = "0007.jpg"
    other = _with(first, label=label, group=group, unit=unit, image=image)
    with pytest.raises(DataError) as raised:
        compare(first, {"new": other, "short": first.take(np.arange(10, 600))}, name="old")
    told = str(raised.value)
    was, now = CLASSES[first.label[3]], CLASSES[label[3]]
    assert f"new, row 3, column 'label': of image '0003.png' it is '{now}', but '{was}' in row 3 of old" in told
    assert "new, row 4, column 'tone': of image '0004.png' it is 'dark', but 'light'" in told
    assert "column 'unit': of image '0005.png' it is 'somebody'" in told
    assert "new, column 'image': 1 of 600 images of old are missing: '0007.png'. Did you mean '0007.jpg'?" in told
    assert "old, column 'image': 1 of 600 images of new are missing: '0007.jpg'" in told
    assert (
        "short, column 'image': 10 of 600 images of old are missing: '0000.png', '0001.png', '0002.png' and 7" in told
    )


def test_other_kinds_of_models_are_told() -> None:
    first = model(n=60)
    labels = np.eye(3)[first.label]
    several = Predictions(labels, first.score, first.group, CLASSES, first.groups, "tone")
    renamed = Predictions(first.label, first.score, first.group, ["mell", "nev", "bcc"], first.groups, "sex")
    twice = replace(first, image=np.array(["a"] * 60))
    regrouped = replace(first, groups=("light", "darc"))
    with pytest.raises(DataError) as raised:
        compare(first, {"several": several, "renamed": renamed})
    told = str(raised.value)
    assert "several: is multilabel, baseline is multiclass" in told
    assert "renamed: its attribute is 'sex', that of baseline is 'tone'" in told
    assert "renamed: has no scores for the class 'mel' of baseline. Did you mean 'mell'?" in told
    assert "renamed: has the class 'mell', which baseline has not" in told
    with pytest.raises(DataError, match="image ids are repeated: 'a' in 60 rows"):
        compare(first, {"twice": twice})
    with pytest.raises(DataError, match=r"it is 'darc', but 'dark' .* Did you mean 'dark'"):
        compare(first, {"regrouped": regrouped})


def test_findings_that_disagree_are_told_by_column() -> None:
    label = np.array([[1.0, 0.0], [0.0, np.nan], [1.0, 1.0], [0.0, 0.0]] * 5)
    score = np.clip(np.nan_to_num(label), 0.2, 0.8)
    first = Predictions(label, score, [0, 1] * 10, ["edema", "nodule"], ["f", "m"])
    changed = label.copy()
    changed[1, 1] = 1
    with pytest.raises(DataError, match="row 1, column 'label_nodule': is '1', but '' in row 1 of baseline"):
        compare(first, {"new": replace(first, label=changed)})
    assert fast(first, first).task == "multilabel"


def test_units_of_one_model_hold_for_all() -> None:
    first, second = model(units=True), model(noise=2, units=True)
    both = fast(first, second)
    assert fast(replace(first, unit=None), second) == both
    assert fast(first, replace(second, unit=None)) == both


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rules": Rules(criterion="eop1")}, "Did you mean 'eopp1'"),
        ({"privileged": "lite"}, "no group 'lite'"),
        ({"replicates": 0}, "replicates must be at least 1"),
        ({"rules": Rules(eodd="half")}, "eodd 'half' does not exist"),  # type: ignore[arg-type]
        ({"name": "new"}, "two models are called 'new'"),
    ],
)
def test_wrong_settings(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        compare(model(n=60), {"new": model(n=60)}, **settings)  # type: ignore[arg-type]


def test_no_other_model() -> None:
    with pytest.raises(UsageError, match="no other model"):
        compare(model(n=60), {})


def test_one_group_is_refused() -> None:
    p = model(n=60)
    with pytest.raises(DataError, match="two groups are needed"):
        compare(p.take(p.group == 0), {"new": p.take(p.group == 0)})


def test_more_than_two_groups_and_unknown_ones() -> None:
    rng = np.random.default_rng(3)
    group = rng.integers(-1, 4, 600)
    first, second = (
        Predictions(p.label, p.score, group, CLASSES, ["a", "b", "c", "d", "none"], "site")
        for p in (model(), model((2.0, 2.0), noise=2))
    )
    found = fast(first, second)
    assert found.groups["none"].n == 0
    assert found.attribute.unknown == int((group < 0).sum())
    new = found.comparisons["new"]
    assert new.by_group["none"]["f1"].change is None
    pair = new.gaps["eopp1"].pair
    assert pair is not None
    assert "none" not in pair
    assert new.fate["eopp1"].value is None  # one group has no F1, so their mean is undefined, as in a report
    assert any("too few positives to be called worst: none" in notice for notice in found.notices)
    told = audit(second, replicates=20)
    for name, gap in told.gaps.items():
        assert new.gaps[name].value == pytest.approx(gap.value), name


@pytest.mark.usefixtures("no_detectable_gap")
def test_the_same_gap_against_another_group_is_no_change_of_fairness() -> None:
    """The models differ, but the gap does not: now h is served worse by as much as g was before."""
    rng = np.random.default_rng(0)

    def told(_: int) -> str:
        label, group = rng.integers(0, 3, size=900), np.arange(900) % 2
        models = []
        for worse in (0, 1):
            right = rng.random(900) < np.where(group == worse, 0.6, 0.85)
            called = np.where(right, label, (label + 1) % 3)
            score = np.full((900, 3), 0.1)
            score[np.arange(900), called] = 0.8
            models.append(Predictions(label, score, group, list("abc"), ["g", "h"]))
        return compare(models[0], {"other": models[1]}, replicates=200).comparisons["other"].fairness.code

    assert repeated(told, 20).count("no_change") >= 17

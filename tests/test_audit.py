from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from equiprune.audit import Audit, audit, chance, infer_privileged, point
from equiprune.errors import DataError, UsageError
from equiprune.predictions import Predictions
from tests.repeating import repeated


def simulated(
    n: int = 1200,
    classes: int = 5,
    groups: int = 2,
    *,
    unfair: float = 0.0,
    units: int = 0,
    seed: int = 0,
) -> Predictions:
    """The last group's signal is weaker by `unfair`."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, units, n) if units else np.arange(n)
    group = unit % groups
    label = rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 5.0)))
    signal = 1.5 - unfair * (group == groups - 1)
    logits = rng.normal(size=(n, classes)) + signal[:, None] * (label[:, None] == np.arange(classes))
    score = np.exp(logits)
    names, kinds = [f"c{k}" for k in range(classes)], [f"g{g}" for g in range(groups)]
    ids = unit.astype(str) if units else None
    return Predictions(label, score / score.sum(axis=1, keepdims=True), group, names, kinds, "site", unit=ids)


def findings(n: int = 600) -> Predictions:
    rng = np.random.default_rng(4)
    label = (rng.random((n, 3)) < 0.3).astype(float)
    score = np.clip(0.4 * label + 0.6 * rng.random((n, 3)), 0, 1)
    label[rng.random((n, 3)) < 0.1] = np.nan
    return Predictions(label, score, rng.integers(0, 2, n), ["effusion", "edema", "nodule"], ["f", "m"], "sex")


def test_audit_json_has_the_form_of_the_contract(tmp_path: Path) -> None:
    p = simulated(units=300)
    p = Predictions(p.label, p.score, np.where(np.arange(1200) < 7, -1, p.group), p.classes, p.groups, "site", p.unit)
    found = audit(p, replicates=200)
    content = found.to_dict()
    assert content == found.model_dump(mode="json")
    assert list(content)[:10] == [
        "schema", "task", "n", "n_units", "classes", "attribute", "overall", "by_group", "gaps", "by_class",
    ]  # fmt: skip
    assert (content["schema"], content["task"], content["n"]) == ("equiprune-audit/1", "multiclass", 1200)
    assert content["n_units"] == len(set(p.unit.tolist() if p.unit is not None else []))
    assert set(content["attribute"]) == {"name", "groups", "privileged", "unknown"}
    assert content["attribute"]["unknown"] == 7
    metrics = {"accuracy", "precision", "recall", "f1", "auroc", "ece", "brier"}
    metrics |= {"balanced_accuracy", "average_precision", "calibration_intercept", "calibration_slope"}
    assert set(content["overall"]) == metrics
    assert set(content["by_group"]["g0"]) == {"n", "n_units", "supported", *metrics}
    assert sum(group["n"] for group in content["by_group"].values()) == 1200 - 7
    rates = {"eopp0", "eopp1", "eodd", "tpr", "fpr", "ppv", "fnr", "selection_rate"}
    assert set(content["gaps"]) == rates | metrics
    needed = {"value", "low", "high", "floor", "p_value", "classes_used", "classes_skipped"}
    assert all(needed <= set(gap) for gap in content["gaps"].values())
    assert len(content["by_class"]) == 10
    single = {"tpr", "fpr", "ppv", "fnr", "tnr", "selection_rate", "f1", "auroc", "average_precision"}
    assert set(content["by_class"][0]) == {"class", "group", "n", *single}
    assert len(content["gaps_by_class"]) == 5 * 5
    assert {"eodd", "zero_support", "average", "interval", "replicates", "seed"} <= set(content["conventions"])
    found.write(tmp_path / "audit.json")
    assert Audit.read(tmp_path / "audit.json") == found
    assert json.loads((tmp_path / "audit.json").read_text()) == content


@pytest.mark.parametrize("p", [simulated(unfair=0.8), simulated(units=200), simulated(groups=4), findings()])
def test_every_interval_holds_its_value(p: Predictions) -> None:
    content = audit(p, replicates=200).to_dict()
    figures = [*content["overall"].values(), *content["gaps"].values()]
    for row in (*content["by_group"].values(), *content["by_class"]):
        figures += [figure for figure in row.values() if isinstance(figure, dict)]
    assert len(figures) > 40
    for figure in (*figures, *content["gaps_by_class"], *content["pairs"]):
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_values_agree_with_scikit_learn() -> None:
    p = simulated(unfair=0.5)
    found = audit(p, replicates=20)
    assert found.overall["f1"].value == pytest.approx(sk.f1_score(p.label, p.predicted, average="macro"), abs=1e-12)
    rows = p.group == 1
    expected = sk.roc_auc_score(p.label[rows], p.score[rows], multi_class="ovr")
    assert found.by_group["g1"].auroc.value == pytest.approx(expected, abs=1e-12)
    other = sk.roc_auc_score(p.label[~rows], p.score[~rows], multi_class="ovr")
    assert found.gaps["auroc"].value == pytest.approx(abs(expected - other), abs=1e-12)
    recall = [sk.recall_score(p.label[r], p.predicted[r], average=None) for r in (rows, ~rows)]
    assert found.gaps["eopp1"].value == pytest.approx(np.abs(recall[0] - recall[1]).mean(), abs=1e-12)
    assert found.gaps["tpr"].value == found.gaps["fnr"].value == found.gaps["eopp1"].value
    assert found.gaps["tpr"].signed == pytest.approx((recall[1] - recall[0]).mean())
    assert found.gaps["fnr"].signed == pytest.approx(-found.gaps["tpr"].signed if found.gaps["tpr"].signed else 0)


def test_the_same_seed_gives_the_same_audit_and_another_seed_another() -> None:
    p = simulated()
    first, again, other = (audit(p, replicates=100, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.gaps["eopp1"].floor != other.gaps["eopp1"].floor
    assert first.gaps["eopp1"].value == other.gaps["eopp1"].value


def test_a_planted_gap_is_found_and_no_gap_is_not() -> None:
    unfair, fair = audit(simulated(unfair=1.2)), audit(simulated(seed=3))
    for name in ("eopp1", "eodd", "f1", "auroc"):
        assert unfair.gaps[name].p_value == pytest.approx(0.5 / 2001)
        assert (unfair.gaps[name].low or 0) > 0
        assert (fair.gaps[name].p_value or 0) > 0.05
        assert fair.gaps[name].low == 0
    assert unfair.attribute.privileged == "g0"


@pytest.mark.usefixtures("no_detectable_gap")
def test_the_floor_of_fair_data_is_its_mean_gap() -> None:
    each = repeated(lambda seed: audit(simulated(400, seed=seed), replicates=200).gaps, 60)
    for name in ("eopp0", "eopp1", "eodd", "f1", "auroc"):
        values = np.array([found[name].value for found in each])
        floors = np.array([found[name].floor for found in each])
        assert floors.mean() == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(60)), name
        p_values = np.array([found[name].p_value for found in each])
        assert 0.3 < p_values.mean() < 0.7


def test_group_order_and_names_change_nothing() -> None:
    p = simulated(unfair=0.4, groups=3)
    q = Predictions(p.label, p.score, 2 - p.group, p.classes, p.groups[::-1])
    first, second = audit(p, replicates=50), audit(q, replicates=50)
    for name, gap in first.gaps.items():
        assert gap.value == pytest.approx(second.gaps[name].value, abs=1e-12)
        if name != "selection_rate":  # two pairs tie there
            assert set(gap.pair or ()) == set(second.gaps[name].pair or ())
    for name in p.groups:
        assert first.by_group[name].f1.value == pytest.approx(second.by_group[name].f1.value, abs=1e-12)
    assert first.attribute.privileged == second.attribute.privileged


def test_a_class_without_rows_in_a_group_is_skipped_named_and_never_zero() -> None:
    p = simulated(400, 3)
    kept = ~((p.group == 1) & (p.label == 2))
    found = audit(p.take(kept), replicates=50)
    assert (found.gaps["eopp1"].classes_used, found.gaps["eopp1"].classes_skipped) == (2, 1)
    assert found.gaps["auroc"].classes_skipped == 1
    row = next(row for row in found.by_class if (row.class_, row.group) == ("c2", "g1"))
    assert (row.n, row.tpr.value, row.tpr.low) == (0, None, None)
    assert any("'g1' has no row of 'c2'" in notice for notice in found.notices)
    zero = audit(p.take(kept), replicates=50, zero_support="as_zero")
    assert (zero.gaps["eopp1"].value or 0) > (found.gaps["eopp1"].value or 0)
    assert zero.gaps["eopp1"].classes_skipped == 0
    assert zero.gaps["tpr"].value == found.gaps["tpr"].value


def test_a_group_without_rows_is_null_and_the_others_are_compared() -> None:
    p = simulated(300, 3)
    found = audit(Predictions(p.label, p.score, p.group, p.classes, ["g0", "g1", "x"]), replicates=30)
    assert found.by_group["x"].n == 0
    assert found.by_group["x"].f1.value is None
    assert found.gaps["eopp1"].pair == ("g0", "g1")
    assert all(gap.value is not None and gap.floor is not None for gap in found.gaps.values())
    assert any("'x' has no rows" in notice for notice in found.notices)


def test_few_rows_units_across_groups_and_repeated_images_are_told() -> None:
    p = simulated(60, 5, units=20)
    crossed = Predictions(
        p.label, p.score, np.arange(60) % 2, p.classes, p.groups, unit=p.unit, image=np.arange(60) // 2
    )
    text = " ".join(audit(crossed, replicates=20).notices)
    assert "fewer than 10 rows of" in text
    assert "units have rows in more than one group" in text
    assert "30 rows repeat the id" in text


def test_units_that_are_copies_widen_the_intervals() -> None:
    p = simulated(300, 3, unfair=0.5)
    times = 4
    copies = p.take(np.repeat(np.arange(300), times))
    naive = audit(copies, replicates=400)
    ids = np.repeat(np.arange(300), times).astype(str)
    by_unit = audit(Predictions(copies.label, copies.score, copies.group, p.classes, p.groups, unit=ids))
    plain = audit(p, replicates=400)

    def width(found: Audit, name: str) -> float:
        return (found.overall[name].high or 0) - (found.overall[name].low or 0)

    for name in ("f1", "auroc", "brier"):
        assert width(by_unit, name) == pytest.approx(width(plain, name), rel=0.2)
        assert width(naive, name) < 0.65 * width(plain, name)
    assert by_unit.gaps["eopp1"].floor == pytest.approx(plain.gaps["eopp1"].floor, rel=0.1)
    first, second = by_unit.by_class[0].tpr, plain.by_class[0].tpr
    assert first.low == pytest.approx(second.low)
    assert first.high == pytest.approx(second.high)


def test_multilabel_audit_masks_the_unknown() -> None:
    p = findings()
    found = audit(p, replicates=200)
    assert found.task == "multilabel"
    assert found.by_class[0].n == int((p.label[p.group == 0, 0] == 1).sum())
    tpr = [
        [p.predicted[(p.group == g) & (p.label[:, k] == 1), k].mean() for k in range(3)] for g in range(2)
    ]  # fmt: skip
    assert found.gaps["tpr"].value == pytest.approx(np.abs(np.array(tpr[0]) - tpr[1]).mean())
    assert found.gaps["auroc"].floor is not None
    assert all((gap.p_value or 0) > 0.001 for gap in found.gaps.values())


def test_point_and_audit_agree() -> None:
    p = simulated(unfair=0.7, groups=3)
    found, figures = audit(p, replicates=10, eodd="sum"), point(p, eodd="sum")
    for name in ("eopp0", "eopp1", "eodd"):
        assert getattr(figures, name) == found.gaps[name].value
    assert figures.f1 == found.overall["f1"].value
    assert figures.accuracy == found.overall["accuracy"].value
    assert figures.f1_by_group == {name: row.f1.value for name, row in found.by_group.items()}
    assert figures.worst_group_f1 == min(figures.f1_by_group.values())
    assert infer_privileged(p) == max(figures.f1_by_group, key=lambda name: figures.f1_by_group[name])


def test_the_privileged_group_can_be_named() -> None:
    p = simulated(unfair=0.5)
    found = audit(p, privileged="g1", replicates=10)
    assert found.attribute.privileged == "g1"
    assert found.gaps["tpr"].signed == pytest.approx(-(audit(p, replicates=10).gaps["tpr"].signed or 0))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"privileged": "g8"}, "Allowed: 'g0', 'g1'"),
        ({"eodd": "half"}, "'half_mean'"),
        ({"zero_support": "zero"}, "'as_zero'"),
        ({"replicates": 0}, "at least 1"),
    ],
)
def test_wrong_options_name_what_is_allowed(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        audit(simulated(50, 2), **options)  # type: ignore[arg-type]


def test_one_group_and_one_class_are_refused_together() -> None:
    p = Predictions([0] * 6, [[0.5, 0.5]] * 6, [0] * 6, ["a", "b"], ["f", "m"], "sex")
    with pytest.raises(DataError) as caught:
        audit(p)
    assert len(caught.value.problems) == 2
    assert "column 'sex'" in str(caught.value)
    assert "'f'" in str(caught.value)
    assert "every row is of the class 'a'" in str(caught.value)


def test_an_attribute_that_is_an_id_is_refused() -> None:
    p = simulated(200, 2, groups=100)
    with pytest.raises(DataError, match="100 groups are more than 64"):
        audit(p)


def test_infer_privileged_needs_a_known_group() -> None:
    with pytest.raises(DataError, match="no row has a known group"):
        infer_privileged(Predictions([0, 1], [[1, 0], [0, 1]], [-1, -1], ["a", "b"], ["f", "m"]))


@pytest.mark.parametrize(
    ("content", "told"), [("{", "is no JSON"), ('{"schema": "x"}', "Field required"), (None, "cannot be read")]
)
def test_a_damaged_audit_file_is_told(content: str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=told):
        Audit.read(path)


def test_importing_the_audit_imports_nothing_heavy() -> None:
    heavy = "torch,sklearn,scipy.stats,pandas,pyarrow,plotly"
    code = f"import sys, equiprune.audit; sys.exit(' '.join(m for m in '{heavy}'.split(',') if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_gap_and_figure_of_classes_is_what_its_rates_say() -> None:
    p = simulated(unfair=0.8)
    found = audit(p, replicates=100)
    tpr = np.array([[row.tpr.value for row in found.by_class if row.group == g] for g in p.groups], dtype=float)
    rows = [row for row in found.gaps_by_class if row.rate == "tpr"]
    assert [row.value for row in rows] == pytest.approx(np.abs(tpr[0] - tpr[1]))
    assert [row.signed for row in rows] == pytest.approx(tpr[0] - tpr[1])
    assert all(row.supported and (row.p_holm or 0) >= (row.p_value or 0) for row in rows)
    for row in rows:
        cells = [[getattr(one.tpr, "value") for one in found.by_class if one.class_ == row.class_]]  # noqa: B009
        assert max(cells[0]) - min(cells[0]) == pytest.approx(row.value)
    chosen = found.worst_group["f1"]
    assert (chosen.group, chosen.value) == ("g1", found.by_group["g1"].f1.value)
    assert found.worst_group["brier"].value == max(g.brier.value or 0 for g in found.by_group.values())
    low, high = sorted(float(found.by_group[g].accuracy.value or 0) for g in p.groups)
    assert found.gaps["accuracy"].ratio == pytest.approx(low / high)
    assert found.gaps["accuracy"].value == pytest.approx(high - low)


def test_groups_without_support_are_shown_but_never_worst() -> None:
    p = simulated(900, 3, groups=3)
    few = np.flatnonzero(p.group == 2)[:6]
    wrong = p.score.copy()
    wrong[few] = np.eye(3)[(p.label[few] + 1) % 3]
    kept = np.concatenate([np.flatnonzero(p.group < 2), few])
    q = Predictions(p.label, wrong, p.group, p.classes, p.groups, "site").take(kept)
    found = audit(q, replicates=50)
    assert (found.by_group["g2"].supported, found.by_group["g2"].f1.value) == (False, 0)
    assert found.gaps["f1"].pair == ("g0", "g1")
    assert found.worst_group["f1"].group != "g2"
    assert any("fewer than 10 positives ('g2') are never called worst" in notice for notice in found.notices)
    asked = audit(q, replicates=50, min_support=5)
    assert "g2" in (asked.gaps["f1"].pair or ())
    assert asked.worst_group["f1"].group == "g2"
    assert {pair.pair for pair in asked.pairs if pair.gap == "f1"} == {("g0", "g1"), ("g0", "g2"), ("g1", "g2")}


def test_two_tiny_groups_are_compared_all_the_same() -> None:
    p = simulated(14, 2)
    found = audit(p, replicates=50)
    assert found.gaps["accuracy"].value is not None
    assert any("there being no two others" in notice for notice in found.notices)


def test_thresholds_are_told() -> None:
    p = findings().called_at(np.array([0.3, 0.5, 0.7]))
    found = audit(p, replicates=20)
    assert found.thresholds is not None
    assert found.thresholds.values == {"effusion": 0.3, "edema": 0.5, "nodule": 0.7}
    assert audit(simulated(100), replicates=20).thresholds is None


def test_an_older_file_is_read(tmp_path: Path) -> None:
    """Files of before this version lack the figures that were added since."""
    content = audit(simulated(200), replicates=20).to_dict()
    for name in ("worst_group", "pairs", "gaps_by_class", "thresholds"):
        del content[name]
    for group in content["by_group"].values():
        del group["calibration_slope"], group["supported"]
    for gap in content["gaps"].values():
        del gap["floor_high"], gap["detectable"]
    (tmp_path / "audit.json").write_text(json.dumps(content))
    assert Audit.read(tmp_path / "audit.json").gaps["eopp1"].detectable is None


def test_a_group_that_is_not_compared_takes_no_class_from_the_others() -> None:
    p = simulated(900, 5, groups=2)
    group = np.where(np.arange(900) < 3, 2, p.group)
    found = audit(Predictions(p.label, p.score, group, p.classes, ["g0", "g1", "few"]), replicates=50)
    assert found.gaps["auroc"].classes_used == 5
    overall = np.mean([sk.roc_auc_score(p.label == k, p.score[:, k]) for k in range(5)])
    groups = [found.by_group[g].auroc.value or 0 for g in ("g0", "g1")]
    assert found.gaps["auroc"].deviation == pytest.approx(np.mean([abs(value - overall) for value in groups]))


def test_what_looks_wrong_is_told() -> None:
    p = simulated(300, 3)
    names = ["F", "f", "unknown"]
    backwards = Predictions(p.label, p.score[:, [1, 0, 2]], np.arange(300) % 3, p.classes, names, "sex")
    text = " ".join(audit(backwards, replicates=20).notices)
    assert "'unknown' counts as a group; if it means unknown, list it under missing" in text
    assert "groups 'F', 'f' differ only in case or spacing" in text
    assert "the scores of 'c0', 'c1' are lower where the class is there" in text
    called = p.take(~((p.group == 1) & (p.label == 2)))
    text = " ".join(audit(called, replicates=20).notices)
    assert "'c2' counts 0 in its precision, recall and F1" in text


def test_a_perfect_model_has_no_worst_group_and_equal_gaps_are_equally_detectable() -> None:
    label = np.arange(120) % 3
    perfect = Predictions(label, np.eye(3)[label], np.arange(120) // 60, list("abc"), ["f", "m"])
    assert "f1" not in audit(perfect, replicates=20).worst_group
    found = audit(simulated(), replicates=100).gaps
    assert found["eopp1"].detectable == found["tpr"].detectable == pytest.approx(found["fnr"].detectable)


@pytest.mark.usefixtures("no_detectable_gap")
def test_the_floor_holds_where_units_have_rows_in_both_groups() -> None:
    """A lesion's site differs within a patient: the permuted blocks are a patient's rows at one site."""

    def once(seed: int) -> tuple[float, float]:
        p = simulated(400, 3, seed=seed)
        unit = (np.arange(400) // 4).astype(str)
        group = np.random.default_rng(seed).integers(0, 2, size=400)
        gap = audit(Predictions(p.label, p.score, group, p.classes, p.groups, unit=unit), replicates=100).gaps["eopp1"]
        return gap.value or 0, gap.floor or 0

    values, floors = zip(*repeated(once, 40), strict=True)
    assert np.mean(floors) == pytest.approx(np.mean(values), abs=float(4 * np.std(values) / math.sqrt(40)))


@pytest.mark.parametrize(("n", "classes", "groups"), [(400, 3, 2), (600, 2, 3), (60, 8, 2)])
def test_the_chance_of_a_loop_is_the_audits(n: int, classes: int, groups: int) -> None:
    rng = np.random.default_rng(n)
    label, score = rng.integers(0, classes, n), rng.dirichlet(np.ones(classes), n)
    group = rng.integers(-1, groups, n)
    found = Predictions(label, score, group, [f"c{k}" for k in range(classes)], [f"g{g}" for g in range(groups)])
    gaps = audit(found, replicates=50, seed=3).gaps
    told = chance(found, ("eopp0", "eopp1", "eodd"), replicates=50, seed=3)
    assert {name: (gaps[name].floor, gaps[name].p_value) for name in told} == told

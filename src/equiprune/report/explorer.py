"""The trade-off explorer of audited models: each as a mark, and what a chosen one does to each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equiprune.report.changes import fate_of
from equiprune.report.content import Model, Page
from equiprune.report.marks import Explorer, Mark, Stars, drawn, front_sentence, some
from equiprune.report.numbers import interval, known, measured, number, p_value, signed
from equiprune.report.tables import GAPS, PERFORMANCE, Table
from equiprune.report.verdict import distinguishable

MEAN_F1 = "mean_f1"
WORST_F1 = "worst_f1"
METRICS = {
    MEAN_F1: "mean F1 of groups",
    WORST_F1: "F1 of the worst group",
    "f1": "overall F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
}
FEW_MODELS = 12
"""Up to so many models each has its error bars; of more, only the chosen one."""


def explorer(page: Page) -> Explorer | None:
    """All models of the page; None where there is only one, or none has figures."""
    models = page.models
    if len(models) < 2:
        return None
    marks = [_mark(model) for model in models]
    metrics, gaps = some(marks, METRICS, "metrics"), some(marks, GAPS, "gaps")
    if not gaps or not metrics:
        return None
    stars = Stars(baselines=(0,), taken=None, chosen=len(page.steps) - 1)
    spec, data = drawn(marks, metrics, gaps, stars, bars=len(models) <= FEW_MODELS)
    (metric, *_), (gap, *_) = metrics, gaps
    front = data["pairs"][f"{metric} {gap}"]["front"]
    finding = _finding(models, marks, front, (metrics[metric], gaps[gap]))
    return Explorer(
        title="Trade-off of all models",
        hint="Each point is a model; click one, or choose it above",
        note="Up and to the left is better. Above the dashed line a model has lost less accuracy than unfairness, "
        "relatively, against the baseline (FATE above 0).",
        finding=finding,
        advice=finding,
        spec=spec,
        metrics=metrics,
        gaps=gaps,
        names=tuple(model.name for model in models),
        chosen=stars.chosen,
        data=data,
        heads=(("Group", "n", *PERFORMANCE.values()), ("Gap", "Value", "By chance", "Test", "FATE")),
        table=_table(models, front),
    )


def _mark(model: Model) -> Mark:
    return Mark(
        name=model.name,
        kind=model.method,
        metrics={key: _metric(model, key) for key in METRICS},
        gaps={key: model.audit["gaps"].get(key) or {} for key in GAPS},
        details=_details(model),
    )


def _metric(model: Model, key: str) -> Mapping[str, Any]:
    if key not in (MEAN_F1, WORST_F1):
        return model.audit["overall"].get(key) or {}
    rows = model.audit["by_group"].values()
    if key == WORST_F1:
        told = [row["f1"] for row in rows if row.get("supported", True) and known(row["f1"]["value"]) is not None]
        return min(told, key=lambda found: float(found["value"]), default={})
    values = [known(row["f1"]["value"]) for row in rows]
    whole = [value for value in values if value is not None]
    return {"value": sum(whole) / len(whole) if whole and len(whole) == len(values) else None}


def _details(model: Model) -> dict[str, Any]:
    groups = [
        [
            group if row.get("supported", True) else f"{group} (too few)",
            f"{row['n']:,}",
            *(measured(row.get(key) or {}) for key in PERFORMANCE),
        ]
        for group, row in model.audit["by_group"].items()
    ]
    gaps = [
        [
            title,
            measured(found),
            number(found.get("floor")),
            p_value(found.get("p_value")),
            signed(fate_of(model.audit, key), undefined="–"),
        ]
        for key, title in GAPS.items()
        if (found := model.audit["gaps"].get(key))
    ]
    return {"settings": model.settings, "groups": groups, "gaps": gaps}


def _finding(models: Sequence[Model], marks: Sequence[Mark], front: Sequence[int], titles: tuple[str, str]) -> str:
    metric, gap = titles
    if not front:
        return f"On test, {front_sentence(marks, front, metric, gap, 'models')}"
    base = "The baseline is one of them" if 0 in front else "The baseline is not among them"
    return (
        f"On test, {front_sentence(marks, front, metric, gap, 'models')} {base}. {_doubt(models, front, gap)}"
        "A model that is chosen by test images looks better on them than elsewhere."
    )


def _doubt(models: Sequence[Model], front: Sequence[int], gap: str) -> str:
    key = next(key for key, title in GAPS.items() if title == gap)
    if any(distinguishable(models[at].audit["gaps"][key]) for at in (0, *front)):
        return ""
    return "Neither the baseline's gap nor any of theirs is distinguishable from chance, so their order may be chance. "


def _table(models: Sequence[Model], front: Sequence[int]) -> Table:
    head = ("Model", "Method", "Mean F1 of groups", "Overall F1", "Accuracy", "AUROC", *GAPS.values())
    rows = tuple(
        (
            model.name,
            model.method,
            number(_metric(model, MEAN_F1).get("value")),
            *(number((model.audit["overall"].get(key) or {}).get("value")) for key in ("f1", "accuracy", "auroc")),
            *(_told(model.audit["gaps"].get(key) or {}) for key in GAPS),
            signed(fate_of(model.audit, "eopp1"), undefined="–"),
            "yes" if at in front else "no",
        )
        for at, model in enumerate(models)
    )
    return Table((*head, "FATE (Eopp1)", "On the front"), rows)


def _told(found: Mapping[str, Any]) -> str:
    return f"{number(found.get('value'))} {interval(found)}".strip()

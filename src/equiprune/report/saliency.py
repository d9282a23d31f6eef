"""What the weights are worth to each group, in the first layer and over all layers (FairPrune, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from equiprune.report.content import StepPage
from equiprune.report.draw import Dot, Series, Spec, dots, label, mirrored
from equiprune.report.figures import Figure, Panel
from equiprune.report.numbers import known, share
from equiprune.report.tables import Table


def saliency(step: StepPage, index: int) -> Figure | None:
    """Saliency of two groups over the first layer's weights, and its spread in every layer (FairPrune, Figure 1)."""
    found = step.saliency
    pair = _pair(step)
    if found is None or pair is None:
        return None
    one, other = ([known(value) or 0.0 for value in found["values"][group]] for group in pair)
    order = sorted(range(len(one)), key=lambda at: (-one[at], at))
    bars = [
        Series(
            group,
            number_of,
            tuple(Dot(values[at], hover=f"{group}, weight {found['index'][at]}: {values[at]:.3g}") for at in order),
        )
        for group, values, number_of in ((pair[0], one, _index(step, pair[0])), (pair[1], other, _index(step, pair[1])))
    ]
    x_title = f"weights, sorted by {label(pair[0], 24)}"
    panels = [
        Panel(
            f"saliency-{index}-weights",
            f"{found['parameter']}, weight by weight",
            mirrored(bars[0], bars[1], x_title, "½ h θ²"),
            wide=True,
        )
    ]
    if found["layers"]:
        panels.append(
            Panel(
                f"saliency-{index}-layers", "Every layer: median and 5th to 95th percentile", _layers(step), wide=True
            )
        )
    table = Table(
        ("Weight", *(f"½ h θ², {group}" for group in pair)),
        tuple((str(found["index"][at]), f"{one[at]:.4g}", f"{other[at]:.4g}") for at in order),
    )
    return Figure(
        f"saliency-{index}",
        f"{step.name}: what the weights are worth to each group",
        _saliency_finding(pair, one, other),
        tuple(panels),
        table,
    )


def _pair(step: StepPage) -> tuple[str, str] | None:
    groups = list(step.saliency["groups"]) if step.saliency else []
    chosen = [step.facts.get("unprivileged"), step.facts.get("privileged")]
    if all(group in groups for group in chosen) and chosen[0] != chosen[1]:
        return str(chosen[0]), str(chosen[1])
    return (groups[0], groups[1]) if len(groups) > 1 else None


def _index(step: StepPage, group: str) -> int:
    groups = list(step.audit["attribute"]["groups"])
    return groups.index(group) if group in groups else len(groups)


def _layers(step: StepPage) -> Spec:
    found = step.saliency or {}
    rows = [layer["name"] for layer in found["layers"]]
    every = [
        value for layer in found["layers"] for values in layer["quantiles"].values() for value in values if known(value)
    ]
    least = min(every, default=1e-12)
    series = [
        Series(
            group,
            _index(step, group),
            tuple(_spread(layer["quantiles"][group], least, f"{group}, {layer['name']}") for layer in found["layers"]),
        )
        for group in found["groups"]
    ]
    return dots(rows, series, "½ h θ²", scale="log")


def _spread(quantiles: Sequence[object], least: float, who: str) -> Dot:
    # A logarithmic axis has no zero: a quantile of zero is drawn at the smallest value that is not.
    low, middle, high = (known(quantiles[at]) for at in (0, 2, 4))
    if low is None or middle is None or high is None:
        return Dot(None)
    hover = f"{who}: median {middle:.3g}, 5 % {low:.3g}, 95 % {high:.3g}"
    return Dot(max(middle, least), max(low, least), max(high, least), hover)


def _saliency_finding(pair: tuple[str, str], one: Sequence[float], other: Sequence[float]) -> str:
    more = sum(mine > theirs for mine, theirs in zip(one, other, strict=True))
    typical = median(other)
    ratio = f"; the median weight matters {median(one) / typical:.2g} times as much" if typical else ""
    return (
        f"{share(more, len(one))} of the first layer's weights shown matter more to {pair[0]} than to {pair[1]}{ratio}."
    )

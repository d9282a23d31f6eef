from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from equiprune.predictions import Predictions
from equiprune.report.content import Seen, SweepPage, Tried
from equiprune.report.modelcard import ModelCard
from equiprune.report.page import Page, StepPage
from equiprune.report.predicted import summary

HOSTILE = (
    "<script>document.documentElement.dataset.error='ran'</script>",
    "</script><script>document.documentElement.dataset.error='ran'</script>",
    '"><img src=x onerror="document.documentElement.dataset.error=1">',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "<b>bold</b><br><a href='javascript:alert(1)'>link</a>",
    "<!-- comment --><style>*{display:none}</style>",
    "&lt;i&gt;&amp;nbsp;&#60;",
    "$\\frac{1}{2}$",
    "%{x} ${y} `z`",
    "naïve 皮膚 \u202egnp.exe \ud800",
    "]]></title></style></textarea>",
    "constructor",
    "__proto__",
    "ink",
    "2019-01-01",
    "-5",
    "a" * 300,
    "\x00\x07\t\n",
    "data:text/html,<svg onload=alert(1)>",
    "<svg/onload=document.documentElement.dataset.error=1>",
    "<iframe srcdoc='<script>parent.document.documentElement.dataset.error=1</script>'>",
    "<math><mtext></mtext><script>1</script></math>",
    "<details open ontoggle=alert(1)>",
    "<object data=javascript:alert(1)>",
    "<base href=https://example.org/>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<form action=//example.org><input autofocus onfocus=alert(1)>",
    "<a href='//example.org' target=_blank>x</a>",
    "<img src=//example.org/x.png>",
    "<sup>2</sup><sub>i</sub><em>e</em>",
    "--><!--",
    "<![CDATA[x]]>",
    "\\u003cscript\\u003e",
    "javascript:alert(1)",
    "=1+1",
    "@import url(//example.org)",
    "';alert(1)//",
    '";alert(1)//',
    "`${alert(1)}`",
    "</option></select><img src=x onerror=alert(1)>",
    "</table></section><h1>x</h1>",
    "</textarea><script>1</script>",
    "%{customdata} %{meta}",
    "series0",
    "null",
    "NaN",
    "\\textbackslash{}_&%#",
    "|a|b|\\",
)


def estimate(value: float | None, half: float = 0.05) -> dict[str, float | None]:
    return (
        {"value": None, "low": None, "high": None}
        if value is None
        else {"value": value, "low": max(0.0, value - half), "high": value + half}
    )


def gap(value: float, floor: float, p: float) -> dict[str, Any]:
    return {**estimate(value, 0.03), "floor": floor, "p_value": p, "classes_used": 7, "classes_skipped": 1}


def handmade_audit(groups: Sequence[str], classes: Sequence[str], shift: float) -> dict[str, Any]:
    """An audit.json by the contract's shape, with an undefined value in it."""
    names = ("accuracy", "precision", "recall", "f1", "auroc", "ece", "brier")
    by_group = {
        group: {
            "n": 400 + 300 * at,
            "n_units": 300,
            **{name: estimate(0.5 + shift + 0.06 * at + 0.02 * k) for k, name in enumerate(names)},
        }
        for at, group in enumerate(groups)
    }
    by_group[groups[0]]["auroc"] = estimate(None)
    gaps = ("eopp0", "eopp1", "eodd", "tpr", "fpr", "ppv", "fnr", "f1", "auroc")
    rates = ("tpr", "fpr", "ppv", "fnr")
    p_value = 0.004 if shift == 0 else 0.2
    eopp0, other = gap(0.0132, 0.01, p_value), gap(0.12 - 2 * shift, 0.06, p_value)
    return {
        "schema": 1,
        "task": "multiclass",
        "n": 1132,
        "n_units": 800,
        "classes": list(classes),
        "attribute": {"name": "sex", "groups": list(groups), "privileged": groups[-1], "unknown": 32},
        "overall": {name: estimate(0.53 + shift + 0.02 * k, 0.03) for k, name in enumerate(names)},
        "by_group": by_group,
        "gaps": {name: eopp0 if name == "eopp0" else other for name in gaps},
        "by_class": [
            {"class": label, "group": group, "n": 40, **{rate: estimate(0.4 + 0.01 * k) for rate in rates}}
            for k, label in enumerate(classes)
            for group in groups
        ],
        "conventions": {"eodd": "half_mean", "zero_support": "skip", "interval": "95 % bootstrap", "replicates": 2000},
        "gaps_by_class": [
            {"class": label, "rate": rate, "pair": [groups[0], groups[-1]], **estimate(0.02 + 0.01 * k, 0.02),
             "signed": (-1) ** k * (0.02 + 0.01 * k), "p_value": 0.3 / (k + 1), "p_holm": 0.02 if k == 2 else 0.6,
             "p_bh": 0.5, "supported": k != 1}
            for k, label in enumerate(classes)
            for rate in rates
        ],
        "fate": {"eopp0": None, "eopp1": 0.21, "eodd": -0.03} if shift else None,
    }  # fmt: skip


def training_log() -> list[dict[str, Any]]:
    return [
        {"epoch": e, "loss": 1.9 / e**0.5, "learning_rate": 1e-3, "seconds": 3.1, "images_per_second": 250.0,
         "f1": 0.5 - 0.3 / e, "accuracy": 0.7 - 0.3 / e, "best": e == 9}
        for e in range(1, 11)
    ]  # fmt: skip


def pruning_log(groups: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"iteration": i, "removed": 0.05 * i, "f1": 0.55 - 0.004 * i * i, "accuracy": 0.6 - 0.005 * i,
         "f1_by_group": {group: 0.5 + 0.05 * at - 0.005 * i for at, group in enumerate(groups)},
         "eopp0": 0.013 - 0.001 * i, "eopp1": 0.12 - 0.01 * i, "eodd": 0.07 - 0.004 * i,
         "fate": {"eopp0": None, "eopp1": 0.03 * i, "eodd": 0.02 * i}, "seconds": 4.0}
        for i in range(8)
    ]  # fmt: skip


def saliency(groups: Sequence[str], layers: Sequence[str]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    shape = random.lognormal(-9, 2, 600)
    values = {group: (shape * random.lognormal(0.3 * at, 0.6, 600)).tolist() for at, group in enumerate(groups)}
    values[groups[0]][3] = 0.0
    quantiles = [
        {
            "name": name,
            "quantiles": {
                g: (np.array([0.0, 1e-9, 3e-8, 4e-7, 9e-6]) * (1 + at + k)).tolist() for at, g in enumerate(groups)
            },
        }
        for k, name in enumerate(layers)
    ]
    return {
        "parameter": layers[0],
        "groups": list(groups),
        "index": list(range(600)),
        "values": values,
        "layers": quantiles,
    }


def handmade_predictions(groups: Sequence[str], classes: Sequence[str]) -> Predictions:
    """Scores that are right more often in later groups."""
    random = np.random.default_rng(1)
    group, label = random.integers(0, len(groups), 400), random.integers(0, len(classes), 400)
    logits = random.normal(size=(400, len(classes))) + (1 + group[:, None] / 4) * np.eye(len(classes))[label]
    score = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(label, score, group, list(classes), list(groups), attribute="sex")


def made(groups: Sequence[str], classes: Sequence[str], text: Callable[[str], str] = str) -> Page:
    """A page of two steps; `text` stands in for every other text a user can choose."""
    facts: dict[str, Any] = {
        "parameters": 11_200_000, "prunable": 11_100_000, "zeros": 0, "file_bytes": 44_800_000, "seconds": 812.3,
        "privileged": groups[-1], "unprivileged": groups[0], "kept_iteration": None, "stopped": None,
    }  # fmt: skip
    split = {"images": 1132, "units": 800, "groups": {**dict.fromkeys(groups, 500), "unknown": 32}}
    predicted = summary(handmade_predictions(groups, classes))
    layers = [f"network.layer{i}.conv.weight" for i in range(6)]
    return Page(
        title=text("Skin lesions, vanilla against FairPrune"),
        data={
            "manifest": text("manifest.csv"), "sha256": "0" * 64, "images": 5660, "units": 4000,
            "unit": text("patient_id"),
            "attribute": "sex", "task": "multiclass", "image_size": 64, "classes": list(classes),
            "skipped": {groups[0]: 2},
            "splits": {"train": split, "validation": split, "test": split},
        },
        environment={"seed": 0, "threads": 2, "device": "cpu", "versions": {"torch": "2.15"},
                     "command": text("equiprune run r.toml")},
        steps=(
            StepPage(
                text("01-vanilla"), "vanilla", {"epochs": 10, "note": text("x")}, handmade_audit(groups, classes, 0.0),
                training_log(), None, facts, predicted,
            ),
            StepPage(
                text("02-fairprune"), "fairprune", {"beta": 0.33, "ratio": 0.35}, handmade_audit(groups, classes, 0.02),
                pruning_log(groups), saliency(groups, [text(layer) for layer in layers]),
                facts | {"zeros": 2_775_000, "kept_iteration": 5, "stopped": "ratio reached"}, predicted,
            ),
        ),
        notices=(text("2 rows have no label"),),
        facts={"units_in_several_splits": 0, "duplicates": {"near": {"across_splits": 3, "of_different_labels": 1}}},
        left_out=(text("runs/broken: this run is not complete"),),
        card={field: text("as we know it") for field in ModelCard.model_fields if field != "funding"},
    )  # fmt: skip


def validated(groups: Sequence[str], f1: float, gap: float, method: str) -> dict[str, Any]:
    """A step as `point.json` has it."""
    return {
        "name": f"{'01' if method == 'vanilla' else '02'}-{method}", "method": method, "f1": f1, "eopp1": gap,
        "f1_by_group": {group: f1 + 0.05 * at - 0.02 for at, group in enumerate(groups)}, "eopp0": gap / 8,
        "eodd": gap / 2, "constant": False, "parameters": 11_200_000, "zeros": 0 if method == "vanilla" else 2_240_000,
        "seconds": 3.2,
    }  # fmt: skip


def tried(
    groups: Sequence[str], seeds: Sequence[int], betas: Sequence[Any], ratios: Sequence[Any]
) -> tuple[Tried, ...]:
    """A full grid: with beta the gap shrinks, with the ratio F1 does."""
    return tuple(
        Tried(
            f"{number:04d}-0a1b2c3d", {"seed": seed, "2.beta": beta, "2.ratio": ratio},
            (validated(groups, 0.6 + 0.01 * seed, 0.2, "vanilla"),
             validated(groups, 0.6 + 0.012 * seed - 0.2 * float(ratio) - 0.1 * float(beta) ** 2,
                       0.2 - 0.3 * float(beta) + 0.005 * seed, "fairprune")),
        )
        for number, (seed, beta, ratio) in enumerate(product(seeds, betas, ratios))
    )  # fmt: skip


@pytest.fixture(scope="session")
def sweep_of() -> Callable[..., SweepPage]:
    def made_up(
        groups: Sequence[str] = ("female", "male"),
        seeds: Sequence[int] = (0, 1, 2),
        betas: Sequence[Any] = (0.1, 0.2, 0.4),
        ratios: Sequence[Any] = (0.1, 0.35),
        **parts: Any,  # noqa: ANN401
    ) -> SweepPage:
        seen = tuple(
            Seen(seed, validated(groups, 0.6, 0.2, "vanilla"), validated(groups, 0.57 + 0.01 * seed, 0.15, "fairprune"))
            for seed in seeds
        )
        found = SweepPage(
            axes={"seed": "seed", "2.beta": "beta", "2.ratio": "ratio"}, points=tried(groups, seeds, betas, ratios),
            gap="eopp1", budget=0.05, failed={"0099-ffffffff": ("no such thing",)}, left=0, among=len(seeds) * 6,
            taken={"2.beta": 0.2, "2.ratio": 0.1}, seen=seen, looked=0,
        )  # fmt: skip
        return replace(found, **parts)

    return made_up


@pytest.fixture(scope="session")
def swept_page(page: Page, sweep_of: Callable[..., SweepPage]) -> Page:
    return replace(page, sweep=sweep_of())


@pytest.fixture(scope="session")
def page() -> Page:
    return made(("female", "male"), ("melanoma", "naevus", "basal cell carcinoma"))


@pytest.fixture(scope="session")
def hostile_page() -> Page:
    """Every text a user can choose is out to break the page."""
    return made(HOSTILE[:10], HOSTILE, lambda plain: f"{plain} {' '.join(HOSTILE[:13])}")


@pytest.fixture(scope="session")
def hostile_sweep(hostile_page: Page, sweep_of: Callable[..., SweepPage]) -> Page:
    """Names of axes, their values, groups and reasons are out to break the page as well."""
    sweep = sweep_of(HOSTILE[:10], betas=[0.1, 0.2, 0.4, 0.5], ratios=[0.1, 0.2, 0.3, 0.35])
    names = {"1.layer": HOSTILE[0], "2.scope": " ".join(HOSTILE[1:14])}
    points = tuple(
        replace(one, choice={**one.choice, "1.layer": HOSTILE[at % len(HOSTILE)], "2.scope": HOSTILE[-1 - at % 7]})
        for at, one in enumerate(sweep.points)
    )
    taken = {axis: value for axis, value in points[0].choice.items() if axis != "seed"}
    failed = dict.fromkeys(HOSTILE, HOSTILE)
    return replace(
        hostile_page, left_out=HOSTILE,
        sweep=replace(sweep, axes={**sweep.axes, **names}, points=points, taken=taken, failed=failed),
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_page() -> Callable[..., Page]:
    return made


@pytest.fixture(scope="session")
def palette() -> Mapping[str, Mapping[str, str]]:
    from equiprune.report.draw import PALETTE

    return PALETTE

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import equiprune.methods.fairprune as module
from equiprune import curvature
from equiprune.audit import point
from equiprune.data.cohort import Cohort
from equiprune.data.loader import batches
from equiprune.data.pixels import Pixels
from equiprune.errors import UsageError
from equiprune.files import read_json_lines
from equiprune.methods import OBD, FairPrune
from equiprune.models.classifier import Classifier
from equiprune.predicting import predict
from equiprune.pruning.masks import prunable
from equiprune.pruning.saliency import sampled, second_order
from equiprune.training.loop import Training

Lesions = tuple[Cohort, Pixels]


def _caught_score(method: FairPrune, net: Classifier, data: Lesions, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # noqa: ANN202
    caught = []
    monkeypatch.setattr(module, "prune_iteratively", lambda *arguments: caught.append(arguments))
    method(net, data[0], Training(data[1]))
    return caught[0][4](net, 1)


def test_the_score_is_the_papers_equation(
    lesion_data: Lesions, small_net: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """s = ½ θ² (h_unprivileged − β h_privileged), each factor computed on its own in float64."""
    cohort, pixels = lesion_data
    method = FairPrune(beta=0.4, samples=10_000, privileged="light", estimator="exact")
    scores = _caught_score(method, small_net, lesion_data, monkeypatch)
    twin = small_net.clone().double().eval()
    train = cohort.subset("train")
    diagonals = curvature.diagonal(
        twin, ((b.image, b.label, b.group) for b in batches(train, pixels, batch_size=7)), cohort.groups
    )
    for name, weight in prunable(twin).items():
        expected = 0.5 * weight.detach() ** 2 * (diagonals["dark"][name] - 0.4 * diagonals["light"][name])
        torch.testing.assert_close(scores[name].double(), expected, rtol=1e-3, atol=1e-7)


def test_of_three_groups_the_lowest_has_weight_one_and_the_others_share_beta(
    lesion_data: Lesions, small_net: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, pixels = lesion_data
    three = replace(cohort, group=np.arange(len(cohort)) % 3, groups=("a", "b", "c"))
    caught = []
    monkeypatch.setattr(module, "prune_iteratively", lambda *arguments: caught.append(arguments))
    FairPrune(beta=0.4, samples=10_000, estimator="exact")(small_net, three, Training(pixels))
    _, _, training, _, score, facts = caught[0][:6]
    everyone = sampled(three.subset("train"), 10_000, 0, 1, by_group=True)
    saliency = second_order(small_net, everyone, training, groups=three.groups, biases=False)
    low = facts["unprivileged"]
    first, second = (group for group in three.groups if group != low)
    for name, found in score(small_net, 1).items():
        expected = saliency[low][name] - 0.2 * saliency[first][name] - 0.2 * saliency[second][name]
        torch.testing.assert_close(found, expected)
    f1 = point(predict(small_net, three.subset("validation"), pixels)).f1_by_group
    assert low == min(f1, key=lambda group: f1[group]) or len(set(f1.values())) < 3


def test_beta_nought_forgets_the_privileged_group(
    lesion_data: Lesions, small_net: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = _caught_score(FairPrune(beta=0, privileged="light", samples=9), small_net, lesion_data, monkeypatch)
    assert all((score >= 0).all() for score in scores.values())


def test_roles_are_recorded(lesion_data: Lesions, small_net: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    method = FairPrune(privileged="dark", samples=5, ratio=0.1, step=0.1)
    method(small_net, cohort, Training(pixels, folder=tmp_path))
    end = read_json_lines(tmp_path / "log.jsonl")[-1]
    assert (end["privileged"], end["unprivileged"]) == ("dark", "light")
    assert (tmp_path / "saliency.json").is_file()


def test_an_unknown_group_is_refused(lesion_data: Lesions, small_net: Classifier) -> None:
    cohort, pixels = lesion_data
    with pytest.raises(UsageError, match="Did you mean 'light'"):
        FairPrune(privileged="ligt")(small_net, cohort, Training(pixels))


def test_samples_are_drawn_per_group_and_anew_each_iteration(lesion_data: Lesions) -> None:
    train = lesion_data[0].subset("train")
    one, two = (sampled(train, 12, 0, iteration, by_group=True) for iteration in (1, 2))
    assert np.bincount(one.group).tolist() == [12, 12]
    assert set(one.image) != set(two.image)
    assert set(one.image) == set(sampled(train, 12, 0, 1, by_group=True).image)
    everyone = sampled(train, 12, 0, 1, by_group=False)
    assert len(everyone) == 12


def test_unknown_attributes_take_no_part_in_fairprune_but_in_obd(lesion_data: Lesions) -> None:
    train = lesion_data[0].subset("train")
    half = replace(train, group=np.where(np.arange(len(train)) % 2, train.group, -1))
    assert (sampled(half, 10_000, 0, 1, by_group=True).group >= 0).all()
    assert len(sampled(half, 10_000, 0, 1, by_group=False)) == len(train)


def test_obd_scores_are_fairprunes_without_groups(lesion_data: Lesions, small_net: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    pruned = OBD(ratio=0.2, step=0.1, samples=20, keep="last", budget=None)(
        small_net, cohort, Training(pixels, folder=tmp_path)
    )
    total = sum(weight.numel() for weight in prunable(small_net).values())
    assert pruned.facts().zeros == round(0.2 * total)


@pytest.mark.parametrize("estimator", ["budget", "stochastic"])
def test_an_estimated_curvature_scores_nearly_as_the_exact_one(
    estimator: str, lesion_data: Lesions, small_net: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flat(name: str) -> torch.Tensor:
        method = FairPrune.model_validate({"samples": 10_000, "privileged": "light", "estimator": name})
        scores = _caught_score(method, small_net, lesion_data, monkeypatch)
        return torch.cat([score.flatten() for score in scores.values()])

    exact, found = flat("exact"), flat(estimator)
    off = float((found - exact).norm() / exact.norm())
    assert off < (1e-3 if estimator == "budget" else 0.3)

"""Each layer in turn, the fairest kept: against the same done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from equiprune.audit import audit, point
from equiprune.errors import UsageError
from equiprune.files import read_json_lines
from equiprune.methods import METHODS, FairPrune, LayerPruning
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.objectives import Vanilla
from equiprune.predicting import watch
from equiprune.pruning.saliency import difference, sampled, second_order
from equiprune.pruning.watching import privileged_group
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

Lesions = tuple["Cohort", "Pixels"]
SETTINGS = TrainingSettings(epochs=4, batch_size=32, learning_rate=2e-3, augment="none")
CONVOLUTIONS = ["conv1", "conv2", "conv3"]


@pytest.fixture(scope="module")
def findings(lesion_data: Lesions) -> Cohort:
    """The same images with a finding a class, some of them not known."""
    cohort, _ = lesion_data
    label = (cohort.label[:, None] == np.arange(len(cohort.classes))).astype(np.float32)
    label[np.random.default_rng(0).random(label.shape) < 0.1] = np.nan
    return replace(cohort, label=label)


def trained(cohort: Cohort, pixels: Pixels) -> Classifier:
    design = Design(backbone="simple_cnn", classes=cohort.classes, image_size=32, task=cohort.task)
    return Vanilla()(Classifier.build(design, seed=0), cohort, Training(pixels, SETTINGS))


@pytest.fixture(scope="module")
def model(lesion_data: Lesions) -> Classifier:
    return trained(*lesion_data)


def same(one: Classifier, other: Classifier) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without_half(model: Classifier, layer: str) -> Classifier:
    """The half of the layer's weights with the smallest sizes at zero, by sorting."""
    made = model.clone()
    weight = made.get_parameter(f"network.{layer}.weight")
    with torch.no_grad():
        flat = weight.flatten()
        flat[torch.argsort(flat.abs(), stable=True)[: round(len(flat) / 2)]] = 0
        weight.copy_(flat.view_as(weight))
    return made


@pytest.mark.parametrize("kind", ["classes", "findings"])
def test_the_table_is_what_pruning_each_layer_by_hand_gives(
    kind: str, lesion_data: Lesions, findings: Cohort, tmp_path: Path
) -> None:
    cohort, pixels = (lesion_data[0] if kind == "classes" else findings), lesion_data[1]
    model = trained(cohort, pixels)
    made = LayerPruning(keep="pruned", budget=1.0)(model, cohort, Training(pixels, folder=tmp_path))
    unpruned, *records, ending = read_json_lines(tmp_path / "log.jsonl")
    assert unpruned["layer"] is None
    assert unpruned["removed"] == 0
    assert [record["layer"] for record in records] == CONVOLUTIONS
    validation = cohort.subset("validation")
    for record in records:
        found = watch(without_half(model, record["layer"]), validation, pixels)
        figures = point(found)
        assert record["f1"] == pytest.approx(figures.f1)
        assert record["eopp1"] == pytest.approx(figures.eopp1)
        audited = audit(found, replicates=200).gaps
        assert record["floor"] == pytest.approx(audited["eopp1"].floor)
        assert {rate: pytest.approx(audited[rate].value) for rate in record["rates"]} == record["rates"]
    best = min(records, key=lambda record: record["eopp1"])
    assert ending["kept_layer"] == best["layer"]
    assert records[ending["kept_iteration"] - 1] == best
    assert same(made, without_half(model, best["layer"]))
    assert list(made.masks) == [f"network.{best['layer']}.weight"]


def test_it_keeps_the_model_as_it_is_where_no_layer_helps(
    lesion_data: Lesions, model: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    dear = LayerPruning(budget=0.0, layers="conv1", ratio=0.99)(model, cohort, Training(pixels, folder=tmp_path))
    ending = read_json_lines(tmp_path / "log.jsonl")[-1]
    assert ending["kept_layer"] is None
    assert ending["stopped"] == "no layer's pruning is within the budget"
    assert same(dear, model)
    assert dear is not model


@pytest.mark.parametrize(("keep", "fairer"), [("best", False), ("pruned", True)])
def test_a_pruned_model_is_kept_where_it_is_less_fair_only_if_asked(
    keep: Literal["best", "pruned"], fairer: bool, lesion_data: Lesions, model: Classifier
) -> None:
    """With a share this small no gap changes."""
    cohort, pixels = lesion_data
    made = LayerPruning(keep=keep, ratio=1e-4, layers=("conv3",))(model, cohort, Training(pixels))
    assert bool(made.masks) == fairer


def test_stopped_after_a_layer_it_ends_in_the_same_bits(
    lesion_data: Lesions, model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, pixels = lesion_data
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    method = LayerPruning(criterion="random", keep="pruned", budget=1.0)
    whole = method(model, cohort, Training(pixels, folder=tmp_path / "whole"))
    from equiprune.methods import layer_pruning

    calls = []

    def stopped(*given: Any) -> Any:  # noqa: ANN401
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return watch(*given)

    monkeypatch.setattr(layer_pruning, "watch", stopped)
    with pytest.raises(KeyboardInterrupt):
        method(model, cohort, Training(pixels, folder=tmp_path / "broken"))
    calls[:] = [1] * 9
    again = method(model, cohort, Training(pixels, folder=tmp_path / "broken"))
    assert len(calls) == 9 + 2  # two layers were left
    assert same(whole, again)
    logs = [read_json_lines(tmp_path / name / "log.jsonl") for name in ("whole", "broken")]
    drop = [[{k: v for k, v in record.items() if k != "seconds"} for record in log] for log in logs]
    assert drop[0] == drop[1]


def test_channels_are_cut(lesion_data: Lesions, model: Classifier) -> None:
    cohort, pixels = lesion_data
    made = LayerPruning(kind="channels", layers="conv2", keep="pruned", budget=1.0)(model, cohort, Training(pixels))
    inner: Any = made.network
    assert inner.conv2.out_channels == 32
    size = model.get_parameter("network.conv2.weight").detach().abs().sum((1, 2, 3))
    assert sorted(made.cuts[0].channels) == sorted(torch.argsort(size, stable=True)[:32].tolist())


def test_fairprunes_score_is_the_one_of_fairprune(lesion_data: Lesions, model: Classifier) -> None:
    cohort, pixels = lesion_data
    method = LayerPruning(criterion="fairprune", layers="conv3", keep="pruned", budget=1.0, samples=20)
    training = Training(pixels)
    made = method(model, cohort, training)
    _, worse = privileged_group(model, cohort, training, None)
    chosen = sampled(cohort.subset("train"), 20, 0, 0, by_group=True)
    saliency = second_order(model, chosen, training, groups=cohort.groups, biases=False, estimator="stochastic")
    score = difference(saliency, worse, FairPrune().beta)["network.conv3.weight"].flatten()
    held = ~made.masks["network.conv3.weight"].flatten()
    assert int(held.sum()) == len(score) // 2
    assert float(score[held].max()) <= float(score[~held].min())


def test_random_draws_differ_and_repeat(lesion_data: Lesions, model: Classifier) -> None:
    cohort, pixels = lesion_data

    def drawn(draw: int) -> torch.Tensor:
        method = LayerPruning(criterion="random", layers="conv1", keep="pruned", budget=1.0, draw=draw)
        return method(model, cohort, Training(pixels)).masks["network.conv1.weight"]

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_half_of_what_is_left_goes(lesion_data: Lesions, model: Classifier) -> None:
    cohort, pixels = lesion_data
    method = LayerPruning(layers="conv2", keep="pruned", budget=1.0)
    twice = method(method(model, cohort, Training(pixels)), cohort, Training(pixels))
    kept = twice.masks["network.conv2.weight"]
    assert int(kept.sum()) == kept.numel() - round(kept.numel() / 2) - round(round(kept.numel() / 2) / 2)


def test_layers_and_groups_that_do_not_exist_are_refused(lesion_data: Lesions, model: Classifier) -> None:
    cohort, pixels = lesion_data
    with pytest.raises(UsageError, match=r"no convolution 'conv9'.*(?s:.)*'fc1'"):
        LayerPruning(layers=("conv9", "fc1")).check(model, cohort)
    with pytest.raises(UsageError, match="no channels are cut by the name 'conv9'"):
        LayerPruning(kind="channels", layers="conv9")(model, cohort, Training(pixels))
    with pytest.raises(UsageError, match="no group 'pale'"):
        LayerPruning(criterion="fairprune", privileged="pale").check(model, cohort)
    with pytest.raises(ValueError, match=r"valid string|valid tuple"):
        LayerPruning(layers=3)
    assert "layer_pruning" in METHODS


def test_a_network_without_convolutions_is_refused(lesion_data: Lesions, tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text(
        "from torch import nn\ndef flat(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))\n"
    )
    cohort, _ = lesion_data
    net = Classifier.build(Design(backbone=f"{tmp_path}/flat.py:flat", classes=cohort.classes, image_size=32))
    with pytest.raises(UsageError, match="no convolution"):
        LayerPruning().check(net, cohort)

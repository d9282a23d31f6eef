"""What objectives build into a model: grouped norms, blocks, offsets, exits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from equiprune.errors import ModelError
from equiprune.models.asked import asked
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.models.form import Form
from equiprune.models.grouped_norm import GroupedNorm, with_grouped_norms
from equiprune.models.reshaping import find_head, find_stages, folded, of_group, reshape
from equiprune.pruning.masks import hold

GROUPS = ("dark", "light", "tan")
SIDE = 32


def resnet() -> Classifier:
    model = Classifier.build(Design(backbone="resnet18", classes=("a", "b", "c"), image_size=SIDE))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


def everything(model: Classifier) -> Form:
    exits = find_stages(model)
    return Form(
        groups=GROUPS, blocks=True, norms=True, offsets=True, exits=exits,
        weights=tuple(range(1, len(exits) + 2)), confidence=0.4,
    )  # fmt: skip


def stirred(model: Classifier) -> Classifier:
    """Each group its own norms and offsets, each block its own weights."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, GroupedNorm):
                assert module.weight is not None
                module.weight.uniform_(0.5, 1.5)
                module.running_mean.normal_(0, 0.1)
        inner: Any = model.network
        inner.fc.weight.normal_(0, 0.1)
        if model.design.form.offsets:
            model.offsets.normal_()
    return model


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), places=st.sampled_from([(), (3,), (2, 2)]), unknown=st.booleans())
def test_each_group_is_normalised_as_its_own_batch_norm_would(
    seed: int, places: tuple[int, ...], unknown: bool
) -> None:
    torch.manual_seed(seed)
    plain = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[len(places)](4).double()
    nn.init.uniform_(plain.weight, 0.5, 1.5)
    norm = GroupedNorm(plain, 2)
    twins = [norm.of_group(index) for index in range(2)]
    group = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    if unknown:
        group[3] = -1
    maps = torch.randn(len(group), 4, *places, dtype=torch.float64)
    norm.group = group
    made = norm.train()(maps)
    for index, twin in enumerate(twins):
        torch.testing.assert_close(made[group == index], twin.train()(maps[group == index]))
        torch.testing.assert_close(norm.running_mean[:, index], twin.running_mean)
        torch.testing.assert_close(norm.running_var[:, index], twin.running_var)
    if unknown:
        axes = (0, *range(2, maps.dim()))
        shape = (1, 4, *(1,) * len(places))
        var, mean = torch.var_mean(maps, axes, correction=0)
        whole = (maps - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
        torch.testing.assert_close(made[3], (whole * plain.weight.view(shape) + plain.bias.view(shape))[3])
    norm.group = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    quiet = norm.eval()(maps)
    for index, twin in enumerate(twins):
        torch.testing.assert_close(quiet[norm.group == index], twin.eval()(maps[norm.group == index]))


def test_a_lone_value_is_normalised_by_the_running_statistics() -> None:
    norm = GroupedNorm(nn.BatchNorm1d(3), 2).train()
    norm.group = torch.tensor([0, 1, 1])
    before = norm.running_mean[:, 0].clone()
    made = norm(torch.tensor([[5.0, 6.0, 7.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(made[0], torch.tensor([5.0, 6.0, 7.0]), rtol=1e-4, atol=1e-4)
    assert torch.equal(norm.running_mean[:, 0], before)


def test_norms_that_do_more_and_norms_called_alone_are_refused() -> None:
    class Active(nn.BatchNorm2d):
        pass

    for network, why in (
        (nn.Sequential(nn.Conv2d(3, 4, 1), Active(4)), "'1' is a Active"),
        (nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "keeps no running statistics"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), "this network has none"),
    ):
        with pytest.raises(ModelError, match=why):
            with_grouped_norms(network, 2)
    model = resnet()
    reshape(model, Form(groups=GROUPS, norms=True))
    with pytest.raises(ModelError, match="call the classifier, not the network, with the group"):
        model.network(torch.zeros(1, 3, SIDE, SIDE))


def test_a_form_changes_nothing_at_first_and_comes_back_from_disk(tmp_path: Path) -> None:
    model = resnet()
    image, group = torch.rand(7, 3, SIDE, SIDE), torch.tensor([0, 1, 2, -1, 2, 1, -1])
    with torch.no_grad():
        before = model(image)
        reshape(model, everything(model).model_copy(update={"confidence": None}))
        torch.testing.assert_close(model(image, group), before, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(image), before, rtol=1e-4, atol=1e-5)
        stirred(model)
        model.save(tmp_path)
        again = Classifier.load(tmp_path).eval()
        assert again.design == model.design
        assert all(torch.equal(x, y) for x, y in zip(again.exits(image, group), model.exits(image, group), strict=True))


@pytest.mark.parametrize("index", [0, 2])
def test_for_one_group_the_model_is_smaller_and_says_the_same(index: int) -> None:
    model = resnet()
    reshape(model, everything(model))
    stirred(model)
    image = torch.rand(5, 3, SIDE, SIDE)
    group = torch.full((5,), index)
    with torch.no_grad():
        expected, exits = model(image, group), model.exits(image, group)
        torch.testing.assert_close(of_group(model, index)(image), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(folded(model, index)(image), expected, rtol=1e-4, atol=1e-5)
        for one, other in zip(asked(model, index)(image), exits, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        mean = torch.stack([model.exits(image, torch.full((5,), g))[-1] for g in range(3)]).mean(0)
        torch.testing.assert_close(model.exits(image)[-1], mean, rtol=1e-4, atol=1e-5)
    assert not folded(model, index).design.form.groups
    assert not any(isinstance(module, GroupedNorm) for module in folded(model, index).modules())
    inner: Any = folded(model, index).network
    assert inner.fc.out_features == 3


def test_masks_of_the_last_layer_follow_its_blocks() -> None:
    model = resnet()
    name = f"network.{find_head(model)}.weight"
    kept = torch.rand(model.get_parameter(name).shape) > 0.5
    hold(model, {name: kept})
    reshape(model, Form(groups=GROUPS, blocks=True))
    assert torch.equal(model.masks[name], kept.repeat(3, 1))
    assert (model.get_parameter(name)[~model.masks[name]] == 0).all()


def test_other_groups_and_other_exits_are_refused() -> None:
    model = resnet()
    reshape(model, Form(groups=GROUPS, norms=True, exits=("layer1",), weights=(0.5, 1.0)))
    with pytest.raises(ModelError) as caught:
        reshape(model, Form(groups=("f", "m"), norms=True, exits=("layer2",), weights=(0.5, 1.0)))
    assert "early exits already, behind layer1" in str(caught.value)
    assert "made for the groups dark, light, tan" in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"blocks": True}, {"groups": ("one",), "norms": True}, {"exits": ("layer1",), "weights": (1.0,)}]
)
def test_a_form_must_be_consistent(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Form(**wrong)

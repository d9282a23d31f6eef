"""Losses against the second derivative that autograd takes of PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from equiprune import curvature
from equiprune.curvature.columns import columns, gradient
from equiprune.curvature.losses import Loss, curved
from equiprune.errors import EquipruneError, ModelError, UsageError

CLASSES = 4
WEIGHT = torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64)
NAN = float("nan")
FINDINGS = torch.tensor([[1.0, 0.0, NAN, 0.3], [0.0, 0.0, 1.0, 1.0], [NAN, NAN, NAN, NAN]], dtype=torch.float64)
LABEL = torch.tensor([1, 3, 0])


def logits(exits: int) -> Tensor:
    return 2 * torch.randn(3, exits, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def bce(**settings: Any) -> Callable[[Tensor, Tensor], Tensor]:  # noqa: ANN401
    def loss(z: Tensor, label: Tensor) -> Tensor:
        each = functional.binary_cross_entropy_with_logits(z, label.nan_to_num(0), reduction="none", **settings)
        return each[~label.isnan()].sum()

    return loss


def entropy(**settings: Any) -> Callable[[Tensor, Tensor], Tensor]:  # noqa: ANN401
    def loss(z: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(z[None], label[None], reduction="none", **settings)[0]

    return loss


CASES: dict[str, tuple[Loss, Tensor, tuple[float, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "cross-entropy": ("cross_entropy", LABEL, (1.0,), entropy()),
    "class weights": (nn.CrossEntropyLoss(WEIGHT), LABEL, (1.0,), entropy(weight=WEIGHT)),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.3), LABEL, (1.0,), entropy(label_smoothing=0.3)),
    "both": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.3), LABEL, (1.0,), entropy(weight=WEIGHT, label_smoothing=0.3)
    ),
    "bce": ("bce", FINDINGS, (1.0,), bce()),
    "bce with weights": (
        nn.BCEWithLogitsLoss(WEIGHT, pos_weight=WEIGHT.flip(0)), FINDINGS, (1.0,),
        bce(weight=WEIGHT, pos_weight=WEIGHT.flip(0)),
    ),
    "two exits": (curvature.Exits("cross_entropy", (0.3, 1.0)), LABEL, (0.3, 1.0), entropy()),
    "two plain exits": ("cross_entropy", LABEL, (1.0, 1.0), entropy()),
    "two exits of bce": (curvature.Exits("bce", (0.3, 1.0)), FINDINGS, (0.3, 1.0), bce()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_columns_and_gradient_are_autograds(case: str) -> None:
    loss, label, weights, one = CASES[case]
    z = logits(len(weights))
    found = columns(curved(loss), z, label)
    ranks = range(found.masses.shape[1])
    stacked = torch.stack([found.ranked(torch.full((3,), rank)).flatten(1) for rank in ranks], 2)
    slope = gradient(curved(loss), z, label)
    for sample in range(3):

        def total(flat: Tensor, sample: int = sample) -> Tensor:
            exits = zip(weights, flat.view(-1, CLASSES), strict=True)
            return torch.stack([weight * one(each, label[sample]) for weight, each in exits]).sum()

        flat = z[sample].flatten()
        hessian = torch.autograd.functional.hessian(total, flat)
        assert isinstance(hessian, Tensor)
        torch.testing.assert_close(stacked[sample] @ stacked[sample].T, hessian, rtol=0, atol=1e-12)
        jacobian = torch.autograd.functional.jacobian(total, flat)
        assert isinstance(jacobian, Tensor)
        torch.testing.assert_close(slope.ranked(torch.zeros(3).long())[sample].flatten(), jacobian, rtol=0, atol=1e-12)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


BAD: dict[str, tuple[object, type[EquipruneError], str]] = {
    "unknown": ("cross-entropy", UsageError, "no loss .* 'cross-entropy'. Did you mean 'cross_entropy'"),
    "another criterion": (nn.MSELoss(), UsageError, r"no loss .* MSELoss\(\).*CrossEntropyLoss and BCE"),
    "weights of fewer classes": (nn.CrossEntropyLoss(torch.ones(2)), UsageError, "weights for 2 classes, .* gives 3"),
    "a weight below 0": (nn.CrossEntropyLoss(torch.tensor([1.0, -1.0, 1.0])), UsageError, "at least 0, one a class"),
    "an exit's weight below 0": (curvature.Exits(weights=(1.0, -1.0)), UsageError, "weights of the exits"),
    "more exits": (curvature.Exits(weights=(0.5, 1.0)), ModelError, "weighs 2 exits, and the model has 1"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_loss_that_does_not_fit_is_refused(bad: str) -> None:
    loss, kind, reason = BAD[bad]
    batch = (torch.randn(2, 2), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(kind, match=reason):
        curvature.diagonal(net(), [batch], ["all"], loss)  # type: ignore[arg-type]

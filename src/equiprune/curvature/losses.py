"""The losses whose second derivative can be taken, and what each sample's label has to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from equiprune.errors import DataError, Problem, UsageError, nearest

Name = Literal["cross_entropy", "bce"]
IGNORED = -100  # PyTorch's own default, which no class has
Criterion = nn.CrossEntropyLoss | nn.BCEWithLogitsLoss


@dataclass(frozen=True)
class Exits:
    """The multi-exit loss Σ_e w_e l(z_e) of a model that gives a tuple of logits, one (sample, class) an exit.

    Args:
        loss: of each exit.
        weights: w, at least 0, one an exit; all 1 where left out.

    Example:
        >>> Exits("cross_entropy", (0.3, 1.0)).weights
        (0.3, 1.0)
    """

    loss: Name | Criterion = "cross_entropy"
    weights: Sequence[float] | None = None


Loss = Name | Criterion | Exits


@dataclass(frozen=True)
class Curved:
    """A loss of one sample's logits, as its derivatives are taken. Made by `curved`.

    Args:
        softmax: cross-entropy; else the binary one of every finding.
        weight: of a class or finding, or None.
        smoothing: label smoothing ε of the cross-entropy.
        positive: weight of a finding that is there, or None.
        exits: the weights of several exits, () where all are 1; None where the model has one output.
    """

    softmax: bool
    weight: Tensor | None = None
    smoothing: float = 0.0
    positive: Tensor | None = None
    exits: tuple[float, ...] | None = None

    def each(self, z: Float[Tensor, "sample class"], label: Tensor) -> Float[Tensor, " sample"]:
        """The loss of every sample on one exit, the findings that are not known left out."""
        weight = None if self.weight is None else self.weight.to(z)
        if self.softmax:
            return functional.cross_entropy(z, label, weight=weight, reduction="none", label_smoothing=self.smoothing)
        known = ~label.isnan()
        positive = None if self.positive is None else self.positive.to(z)
        each = functional.binary_cross_entropy_with_logits(
            z, label.nan_to_num(0).to(z), weight=weight, reduction="none", pos_weight=positive
        )
        return each.masked_fill(~known, 0).sum(1)

    def scale(self, label: Tensor, classes: int) -> Float[Tensor, "sample class_or_one"]:
        """What the second derivative of the plain loss is multiplied by, float64.

        Cross-entropy: (1 - ε) w_y + (ε / K) Σ_k w_k, one number a sample, for the log-sum-exp enters with the
        weights of all targets together. Binary: w_k (1 + (v_k - 1) y_k), one a finding, 0 where it is not known.
        """
        weight = torch.ones(classes) if self.weight is None else self.weight
        weight = weight.to(label.device, torch.float64)
        if self.softmax:
            return ((1 - self.smoothing) * weight[label] + self.smoothing * weight.mean())[:, None]
        positive = torch.ones(classes) if self.positive is None else self.positive
        y = label.double()
        return (weight * (1 + (positive.to(y) - 1) * y)).masked_fill(label.isnan(), 0)

    def check_label(self, label: Tensor, classes: int) -> None:
        """Raises `DataError` where labels, or `UsageError` where weights, do not fit the loss and its classes."""
        samples = len(label)
        for given in (self.weight, self.positive):
            if given is not None and len(given) != classes:
                raise UsageError(f"the loss has weights for {len(given)} classes, and the model gives {classes}")
        if not self.softmax:
            if label.shape != (samples, classes) or not label.is_floating_point():
                expected = f"labels must be float ({samples}, {classes}), one for every finding"
                raise DataError(f"{expected}, not {label.dtype} {tuple(label.shape)}")
            if ((label < 0) | (label > 1)).any():
                raise DataError("labels of findings must be from 0 to 1, or nan")
            return
        if label.shape != (samples,) or label.is_floating_point() or label.is_complex():
            raise DataError(f"labels must be class indices ({samples},), not {label.dtype} {tuple(label.shape)}")
        if int(label.min()) < 0 or int(label.max()) >= classes:
            found = f"{int(label.min())} to {int(label.max())}"
            raise DataError(f"labels must be from 0 to {classes - 1}, for the model has {classes} classes: {found}")


def curved(loss: Loss) -> Curved:
    """A loss as the user names it, checked.

    The `reduction` of a PyTorch criterion is not looked at: every sample has its own loss, and a group's curvature
    is the plain mean of its samples'.

    Raises:
        UsageError: it is none of these.

    Example:
        >>> curved(nn.CrossEntropyLoss(label_smoothing=0.1)).smoothing
        0.1
    """
    exits: tuple[float, ...] | None = None
    if isinstance(loss, Exits):
        exits = tuple(float(weight) for weight in loss.weights or ())
        if any(not 0 <= weight < float("inf") for weight in exits):
            raise UsageError(f"the weights of the exits must be numbers of at least 0, not {list(exits)}")
        loss = loss.loss
    if isinstance(loss, nn.CrossEntropyLoss):
        if loss.ignore_index != IGNORED:
            what = f"ignore_index={loss.ignore_index} of the cross-entropy is not supported"
            raise UsageError(Problem(what, hint="Give these rows the group index -1: then they are left out"))
        return Curved(True, _weight(loss.weight), loss.label_smoothing, exits=exits)
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return Curved(False, _weight(loss.weight), positive=_weight(loss.pos_weight), exits=exits)
    if loss in get_args(Name):
        return Curved(loss == "cross_entropy", exits=exits)
    allowed = get_args(Name)
    hint = nearest(loss, allowed) if isinstance(loss, str) else "CrossEntropyLoss and BCEWithLogitsLoss are known too"
    raise UsageError(Problem(f"no loss of the curvature is named {loss!r}", hint=hint))


def _weight(weight: Tensor | None) -> Tensor | None:
    if weight is None:
        return None
    if weight.dim() != 1 or not (weight.isfinite() & (weight >= 0)).all():
        raise UsageError(f"weights of a loss must be numbers of at least 0, one a class: {weight.tolist()}")
    return weight.detach()

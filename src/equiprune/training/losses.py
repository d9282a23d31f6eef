"""What a model is trained to do: the loss of its task, of every exit it has."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from equiprune.models.form import Form


def task_loss(logits: Float[Tensor, "sample class"], label: Tensor, weight: Tensor | None = None) -> Float[Tensor, ""]:
    """Cross-entropy; for multi-label targets binary cross-entropy, unknown (nan) labels left out.

    Args:
        logits: (sample, class).
        label: class indices (sample,), or 0 / 1 / nan (sample, class).
        weight: of every sample, or of every label (sample, class).

    Returns:
        The mean over samples, or over known labels (0 where none is known); weighted, where there are weights.

    Example:
        >>> import torch
        >>> round(task_loss(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]])).item(), 4)
        0.6931
    """
    if label.ndim == 1:
        each = functional.cross_entropy(logits, label, reduction="none")
        return each.mean() if weight is None else (each * weight).sum() / weight.sum()
    known = label.isfinite().to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, label.nan_to_num(0.0), reduction="none")
    if weight is not None:
        known = known * (weight if weight.ndim == 2 else weight[:, None])
        return (each * known).sum() / known.sum().clamp_min(1e-12)
    return (each * known).sum() / known.sum().clamp_min(1)


def exits_loss(exits: Sequence[Tensor], label: Tensor, form: Form, weight: Tensor | None = None) -> Float[Tensor, ""]:
    """Σ_e w_e l(z_e) over the exits of a model; the task's loss where it has one.

    Args:
        exits: each one's logits, the last the network's own.
        label: see `task_loss`.
        form: of the model, for the exits' weights.
        weight: see `task_loss`.
    """
    if len(exits) == 1:
        return task_loss(exits[0], label, weight)
    losses = [share * task_loss(logits, label, weight) for share, logits in zip(form.weights, exits, strict=True)]
    total: Tensor = sum(losses[1:], losses[0])
    return total


def sample_losses(logits: Float[Tensor, "sample class"], label: Tensor) -> Float[Tensor, " sample"]:
    """The task's loss of every sample; multi-label: the mean over its known labels, 0 where none is known."""
    if label.ndim == 1:
        return functional.cross_entropy(logits, label, reduction="none")
    known = label.isfinite()
    each = functional.binary_cross_entropy_with_logits(logits, label.nan_to_num(0.0), reduction="none")
    return (each * known).sum(1) / known.sum(1).clamp_min(1)

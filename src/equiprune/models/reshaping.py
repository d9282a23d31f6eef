"""A classifier given what a form adds: blocks of logits, norms or offsets by group, early exits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equiprune.errors import ModelError, Problem
from equiprune.models import exits, grouped_norm, head
from equiprune.models.form import Form

if TYPE_CHECKING:
    from equiprune.models.classifier import Classifier


def reshape(classifier: Classifier, form: Form, seed: int = 0) -> None:
    """Adds what the form has and the classifier lacks, in place. Only early exits change what it says at first.

    Args:
        classifier: keeps its weights, masks and cuts.
        form: with all that the classifier's own form has.
        seed: of the exits' fresh weights.

    Raises:
        UsageError: a layer for an exit does not exist.
        ModelError: the network has not what is to be changed; or the classifier has exits or groups, and others.
    """
    _refuse_other(classifier.design.form, form)
    own = classifier.design.form
    if form.blocks and not own.blocks:
        _add_blocks(classifier, len(form.groups))
    if form.norms and not own.norms:
        grouped_norm.with_grouped_norms(classifier.network, len(form.groups))
    if form.offsets and not own.offsets:
        shape = (len(form.groups), len(classifier.design.classes))
        classifier.register_buffer("offsets", torch.zeros(shape).to(classifier.mean))
    if form.exits and not own.exits:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            with _blank(classifier) as blank:
                made = exits.heads(classifier.network, blank, form.exits, len(classifier.design.classes))
        classifier.exit_heads = made.to(classifier.mean)
    classifier.design = classifier.design.model_copy(update={"form": form})


def find_head(classifier: Classifier) -> str:
    """The name, in the network, of the linear layer that gives the logits.

    Raises:
        ModelError: there is none.
    """
    form = classifier.design.form
    times = len(form.groups) if form.blocks else 1
    with _blank(classifier) as blank:
        return head.head_of(classifier.network, blank, times * len(classifier.design.classes))


def find_stages(classifier: Classifier) -> tuple[str, ...]:
    """The layers behind which early exits stand by default; see `exits.stages`."""
    with _blank(classifier) as blank:
        return exits.stages(classifier.network, blank)


def of_group(classifier: Classifier, index: int) -> Classifier:
    """The same classifier for images of one group: its batch norms and offsets alone, blocks and exits as they are."""
    made = classifier.clone()
    form = made.design.form
    if form.norms:
        grouped_norm.of_group(made.network, index)
    if form.offsets:
        made.offsets = made.offsets[index : index + 1]
    made.fixed = form.needs_group
    return made


def folded(classifier: Classifier, index: int = 0) -> Classifier:
    """The classifier for images of one group, with blocks and offsets folded into its last layers.

    What is left beside the backbone are early exits, where it uses them.
    """
    made = of_group(classifier, index)
    form = made.design.form
    name = find_head(made) if form.blocks or form.offsets else ""
    exits = form.exits if form.confidence is not None else ()
    if form.blocks:
        head.fold(made.network, name, len(form.groups))
    if form.offsets:
        head.shift(made.network, name, made.offsets[0])
        for early in made.exit_heads if exits else ():
            head.shift(early, "linear", made.offsets[0])
    made.fixed = False
    left = {"exits": exits, "weights": form.weights, "confidence": form.confidence} if exits else {}
    made.design = made.design.model_copy(update={"form": Form.model_validate(left)})
    return made


def _refuse_other(own: Form, form: Form) -> None:
    problems = []
    if own.exits and own.exits != form.exits:
        problems.append(Problem(f"the model has early exits already, behind {', '.join(own.exits)}"))
    if own.groups and own.groups != form.groups:
        problems.append(Problem(f"the model was made for the groups {', '.join(own.groups)}"))
    if problems:
        raise ModelError(problems)


@contextmanager
def _blank(classifier: Classifier) -> Iterator[Tensor]:
    """An image as the network reads it, of the first group."""
    side = classifier.design.image_size
    image = torch.zeros(1, classifier.design.channels, side, side).to(classifier.mean)
    group = torch.zeros(1, dtype=torch.long, device=image.device)
    with grouped_norm.routed(classifier.network, group):
        yield (image - classifier.mean) / classifier.std


def _add_blocks(classifier: Classifier, groups: int) -> None:
    name = find_head(classifier)
    head.widen(classifier.network, name, groups)
    for key in (f"network.{name}.weight", f"network.{name}.bias"):
        if key in classifier.masks:
            kept = classifier.masks[key]
            classifier.masks[key] = kept.repeat(groups, *(1,) * (kept.dim() - 1))

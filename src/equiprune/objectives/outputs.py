"""What a loss looks at of one pass: every exit's logits, the features, the blocks of logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.head import watched
from equiprune.processes import gathered, share
from equiprune.training.losses import exits_loss


@dataclass(frozen=True, eq=False)
class Outputs:
    """Of one pass.

    Args:
        exits: logits of every exit, the network's own last.
        features: what the network's last layer reads.
        last: what it gives: the logits, or all blocks of them.
    """

    exits: tuple[Float[Tensor, "sample class"], ...]
    features: Float[Tensor, "sample feature"]
    last: Float[Tensor, "sample output"]

    @property
    def logits(self) -> Float[Tensor, "sample class"]:
        """Of the network's own exit."""
        return self.exits[-1]


def passed(classifier: Classifier, batch: Batch, head: str) -> Outputs:
    """One pass of a batch; of all processes' rows, where several train one model.

    Args:
        classifier: in the mode it is in.
        batch: on its device.
        head: name of the network's last layer, as `find_head` gives it.
    """
    with watched(classifier.network.get_submodule(head)) as seen:
        exits = asked(classifier, batch)
    assert seen.gave is not None
    features = seen.features
    features = features.float() if features.dtype == torch.bfloat16 else features
    rows = len(batch.index)
    return Outputs(exits, gathered(features, rows), gathered(seen.gave, rows))


def asked(classifier: Classifier, batch: Batch) -> tuple[Float[Tensor, "sample class"], ...]:
    """The logits of every exit for a batch; see `passed`."""
    rows = len(batch.index)
    exits = classifier.exits(batch.image, batch.group[share(rows)])
    return tuple(gathered(logits, rows) for logits in exits)


def own_loss(classifier: Classifier, found: Outputs, batch: Batch, weight: Tensor | None = None) -> Float[Tensor, ""]:
    """The task's loss, of all exits."""
    return exits_loss(found.exits, batch.label, classifier.design.form, weight)

"""What a loss looks at of one pass: every exit's logits, the features, the blocks of logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from equiprune.data.loader import Batch
from equiprune.models.classifier import Classifier
from equiprune.models.head import watched
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
    """One pass of a batch.

    Args:
        classifier: in the mode it is in.
        batch: on its device.
        head: name of the network's last layer, as `find_head` gives it.
    """
    with watched(classifier.network.get_submodule(head)) as seen:
        exits = classifier.exits(batch.image, batch.group)
    assert seen.gave is not None
    features = seen.features
    return Outputs(exits, features.float() if features.dtype == torch.bfloat16 else features, seen.gave)


def own_loss(classifier: Classifier, found: Outputs, batch: Batch, weight: Tensor | None = None) -> Float[Tensor, ""]:
    """The task's loss, of all exits."""
    return exits_loss(found.exits, batch.label, classifier.design.form, weight)

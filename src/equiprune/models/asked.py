"""A classifier as a function of images alone: every exit's logits, for images of one group."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import of_group

PREFIX = "classifier."


class Asked(nn.Module):
    """What the curvature and the channels' graph look at; parameter names begin with `classifier.`.

    Args:
        classifier: one that does not need the group, or see `asked`.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.train(classifier.training)

    def forward(self, image: Tensor) -> Float[Tensor, "image class"] | tuple[Float[Tensor, "image class"], ...]:
        """Logits, or those of all exits."""
        exits = self.classifier.exits(image)
        return exits if len(exits) > 1 else exits[0]


def asked(classifier: Classifier, group: int = 0) -> Asked:
    """The classifier itself, or where it needs the group a copy for images of that group."""
    return Asked(of_group(classifier, group) if classifier.design.form.needs_group else classifier)

"""What a loss would change by if a channel fell silent, from one pass backwards: of every image and channel at once.

With h the channel's maps, a loss l changes by -⟨h, ∂l/∂h⟩ to first order when they become zero (Molchanov et al. 2017).
The second-order term is ½ ⟨h, ∂l/∂h⟩², with the outer product of the gradient for the second derivative (Theis et al.
2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiprune import processes
from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch, batches
from equiprune.data.pixels import Pixels
from equiprune.errors import ModelError, Problem
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.taps import tapped
from equiprune.progress import bar
from equiprune.pruning.channels import PREFIX

BATCH = 64

ImageLosses = Callable[[Classifier, Batch], Float[Tensor, " image"]]


@dataclass(frozen=True, eq=False)
class Effects:
    """Of one layer, in the cohort's order; float64 on the CPU.

    Args:
        slope: ⟨h, ∂l/∂h⟩ of each image's own loss.
        pooled: the mean of h over places.
    """

    slope: Float[Tensor, "image channel"]
    pooled: Float[Tensor, "image channel"]

    @property
    def first(self) -> Float[Tensor, " channel"]:
        """By how much the mean loss grows without the channel, to first order."""
        return -self.slope.mean(0)

    @property
    def second(self) -> Float[Tensor, " channel"]:
        """The same to second order."""
        return self.first + 0.5 * self.slope.square().mean(0)


def effects(
    classifier: Classifier, cohort: Cohort, pixels: Pixels, layers: Sequence[str], losses: ImageLosses
) -> dict[str, Effects]:
    """The effects of every channel of some layers, behind the activation that follows each.

    Args:
        classifier: in evaluation mode for the while; its parameters and their gradients are left alone.
        cohort: the images.
        pixels: where they are decoded.
        layers: convolutions, by their names in the network.
        losses: from the classifier and a batch on its device to one loss an image, none of which looks at another's.

    Raises:
        ModelError: a layer takes no part in the loss, or gives no numbers.
    """
    own = processes.share(len(cohort))
    modules = {layer: classifier.network.get_submodule(layer) for layer in layers}
    device = next(classifier.parameters()).device
    slope: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    pooled: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def take(layer: str, maps: Tensor) -> None:
        kept = maps.detach().flatten(2).clone()  # what follows may change it in place
        pooled[layer].append(kept.mean(2).double().cpu())

        def grown(gradient: Tensor) -> None:
            slope[layer].append((kept * gradient.flatten(2)).sum(2).double().cpu())

        maps.register_hook(grown)

    with evaluating(classifier), torch.enable_grad(), bar("looking at channels") as progress:
        for batch in batches(cohort.take(np.arange(len(cohort))[own]), pixels, batch_size=BATCH):
            moved = Batch(*(part.to(device) for part in batch._replace(index=batch.index + own.start)))
            # Of a network whose parameters are frozen the maps have a gradient all the same.
            image = (moved.image.to(classifier.mean.dtype) / 255).requires_grad_()
            with tapped(modules, take) as finish:
                total = losses(classifier, moved._replace(image=image)).sum()
                finish()
            torch.autograd.grad(total, image)
            progress(sum(len(part) for part in pooled[layers[0]]), len(cohort))
    problems = [
        Problem(f"layer {PREFIX}{layer} takes no part in what the model gives")
        for layer in layers
        if len(slope[layer]) != len(pooled[layer]) or not slope[layer]
    ]
    if problems:
        raise ModelError(problems)
    found = {layer: Effects(_of_all(slope[layer], cohort), _of_all(pooled[layer], cohort)) for layer in layers}
    bad = [layer for layer, one in found.items() if not bool(one.slope.isfinite().all() & one.pooled.isfinite().all())]
    if bad:
        raise ModelError([Problem(f"the features of layer {PREFIX}{layer} are not finite") for layer in bad])
    return found


def _of_all(own: Sequence[Tensor], cohort: Cohort) -> Tensor:
    """The rows of every image, of those that other processes looked at too."""
    return processes.gathered(torch.cat(list(own)), len(cohort))

"""A network with what must travel with it: classes, input, the weights held at zero, the channels cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from equiprune.errors import ModelError, Problem
from equiprune.models import backbones, factory, storage
from equiprune.models.cuts import Cut, adopt, unlike
from equiprune.models.design import Design
from equiprune.models.state import differences, fill

__all__ = ["Classifier", "Design", "Facts", "evaluating", "prunable"]


@dataclass(frozen=True)
class Facts:
    """Sizes of a classifier: all parameters, the prunable ones, and how many of those are exactly zero."""

    parameters: int
    prunable: int
    zeros: int


class Classifier(nn.Module):
    """Images in, logits out; normalisation is inside.

    `masks` holds, by parameter name such as "network.conv1.weight", a bool tensor of the
    parameter's shape, True where the weight is kept. Held weights are zero and stay so if
    `apply_masks` is called after every optimiser step. `cuts` tells which channels were removed, in order
    (see `pruning.channels`). `notices` are facts about how it was loaded
    that a user should be told.

    Example:
        >>> model = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), image_size=16))
        >>> model(torch.zeros(4, 3, 16, 16, dtype=torch.uint8)).shape
        torch.Size([4, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, design: Design) -> None:
        super().__init__()
        self.network = network
        self.design = design
        self.masks: dict[str, Tensor] = {}
        self.cuts: tuple[Cut, ...] = ()
        self.notices: tuple[Problem, ...] = ()
        # Not part of the state dict: the design holds them.
        self.register_buffer("mean", torch.tensor(design.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(design.std).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def build(cls, design: Design, seed: int = 0) -> Self:
        """A fresh network of this design; its weights depend on the seed alone.

        Raises:
            ModelError: see `backbones.build`.
        """
        source = factory.source_sha256(design.backbone)
        return cls(backbones.build(design, seed), design.model_copy(update={"source_sha256": source}))

    def forward(
        self,
        image: Shaped[Tensor, "batch channel height width"],
        group: Int[Tensor, " batch"] | None = None,  # noqa: ARG002 - for models that have a branch a group
    ) -> Float[Tensor, "batch class"]:
        """Logits of images given as uint8, or as floats in 0..1.

        Raises:
            ModelError: the images have another type or number of channels, or the network does not
                give one logit a class.
        """
        if image.ndim != 4 or image.shape[1] != self.design.channels:
            raise ModelError(f"images have shape {tuple(image.shape)}, expected (batch, {self.design.channels}, h, w)")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ModelError(f"images are {image.dtype}, expected uint8 or floats in 0..1")
        pixels = image.to(self.mean.dtype)
        if image.dtype == torch.uint8:
            pixels = pixels / 255
        logits = self.network((pixels - self.mean) / self.std)
        return backbones.check_logits(logits, len(image), len(self.design.classes))

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Sets the held weights to exactly zero. To be called after every optimiser step."""
        for name, kept in self.masks.items():
            self.get_parameter(name).masked_fill_(~kept, 0.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What `.to`, `.cuda` and `.half` go through: masks follow to the device and stay bool.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.masks = {name: kept.to(self.get_parameter(name).device) for name, kept in self.masks.items()}
        return self

    def clone(self) -> Classifier:
        """An independent copy, weights and masks included."""
        return copy.deepcopy(self)

    def facts(self) -> Facts:
        """How large the model is and how much of it is zero."""
        weights = prunable(self).values()
        return Facts(
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            prunable=sum(weight.numel() for weight in weights),
            zeros=sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights),
        )

    def save(self, folder: Path | str) -> None:
        """Writes `model.safetensors` and, last, `model.json`.

        Raises:
            DataError: the disk is full.
            UsageError: the folder cannot be written to.
        """
        storage.write(Path(folder), self.saved())

    def saved(self) -> storage.Saved:
        """What is written of it."""
        return storage.Saved(self.design, self.state_dict(), self.masks, self.cuts)

    @classmethod
    def load(cls, folder: Path | str, *, factory: str | None = None) -> Self:
        """Builds the saved model again, bit for bit. Only data is read from the folder, no code.

        Args:
            folder: as given to `save`, or an exported file of safetensors with its JSON beside it.
            factory: "my_file.py:function", needed where the network came from one: what the folder
                says is never run. A file that differs from the one at saving is told in `notices`.

        Raises:
            ModelError: a file is missing or damaged, or its tensors do not fit the design.
        """
        folder = Path(folder)
        saved = storage.read(folder)
        model = cls.build(_named_again(saved.design, factory, folder))
        model.notices = _changed(saved.design, model.design)
        where = str(storage.pair(folder)[0])
        if saved.cuts:
            problems = unlike(saved.cuts, model, saved.tensors, where)
            if problems:
                raise ModelError(problems)
            adopt(model, _alike(model.state_dict(), saved.tensors))
            model.cuts = saved.cuts
        floats = {tensor.dtype for tensor in saved.tensors.values() if tensor.is_floating_point()}
        if len(floats) == 1:
            model.to(floats.pop())
        problems = differences(model.state_dict(), saved.tensors, where)
        if problems:
            raise ModelError(problems)
        fill(model, saved.tensors)
        model.masks = saved.masks
        return model


def _alike(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that differ from the model's own in nothing but their lengths."""
    return {
        name: tensor
        for name, tensor in given.items()
        if name in own
        and own[name].dim() == tensor.dim()
        and own[name].is_floating_point() == tensor.is_floating_point()
    }


def _named_again(design: Design, given: str | None, folder: Path) -> Design:
    came_from_file = factory.split(design.backbone) is not None
    document = str(storage.pair(folder)[1])
    if came_from_file and given is None:
        what = f"this network was made by {design.backbone!r}; code is only run when you name it yourself"
        raise ModelError(Problem(what, file=document, hint=f"Name the backbone {design.backbone!r} again"))
    if given is None:
        return design
    if not came_from_file or factory.split(given) is None:
        what = f"this network is a {design.backbone!r}, which {given!r} cannot stand for"
        raise ModelError(Problem(what, file=document))
    return design.model_copy(update={"backbone": given})


def _changed(saved: Design, built: Design) -> tuple[Problem, ...]:
    if saved.source_sha256 == built.source_sha256:
        return ()
    return (Problem("the factory's file has changed since the model was saved", file=built.backbone),)


def prunable(classifier: nn.Module, include_bias: bool = False) -> dict[str, nn.Parameter]:
    """The weights that pruning may hold at zero: those of convolutional and linear layers.

    Found by the kind of module, in the order of the model. A weight that two layers share is named once.

    Args:
        classifier: the model; names are those of its `named_parameters`.
        include_bias: also the biases of these layers.

    Example:
        >>> list(prunable(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
        ['0.weight']
    """
    allowed: set[Tensor | None] = set()
    for module in classifier.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            allowed.add(module.weight)
            if include_bias:
                allowed.add(module.bias)
    return {name: parameter for name, parameter in classifier.named_parameters() if parameter in allowed}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and every module's former mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True

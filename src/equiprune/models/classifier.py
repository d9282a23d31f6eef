"""A network with what must travel with it: classes, input, the weights held at zero, the channels cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
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
from equiprune.models.design import Design, Trained
from equiprune.models.exits import collected, leave
from equiprune.models.form import Form
from equiprune.models.grouped_norm import routed
from equiprune.models.reshaping import reshape
from equiprune.models.state import differences, fill

__all__ = ["Classifier", "Design", "Facts", "Form", "Trained", "evaluating", "prunable"]


@dataclass(frozen=True)
class Facts:
    """Sizes of a classifier: all parameters, the prunable ones, and how many of those are exactly zero."""

    parameters: int
    prunable: int
    zeros: int


class Classifier(nn.Module):
    """Images in, logits out; normalisation is inside, and what the design's form adds.

    `masks` holds, by parameter name such as "network.conv1.weight", a bool tensor of the
    parameter's shape, True where the weight is kept. Held weights are zero and stay so if
    `apply_masks` is called after every optimiser step. `cuts` tells which channels were removed, in order
    (see `pruning.channels`). `trained` is the objective it was trained with last. `notices` are facts about how it
    was loaded that a user should be told.

    Example:
        >>> model = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), image_size=16))
        >>> model(torch.zeros(4, 3, 16, 16, dtype=torch.uint8)).shape
        torch.Size([4, 2])
    """

    mean: Tensor
    std: Tensor
    offsets: Tensor
    exit_heads: nn.ModuleList

    def __init__(self, network: nn.Module, design: Design) -> None:
        super().__init__()
        self.network = network
        self.design = design.model_copy(update={"form": Form()})
        self.fixed = False  # made for one group, which then need not be given
        self.trained: Trained | None = None
        self.masks: dict[str, Tensor] = {}
        self.cuts: tuple[Cut, ...] = ()
        self.notices: tuple[Problem, ...] = ()
        # Not part of the state dict: the design holds them.
        self.register_buffer("mean", torch.tensor(design.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(design.std).view(1, -1, 1, 1), persistent=False)
        reshape(self, design.form)

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
        group: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch class"]:
        """Logits of images given as uint8, or as floats in 0..1.

        Args:
            image: see above.
            group: index of each image's group, -1 = not known; left out: not known for any. Looked at by a model that
                needs it only. Its answer for an image of unknown group is the mean of what it says for each group.

        Raises:
            ModelError: the images have another type or number of channels, or the network does not
                give one logit a class.
        """
        form = self.design.form
        return leave(self.exits(image, group), form.confidence, self.design.task)

    def exits(
        self,
        image: Shaped[Tensor, "batch channel height width"],
        group: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch class"], ...]:
        """The logits of every exit, the network's own last; see `forward`."""
        pixels = self._normalised(image)
        form = self.design.form
        if not form.needs_group or self.fixed:
            return self._answers(pixels, pixels.new_zeros(len(pixels), dtype=torch.long))
        if group is None:
            group = torch.full((len(pixels),), -1, device=pixels.device)
        unknown = group < 0
        # In training mode norms and offsets see to images of unknown group themselves, in one pass.
        if self.training or not bool(unknown.any()):
            return self._answers(pixels, group)
        each = [
            self._answers(pixels[unknown], torch.full_like(group[unknown], index)) for index in range(len(form.groups))
        ]
        mean = [torch.stack(logits).mean(0) for logits in zip(*each, strict=True)]
        if bool(unknown.all()):
            return tuple(mean)
        known = self._answers(pixels[~unknown], group[~unknown])
        order = torch.cat([(~unknown).nonzero(), unknown.nonzero()]).squeeze(1).argsort()
        return tuple(torch.cat([first, second])[order] for first, second in zip(known, mean, strict=True))

    def _normalised(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != self.design.channels:
            raise ModelError(f"images have shape {tuple(image.shape)}, expected (batch, {self.design.channels}, h, w)")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ModelError(f"images are {image.dtype}, expected uint8 or floats in 0..1")
        pixels = image.to(self.mean.dtype)
        if image.dtype == torch.uint8:
            pixels = pixels / 255
        return (pixels - self.mean) / self.std

    def _answers(self, pixels: Tensor, group: Tensor) -> tuple[Tensor, ...]:
        form, classes = self.design.form, len(self.design.classes)
        with routed(self.network, group) if form.norms else nullcontext():
            heads = self.exit_heads if form.exits else ()
            *early, last = collected(self.network, pixels, form.exits, tuple(heads))
        blocks = len(form.groups) if form.blocks else 1
        last = backbones.check_logits(last, len(pixels), blocks * classes)
        if blocks > 1:
            last = last.unflatten(1, (blocks, classes)).sum(1)
        found = (*early, last)
        if form.offsets:
            # An image of unknown group comes here in training mode only.
            added = torch.where((group >= 0)[:, None], self.offsets[group], self.offsets.mean(0))
            found = tuple(logits + added for logits in found)
        return found

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
        return storage.Saved(self.design, self.state_dict(), self.masks, self.cuts, self.trained)

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
        model.trained = saved.trained
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

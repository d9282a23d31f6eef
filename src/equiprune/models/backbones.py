"""The networks a recipe can name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, ModuleType

import torch
from torch import Tensor, nn

from equiprune.errors import ModelError, Problem, nearest
from equiprune.models import factory
from equiprune.models.design import Design
from equiprune.models.simple_cnn import SimpleCNN

# Sizes tried, in this order, to tell a user what would work where an image is too small.
LARGER = (32, 64, 128, 224)


def _torchvision(name: str, design: Design) -> nn.Module:
    # Imported where it is used: it takes as long to import as torch, and most commands that only read do without.
    from torchvision import models

    network: nn.Module = models.get_model(name, weights=None, num_classes=len(design.classes))
    if design.channels != 3:
        _take_channels(network, design.channels)
    return network


def _take_channels(network: nn.Module, channels: int) -> None:
    name, old = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        stride=(old.stride[0], old.stride[1]),
        padding=old.padding if isinstance(old.padding, str) else (old.padding[0], old.padding[1]),
        bias=old.bias is not None,
    )
    # As torchvision starts the convolutions of VGG and ResNet.
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    network.set_submodule(name, new)


def _simple_cnn(design: Design) -> nn.Module:
    return SimpleCNN(len(design.classes), design.channels)


BACKBONES: Mapping[str, Callable[[Design], nn.Module]] = MappingProxyType(
    {
        "vgg11": partial(_torchvision, "vgg11"),
        "vgg11_bn": partial(_torchvision, "vgg11_bn"),
        "resnet18": partial(_torchvision, "resnet18"),
        "resnet50": partial(_torchvision, "resnet50"),
        "simple_cnn": _simple_cnn,
    }
)


def build(design: Design, seed: int = 0) -> nn.Module:
    """The design's network with fresh weights, which depend on the seed alone.

    Tried on one blank image before it is handed out. The global random state is left as it was.

    Raises:
        ModelError: the backbone is unknown, its file fails, or it does not turn images of this
            size into one logit a class.

    Example:
        >>> network = build(Design(backbone="simple_cnn", classes=("no", "yes"), channels=1, image_size=8))
        >>> network(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 2])
    """
    with torch.random.fork_rng(devices=[]):
        # Only the CPU generator: torch.manual_seed would also reseed those of every GPU.
        torch.default_generator.manual_seed(seed)
        network = _made(design)
        _tried(network, design)
    return network


def _made(design: Design) -> nn.Module:
    if design.backbone in BACKBONES:
        return BACKBONES[design.backbone](design)
    file = factory.split(design.backbone)
    if file is not None:
        count = len(design.classes)
        offered = {"classes": count, "num_classes": count, "channels": design.channels}
        return factory.made(*file, {**offered, "image_size": design.image_size})
    if importlib.util.find_spec("timm") is None:
        hint = nearest(design.backbone, BACKBONES)
        hint += ". A name of timm needs: pip install 'equiprune[timm]'. A file of yours is \"my_file.py:function\""
        raise ModelError(Problem(f"there is no backbone {design.backbone!r}", hint=hint))
    return _timm(importlib.import_module("timm"), design)


def _timm(timm: ModuleType, design: Design) -> nn.Module:
    # Checked against timm's own list first: names such as "hf-hub:..." would reach for the network.
    names = timm.list_models()
    if design.backbone not in names:
        hint = nearest(design.backbone, [*BACKBONES, *names])
        raise ModelError(Problem(f"there is no backbone {design.backbone!r}", hint=hint[:200]))
    make = partial(
        timm.create_model,
        design.backbone,
        pretrained=False,
        num_classes=len(design.classes),
        in_chans=design.channels,
    )
    try:
        network: nn.Module = make(img_size=design.image_size)
    except TypeError:  # convolutional nets take any size and have no such argument
        network = make()
    return network


def _tried(network: nn.Module, design: Design) -> None:
    training = network.training
    network.eval()
    error = _error_at(network, design, design.image_size)
    if error is not None:
        works = (size for size in LARGER if size > design.image_size and _error_at(network, design, size) is None)
        size = next(works, None)
        raise ModelError(
            Problem(
                f"{design.backbone} does not work on images of {design.image_size} x {design.image_size} pixels "
                f"with {design.channels} channels: {error}",
                hint=None if size is None else f"It does with image_size = {size}",
            )
        )
    network.train(training)


def _error_at(network: nn.Module, design: Design, size: int) -> str | None:
    with torch.no_grad():
        try:
            check_logits(network(torch.zeros(1, design.channels, size, size)), 1, len(design.classes))
        except ModelError as error:
            return str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


def check_logits(logits: object, batch: int, classes: int) -> Tensor:
    """The logits, once it is sure that there is one a class for every image.

    Raises:
        ModelError: the network gave something else.
    """
    if isinstance(logits, Tensor) and logits.shape == (batch, classes):
        return logits
    gave = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    raise ModelError(f"the network gave {gave}, expected logits of shape {(batch, classes)}")

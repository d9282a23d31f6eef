"""VGG-11 and ResNets with an eighth of their channels: convolutions of the same names, for smoke runs.

Named as factories of this file, so that they need no name of their own among the backbones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

NARROWER = 8
MOMENTUM = 0.5
"""Of batch norms, so that what they say in evaluation has caught up with a few steps of training."""
HIDDEN = 128  # units of VGG's first two linear layers, 4,096 in the full network


def vgg11(classes: int, channels: int, image_size: int) -> nn.Module:  # noqa: ARG001 - VGG takes any size
    """VGG-11."""
    return _vgg(classes, channels, batch_norm=False)


def vgg11_bn(classes: int, channels: int, image_size: int) -> nn.Module:  # noqa: ARG001 - VGG takes any size
    """VGG-11 with batch norm."""
    return _vgg(classes, channels, batch_norm=True)


def resnet18(classes: int, channels: int) -> nn.Module:
    """ResNet-18; the first convolution keeps its width."""
    return _resnet(BasicBlock, [2, 2, 2, 2], classes, channels)


def resnet50(classes: int, channels: int) -> nn.Module:
    """ResNet-50; the first convolution keeps its width."""
    return _resnet(Bottleneck, [3, 4, 6, 3], classes, channels)


def _vgg(classes: int, channels: int, *, batch_norm: bool) -> nn.Module:
    widths = [width if width == "M" else int(width) // NARROWER for width in cfgs["A"]]
    features = make_layers(widths, batch_norm=batch_norm)
    if channels != 3:
        features[0] = nn.Conv2d(channels, int(widths[0]), 3, padding=1)
    for place, layer in enumerate(features):
        # Within a few steps so deep a network learns nothing without batch norm, and the convolutions keep their names.
        if isinstance(layer, nn.ReLU) and not batch_norm:
            features[place] = nn.Sequential(nn.BatchNorm2d(features[place - 1].out_channels), nn.ReLU())
    with torch.device("meta"):  # all of its parts are replaced, and need no memory before
        network: nn.Module = VGG(nn.Sequential(), init_weights=False)
    network.features = features
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    # VGG's own, without dropout: of so few units it leaves nothing to learn from.
    network.classifier = nn.Sequential(
        nn.Linear(int(widths[-2]), HIDDEN), nn.ReLU(), nn.Dropout(0.0),
        nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(0.0),
        nn.Linear(HIDDEN, classes),
    )  # fmt: skip
    return _quick(network)


class _Narrow(ResNet):  # type: ignore[misc]  # torchvision has no types
    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        return super()._make_layer(block, planes // NARROWER, *args, **kwargs)


def _resnet(block: type[BasicBlock | Bottleneck], layers: list[int], classes: int, channels: int) -> nn.Module:
    network: nn.Module = _Narrow(block, layers)
    network.fc = nn.Linear(512 * block.expansion // NARROWER, classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return _quick(network)


def _quick(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = MOMENTUM
    return network

"""VGG-11 and ResNet-18 with an eighth of their channels: the same layers by the same names, for smoke runs.

Named as factories of this file, so that they need no name of their own among the backbones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, cfgs, make_layers

NARROWER = 8
HIDDEN = 32  # units of VGG's first two linear layers, 4,096 in the full network


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
    maps = int(widths[-2])
    with torch.device("meta"):  # its linear layers are replaced, and need no memory before
        network = VGG(nn.Sequential(), init_weights=False)
    network.features = make_layers(widths, batch_norm=batch_norm)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier[0] = nn.Linear(maps, HIDDEN)
    network.classifier[3] = nn.Linear(HIDDEN, HIDDEN)
    network.classifier[6] = nn.Linear(HIDDEN, classes)
    if channels != 3:
        network.features[0] = nn.Conv2d(channels, int(widths[0]), 3, padding=1)
    return network


class _Narrow(ResNet):
    def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:  # noqa: ANN401
        return super()._make_layer(block, planes // NARROWER, *args, **kwargs)


def _resnet(block: type[BasicBlock | Bottleneck], layers: list[int], classes: int, channels: int) -> nn.Module:
    network = _Narrow(block, layers)
    network.fc = nn.Linear(network.fc.in_features // NARROWER, classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network

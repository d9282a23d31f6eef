"""The narrow networks of smoke runs: convolutions by the names of the full ones, and few weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from equiprune.models.backbones import build
from equiprune.models.design import Design
from equiprune.smoke import NARROW, narrowed

CLASSES = ("a", "b", "c")


def _convolutions(network: nn.Module) -> list[str]:
    # A narrow block of a ResNet may need a projection that the full one does not.
    found = (name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    return [name for name in found if "downsample" not in name]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_network_has_the_convolutions_of_the_full_one(name: str, channels: int) -> None:
    design = Design(backbone=narrowed(name), classes=CLASSES, channels=channels, image_size=32)
    narrow = build(design, 0)
    assert narrow(torch.zeros(2, channels, 32, 32)).shape == (2, 3)
    with torch.device("meta"):
        full = models.get_model(name)
    assert _convolutions(narrow) == _convolutions(full)
    assert sum(weight.numel() for weight in narrow.parameters()) < 1_000_000

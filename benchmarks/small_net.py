"""A small network with batch norm for benchmarks: what `equiprune` calls a factory."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


def small(num_classes: int, channels: int = 3) -> nn.Module:
    """Four stages of convolution, batch norm and ReLU, each half as large as the one before."""
    return Small(num_classes, channels)


class Small(nn.Module):
    """See `small`."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, 64, 64)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
                )
                for before, width in pairwise(widths)
            )
        )
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.stages(image).mean((2, 3)))  # type: ignore[no-any-return]

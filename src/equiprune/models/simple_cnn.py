"""The "SimpleCNN" of the report on fairness of chest X-ray classifiers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """Three convolutions with ReLU and pooling, two fully connected layers.

    The report gives neither widths nor pooling; ours are 32, 64 and 128 channels, halved in size
    after each, then averaged to 4 x 4, so that any input from 8 x 8 pixels fits. The activations are
    not in place and none is used twice, so that every layer can be looked into.

    Args:
        classes: number of logits.
        channels: channels of the image.

    Example:
        >>> import torch
        >>> SimpleCNN(classes=11, channels=1)(torch.zeros(2, 1, 50, 50)).shape
        torch.Size([2, 11])
    """

    def __init__(self, classes: int, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.pool3 = nn.MaxPool2d(2)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * 4 * 4, 128)
        self.relu4 = nn.ReLU()
        self.fc2 = nn.Linear(128, classes)

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Logits of normalised images."""
        x = self.pool1(self.relu1(self.conv1(image)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.pool3(self.relu3(self.conv3(x)))
        x = self.relu4(self.fc1(self.flatten(self.pool(x))))
        logits: Tensor = self.fc2(x)
        return logits

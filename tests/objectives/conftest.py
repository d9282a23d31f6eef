from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels
    from equiprune.models.classifier import Classifier

NETWORK = '''
from torch import nn


def small(num_classes):
    """Three stages with batch norm; the last has a residual sum."""
    return Net(num_classes)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.stage1 = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(8, 10, 3, stride=2, padding=1), nn.BatchNorm2d(10), nn.ReLU())
        self.branch, self.norm, self.relu = nn.Conv2d(10, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU()
        self.fc = nn.Linear(10, classes)

    def forward(self, image):
        x = self.stage2(self.stage1(self.stem(image)))
        x = self.relu(x + self.norm(self.branch(x)))
        return self.fc(x.mean((2, 3)))
'''


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network with batch norm, as a user's file."""
    path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(NETWORK)
    return f"{path}:small"


@pytest.fixture(scope="session")
def findings(lesion_data: tuple[Cohort, Pixels]) -> Cohort:
    """The same images with a finding a class, some of them not known."""
    cohort, _ = lesion_data
    label = (cohort.label[:, None] == np.arange(len(cohort.classes))).astype(np.float32)
    label[np.random.default_rng(0).random(label.shape) < 0.1] = np.nan
    return replace(cohort, label=label)


def with_unknown(cohort: Cohort, share: float = 0.2) -> Cohort:
    """Some rows' attribute is not known."""
    hidden = np.random.default_rng(1).random(len(cohort)) < share
    return replace(cohort, group=np.where(hidden, -1, cohort.group))


def built(factory: str, cohort: Cohort) -> Classifier:
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design

    return Classifier.build(Design(backbone=factory, classes=cohort.classes, image_size=32, task=cohort.task), seed=0)


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path

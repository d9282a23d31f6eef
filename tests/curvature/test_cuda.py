from __future__ import annotations

import pytest
import torch
from torch import nn

from equiprune import curvature

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@pytest.mark.parametrize("estimator", ["exact", "budget", "stochastic", "fisher"])
def test_a_gpu_gives_what_the_cpu_gives(estimator: curvature.Named) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(288, 20),
    ).double().eval()  # fmt: skip
    rows = 12
    batches = [(torch.randn(rows, 3, 16, 16).double(), torch.arange(rows) % 20, torch.arange(rows) % 2)]
    expected = curvature.diagonal(model, batches, ["a", "b"], estimator=estimator)
    found = curvature.diagonal(model.cuda(), batches, ["a", "b"], estimator=estimator)
    for group, own in expected.items():
        for name, value in own.items():
            assert found[group][name].is_cuda
            torch.testing.assert_close(found[group][name].cpu(), value, rtol=1e-8, atol=1e-10 * float(value.max()))

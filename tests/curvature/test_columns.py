from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from equiprune.curvature.columns import columns


def product(loss_columns: list[Tensor]) -> Tensor:
    stacked = torch.stack(loss_columns, 2)
    return stacked @ stacked.mT


@given(scale=st.sampled_from([0.0, 1.0, 30.0, 1000.0, 1e6]), classes=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_softmax_columns_factor_its_second_derivative(scale: float, classes: int, seed: int) -> None:
    z = scale * torch.randn(4, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = list(columns("cross_entropy", z, torch.zeros(4, dtype=torch.int64)))
    assert len(found) == classes - 1
    p = z.softmax(1)
    torch.testing.assert_close(product(found), torch.diag_embed(p) - p[:, :, None] * p[:, None, :], rtol=0, atol=1e-14)


def test_a_rare_classs_curvature_keeps_its_digits() -> None:
    """p (1 - p) computed from 1 - p would lose them in float32."""
    z = torch.tensor([[0.0, -40.0]])
    (column,) = columns("cross_entropy", z, torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(column.square(), torch.full((1, 2), 4.248354255291589e-18), rtol=1e-6, atol=0)


def test_sigmoid_columns_are_one_a_finding_and_nothing_where_it_is_unknown() -> None:
    z = torch.tensor([[0.0, 2.0], [-50.0, 50.0]], dtype=torch.float64)
    label = torch.tensor([[1.0, 0.0], [0.0, float("nan")]], dtype=torch.float64)
    p = z.sigmoid()
    expected = torch.diag_embed(p * (-z).sigmoid())
    expected[1, 1, 1] = 0
    torch.testing.assert_close(product(list(columns("bce", z, label))), expected, rtol=1e-12, atol=0)

"""The exact cells of the published Fitzpatrick-17k table (VGG-11): FATE from its printed F1 and gaps."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from equiprune.metrics.tradeoff import fate

F1_BASE = 0.510
GAPS_BASE = {"eopp0": 0.0013, "eopp1": 0.361, "eodd": 0.182}
HALF = {"eopp0": 0.00005, "eopp1": 0.0005, "eodd": 0.0005}
PRINTED = {
    "MFD": (0.480, (0.0011, 0.334, 0.166), (0.0950, 0.0160, 0.0291)),
    "FairPrune": (0.483, (0.0008, 0.330, 0.165), (0.3317, 0.0329, 0.0405)),
    "ME-FairPrune": (0.522, (0.0012, 0.305, 0.152), (0.1005, 0.1787, 0.1884)),
    "SCP-FairPrune": (0.520, (0.0012, 0.278, 0.139), (0.0965, 0.2495, 0.2559)),
    "AdvConf": (0.466, (0.0011, 0.339, 0.169), (0.0676, -0.0253, -0.0148)),
    "DomainIndep": (0.492, (0.0012, 0.344, 0.172), (0.0416, 0.0118, 0.0197)),
    "OBD": (0.506, (0.0012, 0.360, 0.180), (0.0691, -0.0051, 0.0031)),
}
CELLS = [
    (method, gap, f1, gaps[i], printed[i])
    for method, (f1, gaps, printed) in PRINTED.items()
    for i, gap in enumerate(GAPS_BASE)
]


@pytest.mark.parametrize(("method", "gap", "f1", "value", "printed"), CELLS)
def test_fate_of_the_printed_values_is_the_printed_fate(
    method: str, gap: str, f1: float, value: float, printed: float
) -> None:
    assert fate(f1, F1_BASE, value, GAPS_BASE[gap]) == pytest.approx(printed, abs=0.5001e-4), method


@pytest.mark.parametrize(("method", "gap", "f1", "value", "printed"), CELLS)
def test_the_printed_fate_lies_within_what_rounding_allows(
    method: str, gap: str, f1: float, value: float, printed: float
) -> None:
    signs = np.array(list(product((-1, 1), repeat=4)))
    ends = [
        fate(f1 + a * 5e-4, F1_BASE + b * 5e-4, value + c * HALF[gap], GAPS_BASE[gap] + d * HALF[gap])
        for a, b, c, d in signs.tolist()
    ]
    assert min(ends) - 5e-5 <= printed <= max(ends) + 5e-5, method

"""Audits a table of predictions: no torch, no images.

Two classifiers with the same accuracy are made up here, one that errs equally often in both groups
and one that does not. The audit tells them apart, and says what chance alone would show.
"""

from __future__ import annotations

import numpy as np

import equiprune as ep


def predictions(wrong: tuple[float, float], seed: int = 0) -> ep.Predictions:
    """600 patients, two classes; `wrong` is the share of errors in each group."""
    draw = np.random.default_rng(seed)
    label, group = draw.integers(0, 2, 600), draw.integers(0, 2, 600)
    called = np.where(draw.random(600) < np.take(wrong, group), 1 - label, label)
    score = np.where(called[:, None] == np.arange(2), 0.8, 0.2)
    return ep.Predictions(label, score, group, classes=["benign", "malignant"], groups=["female", "male"])


for name, wrong in {"fair": (0.2, 0.2), "unfair": (0.1, 0.3)}.items():
    result = ep.audit(predictions(wrong), replicates=1000)
    gap = result.gaps["eopp1"]
    print(
        f"{name}: accuracy {result.overall['accuracy'].value:.2f}, Eopp1 {gap.value:.3f} "
        f"[{gap.low:.3f}, {gap.high:.3f}], a fair model would show {gap.floor:.3f}, p = {gap.p_value:.3f}"
    )

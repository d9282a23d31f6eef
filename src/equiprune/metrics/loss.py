"""The loss on a split, from probabilities."""

from __future__ import annotations

import numpy as np

from equiprune.predictions import Predictions

LEAST = 1e-12  # a probability of 0 would make the loss infinite


def log_loss(predictions: Predictions) -> float:
    """Multi-class: the mean over rows of -log p of the true class. Multi-label: binary, the mean over known cells.

    Returns:
        In nats; nan where no label is known.

    Example:
        >>> p = Predictions([0, 1], [[0.5, 0.5], [0.5, 0.5]], [0, 1], ["a", "b"], ["f", "m"])
        >>> round(log_loss(p), 4)
        0.6931
    """
    score = predictions.score.astype(np.float64)
    if predictions.task == "multiclass":
        likely = score[np.arange(len(score)), predictions.label]
    else:
        known = ~np.isnan(predictions.label)
        likely = np.where(predictions.label == 1, score, 1 - score)[known]
    return float(-np.log(np.maximum(likely, LEAST)).mean()) if len(likely) else float("nan")

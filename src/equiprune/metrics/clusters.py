"""Rows that hang together, and the variance of a sum over them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


class Clusters:
    """The rows of one unit in one slot: found once, for many sums of influences.

    Args:
        unit: of each row; None where every row is a unit of its own.
        slot: of each row; None where there is only one.
        slots: how many.
    """

    def __init__(
        self, unit: Int[np.ndarray, " row"] | None, slot: Int[np.ndarray, " row"] | None = None, slots: int = 1
    ) -> None:
        self._slots, self._slot = slots, slot
        self._cluster: Int[np.ndarray, " row"] | None = None
        if unit is None:
            return
        units = int(unit.max()) + 1
        found, cluster = np.unique(unit if slot is None else slot * units + unit, return_inverse=True)
        self._cluster = cluster.ravel()
        self._slot = None if slot is None else found // units

    def variance(self, influence: Float[np.ndarray, " row"]) -> Float[np.ndarray, " slot"]:
        """Variance of the sum of influences in each slot: sums over clusters, squared and added.

        Example:
            >>> Clusters(np.array([0, 0, 1])).variance(np.array([1.0, 1.0, 2.0])).tolist()
            [8.0]
            >>> Clusters(None, np.array([0, 1, 1]), 2).variance(np.array([1.0, 1.0, 2.0])).tolist()
            [1.0, 5.0]
        """
        sums = influence if self._cluster is None else np.bincount(self._cluster, influence)
        return np.array([sums @ sums]) if self._slot is None else np.bincount(self._slot, sums**2, self._slots)

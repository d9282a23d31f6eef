"""The sums that squares are added to: one a group, and where an error is asked for one more a group for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equiprune.curvature import layers
from equiprune.curvature.layers import Products


class Sums:
    """Sums of squares by target and parameter: the groups first, then their differences where there are any.

    Args:
        model: whose parameters.
        targets: how many sums each parameter has.
    """

    def __init__(self, model: nn.Module, targets: int) -> None:
        self.targets = targets
        self.parameters = dict(model.named_parameters())
        self._large: dict[str, tuple[nn.Module, list[Products]]] = {}
        self._small: dict[str, Tensor] = {}
        self._own: dict[str, list[Tensor]] = {}

    def large(self, name: str, layer: nn.Module) -> list[Products]:
        """Those of a product's weight, in the shape in which it is formed."""
        if name not in self._large:
            dtype = _wide(self.parameters[name].dtype)
            self._large[name] = layer, [layers.zeros(layer, dtype) for _ in range(self.targets)]
        return self._large[name][1]

    def add_small(self, name: str, squares: Float[Tensor, "row ..."], share: Float[Tensor, "target row"]) -> None:
        """Adds rows of a small parameter, each to its targets; in float64, which costs nothing here."""
        added = share.to(squares.device) @ squares.double().flatten(1)
        shape = self.parameters[name].shape
        self._small[name] = added.view(-1, *shape) + self._small.get(name, 0)

    def add_own(self, name: str, squares: Tensor, shares: Sequence[float]) -> None:
        """Adds one row of a parameter in its own shape."""
        if name not in self._own:
            zeros = torch.zeros_like(squares, dtype=_wide(squares.dtype))
            self._own[name] = [zeros.clone() for _ in range(self.targets)]
        for total, share in zip(self._own[name], shares, strict=True):
            if share:
                total.add_(squares, alpha=share)

    def taken(self, name: str, target: int) -> Tensor:
        """One sum in the parameter's shape; it is given up here."""
        parameter = self.parameters[name]
        found = torch.zeros(0)
        parts: list[Tensor] = []
        if name in self._large:
            layer, totals = self._large[name]
            parts.append(layers.as_weight(layer, totals[target]))
            totals[target] = found
        if name in self._small:
            parts.append(self._small[name][target].to(_wide(parameter.dtype)))
        if name in self._own:
            parts.append(self._own[name][target])
            self._own[name][target] = found
        if not parts:
            return torch.zeros(parameter.shape, dtype=_wide(parameter.dtype), device=parameter.device)
        whole = parts[0].contiguous()
        for part in parts[1:]:
            whole += part
        return whole


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32

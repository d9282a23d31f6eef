"""Per-group diagonals of the second derivative of the loss, exact, both groups in one pass over the data.

For one sample with logits z and loss l(z), the Gauss-Newton matrix of the weights θ is JᵀHJ, with J = ∂z/∂θ and
H = ∂²l/∂z². It equals the second derivative exactly where z is piecewise linear in each single weight: nets of
convolutions, linear layers, ReLU, max and average pooling, batch norm in eval mode and sums. Elsewhere (GELU,
attention) it is its positive part, and what FairPrune and Optimal Brain Damage use in its place.

H = S Sᵀ with few columns s. Each column goes backwards through the net once, for the whole batch; the square of a
sample's weight gradient under s is that column's share of the diagonal. What remains is to form these squares
quickly, layer by layer, without ever holding one gradient a sample.
"""

from __future__ import annotations

from equiprune.curvature.diagonals import Diagonals, combined, diagonal
from equiprune.curvature.estimators import Budget, Estimator, Exact, Fisher, Named, Stochastic
from equiprune.curvature.losses import Exits, Loss

__all__ = [
    "Budget",
    "Diagonals",
    "Estimator",
    "Exact",
    "Exits",
    "Fisher",
    "Loss",
    "Named",
    "Stochastic",
    "combined",
    "diagonal",
]

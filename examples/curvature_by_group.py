"""Second derivatives by group of a network of your own: where does one group lean on weights that the other does not?

The network is any PyTorch module, the batches are any tuples of image, label and group index. Three estimators are
compared: all of the curvature, all but a hundredth, and about one pass backwards an image.
"""

from __future__ import annotations

import torch
from torch import nn

from equiprune import curvature

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
).eval()  # fmt: skip
with torch.no_grad():
    model[8].weight.mul_(40)  # type: ignore[operator]  # as after training: sure of most images
batches = []
for _ in range(6):
    group = torch.randint(2, (16,))
    image = torch.randn(16, 3, 32, 32)
    image[group == 1] = nn.functional.avg_pool2d(image[group == 1], 5, 1, 2)  # images of the dark group are smoother
    batches.append((image, torch.randint(5, (16,)), group))

exact = curvature.diagonal(model, batches, ["light", "dark"])
estimators: dict[str, curvature.Estimator] = {
    "exact": curvature.Exact(),
    "budget": curvature.Budget(tolerance=0.01),
    "stochastic": curvature.Stochastic(columns=1, seed=0),
}
for name, estimator in estimators.items():
    found = curvature.diagonal(model, batches, ["light", "dark"], estimator=estimator)
    off = (found["dark"]["0.weight"] - exact["dark"]["0.weight"]).norm() / exact["dark"]["0.weight"].norm()
    print(f"{name}: {found.columns} columns for {sum(found.samples.values())} images, first layer off by {off:.1%}")

saliency = {
    group: {n: 0.5 * h * model.get_parameter(n).detach() ** 2 for n, h in own.items()} for group, own in exact.items()
}
for layer in ("0.weight", "4.weight", "8.weight"):
    light, dark = (float(saliency[group][layer].sum()) for group in ("light", "dark"))
    print(f"{layer}: light leans on it {light / dark:.2f} times as much as dark")

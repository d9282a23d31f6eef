"""Channels that tell two groups apart are found and cut, by hand: what the method `scp` does in its loop.

The classifier is a small network on drawn images; the dark group's are smoother. Its last convolution is scored by
soft-nearest-neighbour loss, the lowest tenth of its channels is cut for good; the smaller model is saved and loaded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import equiprune as ep
from equiprune.pruning.channels import channel_sets, cut, lowest_units

torch.manual_seed(0)
classifier = ep.Classifier.build(ep.Design(backbone="simple_cnn", classes=("naevus", "melanoma"), image_size=32)).eval()
group = torch.arange(64) % 2
image = torch.rand(64, 3, 32, 32)
image[group == 1] = nn.functional.avg_pool2d(image[group == 1], 5, 1, 2)

for one in channel_sets(classifier):
    print(f"{one.layer}: {one.count} channels")
last = channel_sets(classifier)[-1]
name = f"network.{last.layer}"
scores = ep.entanglement.model_scores(classifier, [(image, group, group)], [name])[name]
print(f"scores from {scores.min():.3f} to {scores.max():.3f}; no signal would give about {torch.tensor(2.0).log():.3f}")

smaller = cut(classifier, {last.layer: lowest_units(scores, last, last.units // 10)})
before, after = classifier.facts().parameters, smaller.facts().parameters
print(f"{before:,} parameters before, {after:,} after")

with tempfile.TemporaryDirectory() as folder:
    smaller.save(Path(folder))
    again = ep.Classifier.load(Path(folder)).eval()
with torch.no_grad():
    print("the same logits from disk:", torch.equal(again(image), smaller.eval()(image)))

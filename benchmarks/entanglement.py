"""Channel scores beside the published formula, looped over channels: time, memory, and what they add to a pass.

- scores: `channel_scores` of VGG-11's last convolution, 128 images of 128 pixels, beside the formula as it is written,
  one channel after the other (our own straight implementation: distances of all pairs, exponentials, two sums).
- pass: what scoring adds to a pass of the images through the network, for the last layer and for all.
- memory: the peak on top of what was held, as channels get more.
- cut: latency of VGG-11 before and after half of all channels are cut.

Run: python benchmarks/entanglement.py [--only scores …] [--device cpu|cuda] [--threads N]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import vgg11

from equiprune.entanglement import channel_scores, model_scores
from equiprune.models.classifier import Classifier
from equiprune.models.costs import costs
from equiprune.models.design import Design
from equiprune.pruning.channels import channel_sets, cut

BATCH, SIZE, ROUNDS = 128, 128, 7
MIB = 1 << 20
PARTS = ("scores", "pass", "memory", "cut")


def looped(features: Tensor, group: Tensor) -> Tensor:
    """Eq. 1, a channel at a time, with the same temperature."""
    scores = []
    same = (group[:, None] == group[None, :]).fill_diagonal_(False)
    other = ~torch.eye(len(group), dtype=torch.bool, device=features.device)
    for channel in range(features.shape[1]):
        maps = features[:, channel].flatten(1)
        distance = torch.cdist(maps, maps).square()
        temperature = distance[other].mean()
        near = (-distance / temperature).exp()
        scores.append(-torch.log((near * same).sum(1) / (near * other).sum(1)).mean())
    return torch.stack(scores)


def seconds(work: Callable[[], object], device: str) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def made(device: str) -> tuple[Any, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    network = vgg11(num_classes=114).eval().to(device).to(memory_format=torch.channels_last)
    image = torch.randn(BATCH, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
    group = torch.arange(BATCH, device=device) % 2
    with torch.no_grad():
        features = network.features[:20](image)
    return network, image, features, group


def show_scores(device: str) -> None:
    _, _, features, group = made(device)
    apart = (channel_scores(features, group) - looped(features.double(), group)).abs()
    dead = int(apart.isnan().sum())  # channels that are 0 everywhere: the formula is 0 / 0
    ours = seconds(lambda: channel_scores(features, group), device)
    loop = seconds(lambda: looped(features, group), device)
    print(
        f"  {tuple(features.shape)}: {1e3 * ours:.1f} ms, the loop {1e3 * loop:.1f} ms, {loop / ours:.1f} times faster"
    )
    print(f"  largest difference from the loop in float64: {float(apart.nan_to_num().max()):.1e}; {dead} dead channels")


def show_pass(device: str) -> None:
    network, image, _, group = made(device)
    convolutions = [name for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d)]

    def plain() -> None:
        with torch.no_grad():
            network(image)

    once = seconds(plain, device)
    for what, layers in (("the last layer", convolutions[-1:]), ("all eight", convolutions)):
        scored = seconds(lambda layers=layers: model_scores(network, [(image, group, group)], layers), device)  # type: ignore[misc]
        print(f"  a pass {once:.3f} s; with scores of {what} {scored:.3f} s: {scored / once - 1:+.1%}")
    _, _, features, _ = made(device)
    alone = seconds(lambda: channel_scores(features, group), device)
    print(f"  scores of the last layer alone: {alone / once:.1%} of a pass")


def resident(kind: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def show_memory(device: str) -> None:
    group = torch.arange(BATCH, device=device) % 2
    for channels in (64, 512, 4096):
        features = torch.randn(BATCH, channels, 8, 8, device=device)
        channel_scores(features[:, :8], group)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            channel_scores(features, group)
            taken = (torch.cuda.max_memory_allocated() - held) / MIB
        else:
            ctypes.CDLL(None).malloc_trim(0)  # else what was freed before is used again, and counts for nothing
            Path("/proc/self/clear_refs").write_text("5")
            before = resident("VmRSS")
            channel_scores(features, group)
            taken = resident("VmHWM") - before
        whole = channels * BATCH * BATCH * 4 / MIB
        print(f"  {channels} channels: {taken:.0f} MiB; channels x batch² numbers would be {whole:.0f} MiB")


def show_cut(device: str) -> None:
    names = tuple(f"class {index}" for index in range(114))
    whole = Classifier.build(Design(backbone="vgg11", classes=names, image_size=SIZE)).to(device)
    halves = {found.layer: range(0, found.count, 2) for found in channel_sets(whole)}
    half = cut(whole, halves)
    before, after = costs([whole, half])
    for size, old in before.latency_ms.items():
        new = after.latency_ms[size]
        print(f"  batch {size}: {old:.1f} ms, with half of all channels {new:.1f} ms: {old / new:.2f} times faster")
    print(f"  operations {before.flops / after.flops:.2f} times fewer, parameters "
          f"{whole.facts().parameters / half.facts().parameters:.2f} times fewer")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for part in given.only:
        print(part)
        {"scores": show_scores, "pass": show_pass, "memory": show_memory, "cut": show_cut}[part](given.device)


if __name__ == "__main__":
    main()

"""Trains the two networks that the curvature is measured on after training: most of their samples are easy by then.

- vgg: VGG-11 for 114 classes of 128-pixel images (its pooling to 4 x 4, which these images have anyway, so that
  BackPACK can run it). Trained with batch norm, which is then folded into the convolutions. The images are textures
  drawn here, one pattern a class mixed with another's, noisier for one of two groups, one label of twenty wrong.
- resnet: ResNet-18 for 8 classes of 128-pixel images: the same textures, or a manifest's own images.

The last layer is then trained on, on stored features, until nearly all samples are easy, as after the hundreds of
epochs of the papers: what counts for the curvature is how sure the network is of its training images.

Run: python benchmarks/converged.py FOLDER [--only vgg|resnet] [--manifest M.csv --label L --attribute A]
Takes about 15 minutes a network on two cores, in bfloat16.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18, vgg11, vgg11_bn

SIZE = 128
BATCH = 64
CLASSES = {"vgg": 114, "resnet": 8}
IMAGES = {"vgg": 1824, "resnet": 3000}
EPOCHS = {"vgg": 8, "resnet": 10}
RATE = 3e-4
LAST = {"vgg": 46, "resnet": 41}  # epochs of the last layer
LAST_RATE = 1e-3
WRONG = 0.05


def textures(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images as bytes, labels and groups: a class's pattern, mixed with another's, moved a little, and noise."""
    generator = torch.Generator().manual_seed(seed)
    patterns = functional.interpolate(torch.randn(classes, 3, 16, 16, generator=generator), size=SIZE, mode="bicubic")
    label = torch.randint(classes, (count,), generator=generator)
    other = torch.randint(classes, (count,), generator=generator)
    group = torch.randint(2, (count,), generator=generator)
    evidence = 1 - torch.rand(count, generator=generator) * (0.35 + 0.15 * group)
    moved = torch.randint(-4, 5, (count, 2), generator=generator).tolist()
    image = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    for row in range(count):
        mixed = evidence[row] * patterns[label[row]] + (1 - evidence[row]) * patterns[other[row]]
        mixed = torch.roll(mixed, moved[row], (1, 2)) + 0.3 * torch.randn(mixed.shape, generator=generator)
        image[row] = (mixed * 40 + 128).clamp(0, 255).to(torch.uint8)
    return image, label, group


def from_manifest(manifest: str, label: str, attribute: str, count: int, cache: Path) -> tuple[Tensor, Tensor, Tensor]:
    """A manifest's own images, the first `count` of its rows in a random order."""
    import numpy as np

    import equiprune as ep

    settings = ep.DataSettings(manifest=manifest, label=label, attribute=(attribute,), image_size=SIZE)
    cohort, pixels = ep.open_pixels(ep.read_manifest(settings), settings, cache)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(cohort.group >= 0))[:count]
    image = torch.from_numpy(pixels.array[pixels.rows(cohort.image[rows])]).permute(0, 3, 1, 2)
    return image, torch.from_numpy(cohort.label[rows]), torch.from_numpy(cohort.group[rows])


def pixels(image: Tensor) -> Tensor:
    """What the networks read."""
    return (image.float() / 255 - 0.5) / 0.25


def made(name: str) -> Any:  # noqa: ANN401 - a torchvision network
    """The network as it is measured, with fresh weights."""
    if name == "resnet":
        return resnet18(num_classes=CLASSES[name]).eval()
    return _small_pool(vgg11(num_classes=CLASSES[name])).eval()


def _small_pool(network: Any) -> Any:  # noqa: ANN401
    network.avgpool = nn.AdaptiveAvgPool2d(4)
    network.classifier[0] = nn.Linear(512 * 4 * 4, 4096)
    return network


def train(name: str, folder: Path, data: tuple[Tensor, Tensor, Tensor]) -> None:
    """Trains a network and writes its weights and data."""
    torch.manual_seed(0)
    image, label, group = data
    network = made(name) if name == "resnet" else _small_pool(vgg11_bn(num_classes=CLASSES[name], dropout=0.0))
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    for epoch in range(EPOCHS[name]):
        if epoch == int(0.75 * EPOCHS[name]):
            optimiser.param_groups[0]["lr"] = RATE / 5
        network.train()
        started, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(image)).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(pixels(image[rows]).contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits.float(), label[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        print(
            f"{name}, epoch {epoch}: loss {total / len(image):.3f}, {time.perf_counter() - started:.0f} s", flush=True
        )
    network = network.eval() if name == "resnet" else folded(network.eval())
    if name == "vgg":
        wrong = torch.rand(len(label)) < WRONG
        label = torch.where(wrong, torch.randint(CLASSES[name], (len(label),)), label)
    train_last(name, network, image, label)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / f"{name}.safetensors")
    save_file({"image": image.contiguous(), "label": label, "group": group}, folder / f"{name}-data.safetensors")


def train_last(name: str, network: Any, image: Tensor, label: Tensor) -> None:  # noqa: ANN401
    """Trains the last layer alone, in place."""
    last = network.fc if name == "resnet" else network.classifier[6]
    kept: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _layer, args: kept.append(args[0].float()))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for part in image.split(BATCH):
            network(pixels(part).contiguous(memory_format=torch.channels_last))
    hook.remove()
    features = torch.cat(kept)
    optimiser = torch.optim.Adam(last.parameters(), LAST_RATE)
    total = 0.0
    for _epoch in range(LAST[name]):
        total = 0.0
        for rows in torch.randperm(len(features)).split(BATCH):
            loss = functional.cross_entropy(last(features[rows]), label[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
    print(f"{name}, its last layer: loss {total / len(features):.5f}", flush=True)


def folded(network: Any) -> Any:  # noqa: ANN401
    """The plain VGG-11 that gives the same logits as one with batch norm."""
    plain = made("vgg")
    convolutions: list[Any] = [layer for layer in plain.features if isinstance(layer, nn.Conv2d)]
    before: list[Any] = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    norms: list[Any] = [layer for layer in network.features if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for new, old, norm in zip(convolutions, before, norms, strict=True):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            new.weight.copy_(old.weight * scale[:, None, None, None])
            new.bias.copy_((old.bias - norm.running_mean) * scale + norm.bias)
    plain.classifier.load_state_dict(network.classifier.state_dict())
    return plain


def load(name: str, folder: Path) -> tuple[Any, tuple[Tensor, Tensor, Tensor]]:
    """A trained network and what it was trained on."""
    network = made(name)
    network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    data = load_file(folder / f"{name}-data.safetensors")
    return network.eval(), (data["image"], data["label"], data["group"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=list(CLASSES))
    parser.add_argument("--manifest")
    parser.add_argument("--label", default="label")
    parser.add_argument("--attribute", default="sex")
    given = parser.parse_args()
    for name in [given.only] if given.only else list(CLASSES):
        if name == "resnet" and given.manifest:
            data = from_manifest(given.manifest, given.label, given.attribute, IMAGES[name], given.folder / "cache")
        else:
            data = textures(IMAGES[name], CLASSES[name])
        train(name, given.folder, data)


if __name__ == "__main__":
    main()

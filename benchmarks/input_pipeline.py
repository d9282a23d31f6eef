"""Images a second from disk to batch, and the model's share of training time.

The peer is torchvision's ImageFolder behind a DataLoader that decodes, scales, crops and
augments every image anew in every epoch, as most training scripts do. Both sides do the same
work on the same files in the same run. The last line trains ResNet-18 on cached images.

    python benchmarks/input_pipeline.py [--images FOLDER] [--size 128] [--count 1500] [--workers 2]

FOLDER holds a manifest.csv with the columns image and label; without it, JPEGs of 450 x 600
pixels are drawn.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sized
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import InterpolationMode, v2

from equiprune.data.augment import Augment
from equiprune.data.cohort import Cohort
from equiprune.data.loader import batches
from equiprune.data.pixels import Pixels, open_pixels
from equiprune.data.settings import DataSettings

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder with a manifest.csv (columns image, label)")
    parser.add_argument("--size", type=int, default=128, help="side of the square in pixels")
    parser.add_argument("--count", type=int, default=1500, help="images to use at most")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads, and loader processes")
    parser.add_argument("--steps", type=int, default=8, help="training steps")
    given = parser.parse_args()
    # Both sides fork their processes from one server that has imported everything once.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["equiprune.data.loader", "torchvision.datasets", "torchvision.models", "rich.table"])
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        root = given.images or drawn(work / "images", given.count)
        cohort = listed(root, given.count)
        settings = DataSettings(manifest="manifest.csv", label="label", attribute=("none",), image_size=given.size)
        console = Console()
        console.print(f"{machine()}, {len(cohort)} images of {shape(cohort)}, {given.size} px")
        console.print(speeds(cohort, settings, work, given.workers))
        cohort, pixels = open_pixels(cohort, settings, work / "cache")
        for workers in sorted({0, given.workers}):
            console.print(share_in_model(cohort, pixels, given.steps, workers))


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, torch {torch.__version__}"


def shape(cohort: Cohort) -> str:
    with Image.open(cohort.root / str(cohort.image[0])) as image:
        return f"{image.width} x {image.height}"


def drawn(folder: Path, count: int) -> Path:
    """JPEGs with a dark blot on textured skin, so that decoding costs what a photograph's does."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:450, :600]
    texture = Image.fromarray(generator.integers(0, 255, (450, 600, 3), dtype=np.uint8))
    skin = np.asarray(texture.filter(ImageFilter.GaussianBlur(2)), np.float32) * 0.4 + 120
    rows = ["image,label"]
    for number in range(count):
        left, top, width = generator.uniform((150, 120, 40), (450, 330, 120))
        blot = np.exp(-((x - left) ** 2 + (y - top) ** 2) / width**2)[..., None] * np.float32(110)
        Image.fromarray(np.clip(skin - blot, 0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=90)
        rows.append(f"{number:05d}.jpg,{number % 8}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def listed(root: Path, count: int) -> Cohort:
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))[:count]
    classes = tuple(sorted({line["label"] for line in table}))
    return Cohort(
        root=root,
        image=np.array([line["image"] for line in table], dtype=str),
        label=np.array([classes.index(line["label"]) for line in table]),
        classes=classes,
        group=np.zeros(len(table), np.int64),
        groups=("all",),
        attribute="none",
        unit=None,
        split=None,
        row=np.arange(len(table)) + 2,
        sha256="",
    )


def speeds(cohort: Cohort, settings: DataSettings, work: Path, workers: int) -> Table:
    table = Table("from disk to batch", "workers", "images/s", "ratio", title="Input pipeline")
    peer: dict[tuple[bool, int], float] = {}
    linked(cohort, work / "by class")
    for augmented in (False, True):
        for processes in sorted({0, workers}):
            rate = per_second(folder_loader(work / "by class", settings.image_size, augmented, processes), len(cohort))
            peer[augmented, processes] = rate
            table.add_row(f"torchvision ImageFolder{', augmented' * augmented}", f"{processes}", f"{rate:,.0f}", "1.0")
    for threads in sorted({1, workers}):
        began = time.perf_counter()
        cohort, pixels = open_pixels(cohort, settings, work / f"cache {threads}", workers=threads)
        rate = len(cohort) / (time.perf_counter() - began)
        against = peer[False, 0 if threads == 1 else workers]
        table.add_row("equiprune, first pass", f"{threads} threads", *told(rate, against))
    for augmented in (False, True):
        for processes in sorted({0, workers}):
            augment = Augment() if augmented else None
            loader = batches(cohort, pixels, batch_size=BATCH, epoch=0, augment=augment, workers=processes)
            rate = per_second(loader, len(cohort))
            name = f"equiprune, cached{', augmented' * augmented}"
            table.add_row(name, f"{processes}", *told(rate, peer[augmented, processes]))
    return table


def told(rate: float, against: float) -> tuple[str, str]:
    return f"{rate:,.0f}", f"{rate / against:.1f}"


def per_second(loader: Iterable[object], images: int) -> float:
    """The better of two passes; the first one also pays for starting the processes."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        for _ in loader:
            pass
        seconds.append(time.perf_counter() - began)
    return images / min(seconds)


def linked(cohort: Cohort, folder: Path) -> None:
    for name, label in zip(cohort.image, cohort.label, strict=True):
        link = folder / cohort.classes[int(label)] / Path(str(name)).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((cohort.root / str(name)).resolve())


def folder_loader(folder: Path, size: int, augmented: bool, workers: int) -> DataLoader[object]:
    steps: list[nn.Module] = [v2.Resize(size), v2.CenterCrop(size)]
    if augmented:
        steps += [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        steps += [v2.RandomAffine(15, scale=(0.8, 1.2), interpolation=InterpolationMode.BILINEAR)]
        steps += [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)]
    dataset = ImageFolder(folder, transform=v2.Compose([*steps, v2.PILToTensor()]))
    context = "forkserver" if workers else None
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, multiprocessing_context=context)


def share_in_model(cohort: Cohort, pixels: Pixels, steps: int, workers: int) -> str:
    """Trains ResNet-18 and tells how much of the time was forward, backward and step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = resnet18(num_classes=len(cohort.classes)).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    loader = batches(cohort, pixels, batch_size=BATCH, epoch=0, augment=Augment(), workers=workers)
    assert isinstance(loader, Sized)
    inside, images, began = 0.0, 0, time.perf_counter()
    for number, batch in enumerate(loader):
        if number == 1:  # the first step warms up
            inside, images, began = 0.0, 0, time.perf_counter()
        entered = time.perf_counter()
        image = batch.image.to(device).float().div(255)
        loss = nn.functional.cross_entropy(model(image), batch.label.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # waits for the device
        inside, images = inside + time.perf_counter() - entered, images + len(image)
        if number == steps:
            break
    seconds = time.perf_counter() - began
    return (
        f"ResNet-18, cached, augmented, {workers} workers, {device}: {images / seconds:.1f} images/s, "
        f"{inside / seconds:.1%} of the time in the model"
    )


if __name__ == "__main__":
    main()

"""One model trained by two processes, each of which computes half of every batch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

import equiprune as ep
from equiprune.data.synthetic import SyntheticSettings


def train(rank: int, folder: str, processes: int) -> None:
    """What every process does; with torchrun the process group is set up by `init_process_group()` alone."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{processes}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    settings = ep.DataSettings(
        manifest=f"{folder}/lesions/manifest.csv", label="label", attribute=("skin_tone",), image_size=32
    )
    cohort, pixels = ep.open_pixels(ep.read_manifest(settings), settings, Path(folder) / "cache")
    cohort = cohort.with_split(ep.draw_splits(cohort, settings.fractions, seed=0))
    start = ep.Classifier.build(ep.Design(backbone="simple_cnn", classes=cohort.classes, image_size=32), seed=0)
    short = ep.TrainingSettings(epochs=2, batch_size=32, learning_rate=1e-3, augment="flips")
    model = ep.HSIC()(start, cohort, ep.Training(pixels, short))
    if rank == 0:
        model.save(Path(folder) / f"by-{processes}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        ep.synthesize(Path(folder) / "lesions", SyntheticSettings(images=240, size=32, classes=3))
        train(0, folder, 1)
        spawn(train, (folder, 2), nprocs=2)
        one, two = (ep.Classifier.load(Path(folder) / f"by-{processes}").state_dict() for processes in (1, 2))
        print(f"the weights differ by at most {max(float((one[name] - two[name]).abs().max()) for name in one):.1e}")

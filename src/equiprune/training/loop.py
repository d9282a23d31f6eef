"""The one training loop. A method hands it a loss; everything else is the same for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from equiprune import processes
from equiprune.audit import point
from equiprune.data.augment import Augment
from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch, batches
from equiprune.data.pixels import Pixels
from equiprune.errors import ModelError, Problem
from equiprune.models.classifier import Classifier
from equiprune.predicting import watch
from equiprune.progress import bar, say
from equiprune.training.checkpoint import Best, Progress, restore, store
from equiprune.training.log import Log
from equiprune.training.settings import TrainingSettings

AUGMENT = {"paper": Augment(), "flips": Augment(rotate=0.0, scale=(1.0, 1.0), auto=False), "none": None}
MOMENTUM = 0.9
FEW = 3  # epochs from which on it is told that none was better than the first
CPU = torch.device("cpu")

Loss = Callable[[Classifier, Batch], Tensor]


@dataclass(frozen=True)
class Training:
    """What a method works with besides the model and the cohort.

    Args:
        pixels: the decoded images.
        settings: optimiser, schedule, augmentation, stopping.
        device: where to compute.
        seed: of everything drawn at random.
        folder: where checkpoints and the log go, so that work resumes; None keeps all in memory. Where several
            processes train one model, the same folder for all; the first writes.
        shared: where points of a sweep keep what several of them need; None keeps nothing.
        threshold: from which score on findings are called on validation; see `metrics.operating.of_run`.
    """

    pixels: Pixels
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    device: torch.device = CPU
    seed: int = 0
    folder: Path | None = None
    threshold: str | None = None
    shared: Path | None = None


@runtime_checkable
class Penalised(Protocol):
    """A loss that tells, after each call, what it adds to the task's."""

    penalty: Tensor


@runtime_checkable
class Ramped(Protocol):
    """A loss that wants to know the share of the training that is done, 0 to 1."""

    progress: float


def fit(classifier: Classifier, cohort: Cohort, training: Training, loss: Loss, *, together: int = 1) -> Classifier:
    """Trains the classifier in place and leaves it at its best epoch.

    The best epoch is the first with the highest macro F1 on the validation split. Weights that a
    mask holds at zero stay there. With a folder, an interrupted run carries on at the last
    finished epoch, and ends, for the same seed, threads and device, in the same bits.

    Where torch's process group is set up, all its processes call this alike and train one model: each computes its
    share of every batch, the loss is that of the whole batch, and batch norms see the whole batch. Up to rounding it
    is what one process does with the same batch size; dropout is drawn anew by each.

    Args:
        classifier: on `training.device`.
        cohort: with splits "train" and "validation".
        training: see `Training`.
        loss: from the classifier and a batch on the device to a scalar. One that is a module (an adversary) is trained
            along, with the learning rate times its `rate` where it has one, and checkpointed; see also `Penalised`
            and `Ramped`.
        together: images of one class that stand side by side in the shuffled order, so that a batch has several.

    Raises:
        ModelError: the loss is no longer a number; names epoch and step.
    """
    settings = training.settings
    train, validation = cohort.subset("train"), cohort.subset("validation")
    classifier.to(memory_format=torch.channels_last)
    beside = loss.to(training.device) if isinstance(loss, nn.Module) else None
    optimizer = _optimizer(classifier, beside, settings)
    writes = training.folder if processes.first() else None
    log, best = Log(writes), Best(classifier, training.folder)
    progress = restore(training.folder, classifier, optimizer, beside)
    log.keep(progress.epoch)
    for epoch in range(progress.epoch, settings.epochs):
        if settings.patience is not None and epoch - progress.best_epoch > settings.patience:
            break
        started = time.monotonic()
        means = _one_epoch(classifier, train, training, optimizer, loss, epoch, together)
        seconds = time.monotonic() - started
        figures = point(watch(classifier, validation, training.pixels, training.threshold))
        better = figures.f1 > progress.best_f1
        if better:
            best.keep()
        progress = Progress(
            epoch=epoch + 1,
            best_epoch=epoch if better else progress.best_epoch,
            best_f1=figures.f1 if better else progress.best_f1,
        )
        log.add(
            {
                "epoch": epoch + 1,
                **means,
                "learning_rate": settings.learning_rate_at(epoch),
                "seconds": seconds,
                "images_per_second": len(train) / seconds,
                "f1": figures.f1,
                "accuracy": figures.accuracy,
                "best": better,
            }
        )
        store(writes, classifier, optimizer, progress, beside)
        if processes.first():
            say(
                f"epoch {epoch + 1}/{settings.epochs}: {_told(means)}, validation F1 {figures.f1:.3f}"
                f"{' (best)' if better else ''}, {seconds:.0f} s, {len(train) / seconds:.0f} images/s"
            )
    if processes.first() and progress.best_epoch == 0 and progress.epoch > FEW:
        say("note: the first epoch was the best on validation: another learning rate, or more epochs, may do better")
    processes.wait()  # for the best epoch's file
    best.recall()
    return classifier


def _one_epoch(
    classifier: Classifier,
    train: Cohort,
    training: Training,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    epoch: int,
    together: int,
) -> dict[str, float]:
    """The mean loss, and penalty where there is one."""
    settings = training.settings
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(epoch) * group["factor"]
    # Every epoch starts from its own seed, so a resumed run needs no generator state.
    place = processes.place()
    torch.manual_seed((training.seed * 1_000_003 + epoch) * place[1] + place[0])
    classifier.train()
    loader = batches(
        train,
        training.pixels,
        batch_size=settings.batch_size,
        seed=training.seed,
        epoch=epoch,
        augment=AUGMENT[settings.augment],
        balanced=settings.balanced,
        together=together,
        workers=settings.workers,
        place=place,
    )
    losses: list[Tensor] = []
    penalties: list[Tensor] = []
    sizes: list[int] = []
    with bar(f"epoch {epoch + 1}/{settings.epochs}") as progress:
        for batch in loader:
            moved = Batch(*(part.to(training.device, non_blocking=True) for part in batch))
            if isinstance(loss, Ramped):
                loss.progress = (epoch + len(losses) / len(loader)) / settings.epochs
            with (
                torch.autocast(training.device.type, torch.bfloat16, enabled=_half(settings, training.device)),
                processes.one_batch(len(batch.index)),
            ):
                value = loss(classifier, moved)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            processes.average(_slopes(optimizer))
            optimizer.step()
            classifier.apply_masks()
            losses.append(value.detach())
            if isinstance(loss, Penalised):
                penalties.append(loss.penalty.detach())
            sizes.append(len(batch.index))
            progress(sum(sizes), len(train))
    found = {"loss": _mean(losses, sizes, epoch, "loss")}
    return found | ({"penalty": _mean(penalties, sizes, epoch, "penalty")} if penalties else {})


def _mean(values: Sequence[Tensor], sizes: list[int], epoch: int, what: str) -> float:
    losses = torch.stack(list(values)).double().cpu()
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise ModelError(
            Problem(
                f"the {what} is {losses[bad[0, 0]].item()} in epoch {epoch + 1}, step {int(bad[0, 0]) + 1}",
                hint="Try a lower learning_rate, or a smaller weight or rate of the method",
            )
        )
    weight = torch.tensor(sizes, dtype=torch.float64)
    return float((losses * weight).sum() / weight.sum())


def _told(means: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in means.items())


def _half(settings: TrainingSettings, device: torch.device) -> bool:
    return settings.precision == "bfloat16" or (settings.precision == "auto" and device.type == "cuda")


def _optimizer(classifier: nn.Module, beside: nn.Module | None, settings: TrainingSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    trained: list[dict[str, Any]] = [{"params": _trained(classifier), "factor": 1.0}]
    if beside is not None and _trained(beside):
        trained.append({"params": _trained(beside), "factor": getattr(beside, "rate", 1.0)})
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained, lr=rate, weight_decay=decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    return torch.optim.SGD(trained, lr=rate, momentum=MOMENTUM, nesterov=True, weight_decay=decay)


def _slopes(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients of all that is trained."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]

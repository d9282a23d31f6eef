"""From images to predictions: the border between the half that needs torch and the half that does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from equiprune import processes
from equiprune.data.cohort import Cohort
from equiprune.data.loader import batches
from equiprune.data.pixels import Pixels
from equiprune.errors import ModelError, Problem
from equiprune.metrics.operating import called
from equiprune.models.classifier import Classifier, evaluating
from equiprune.models.exits import leave
from equiprune.predictions import Predictions
from equiprune.progress import bar

BATCH = 128


def predict(classifier: Classifier, cohort: Cohort, pixels: Pixels) -> Predictions:
    """What the classifier says of every image of a cohort, in the cohort's order.

    The model is in evaluation mode for the while, images are not augmented, and scores are
    softmax probabilities (multi-label: sigmoid), computed from the logits in float64. A model that needs the group is
    given it.

    Args:
        classifier: on the device it is to run on.
        cohort: its images must be in `pixels`.
        pixels: the cache of decoded images.

    Raises:
        ModelError: the model gives scores that are not numbers, or was made for other groups.
    """
    return scored(exit_logits(classifier, cohort, pixels), cohort, classifier.design.form.confidence)


def watch(classifier: Classifier, validation: Cohort, pixels: Pixels, threshold: str | None = None) -> Predictions:
    """What a training or pruning loop looks at: `predict`, with findings called at thresholds chosen on these rows.

    Args:
        classifier: see `predict`.
        validation: the validation split, never the test split.
        pixels: see `predict`.
        threshold: by which rule; see `metrics.operating.of_run`.
    """
    return called(predict(classifier, validation, pixels), threshold)


def check_groups(classifier: Classifier, cohort: Cohort) -> None:
    """Refuses a model that was made for other groups.

    Raises:
        ModelError: names both.
    """
    own = classifier.design.form.groups
    if own and own != cohort.groups:
        what = f"the model was made for the groups {', '.join(own)}, and the data have {', '.join(cohort.groups)}"
        raise ModelError(Problem(what))


def exit_logits(classifier: Classifier, cohort: Cohort, pixels: Pixels) -> tuple[Float[Tensor, "row class"], ...]:
    """The logits of every exit for every image, in the cohort's order; float64 on the CPU.

    Several processes that train one model each ask it about their share.

    Raises:
        ModelError: see `check_groups`.
    """
    check_groups(classifier, cohort)
    device = next(classifier.parameters()).device
    own = cohort.take(np.arange(len(cohort))[processes.share(len(cohort))])
    found: list[tuple[Tensor, ...]] = []
    done = 0
    with evaluating(classifier), bar("predicting") as progress:
        for batch in batches(own, pixels, batch_size=BATCH):
            exits = classifier.exits(batch.image.to(device), batch.group.to(device))
            found.append(tuple(logits.double().cpu() for logits in exits))
            done += len(batch.index)
            progress(done, len(own))
    together = (torch.cat(parts).to(device) for parts in zip(*found, strict=True))
    return tuple(processes.gathered(logits, len(cohort)).cpu() for logits in together)


def scored(exits: Sequence[Float[Tensor, "row class"]], cohort: Cohort, confidence: float | None) -> Predictions:
    """The predictions that logits make, each image's of the exit at which it leaves.

    Raises:
        ModelError: a score is not a number.
    """
    logits = leave(exits, confidence, cohort.task)
    score = (logits.softmax(1) if cohort.task == "multiclass" else logits.sigmoid()).numpy()
    bad = np.flatnonzero(~np.isfinite(score).all(axis=1))
    if len(bad):
        raise ModelError(f"the model gives no number for {len(bad)} images, the first {cohort.image[bad[0]]!r}")
    return Predictions(
        label=cohort.label,
        score=score,
        group=cohort.group,
        classes=cohort.classes,
        groups=cohort.groups,
        attribute=cohort.attribute,
        unit=cohort.unit,
        image=cohort.image,
    )

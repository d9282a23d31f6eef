"""From images to predictions: the border between the half that needs torch and the half that does not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equiprune.data.cohort import Cohort
from equiprune.data.loader import batches
from equiprune.data.pixels import Pixels
from equiprune.errors import ModelError
from equiprune.models.classifier import Classifier, evaluating
from equiprune.predictions import Predictions
from equiprune.progress import bar

BATCH = 128


def predict(classifier: Classifier, cohort: Cohort, pixels: Pixels) -> Predictions:
    """What the classifier says of every image of a cohort, in the cohort's order.

    The model is in evaluation mode for the while, images are not augmented, and scores are
    softmax probabilities (multi-label: sigmoid), computed from the logits in float64.

    Args:
        classifier: on the device it is to run on.
        cohort: its images must be in `pixels`.
        pixels: the cache of decoded images.

    Raises:
        ModelError: the model gives scores that are not numbers.
    """
    device = next(classifier.parameters()).device
    scores: list[Tensor] = []
    with evaluating(classifier), bar("predicting") as progress:
        for batch in batches(cohort, pixels, batch_size=BATCH):
            logits = classifier(batch.image.to(device), batch.group.to(device)).double()
            scores.append((logits.softmax(1) if cohort.task == "multiclass" else logits.sigmoid()).cpu())
            progress(sum(map(len, scores)), len(cohort))
    score = torch.cat(scores).numpy()
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

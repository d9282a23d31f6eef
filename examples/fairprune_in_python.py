"""The main job from Python, without the command line: data, training, FairPrune, audit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import equiprune as ep
from equiprune.data.synthetic import SyntheticSettings

with tempfile.TemporaryDirectory() as folder:
    manifest = ep.synthesize(Path(folder) / "lesions", SyntheticSettings(images=240, size=32, classes=3))
    settings = ep.DataSettings(
        manifest=str(manifest), label="label", attribute=("skin_tone",), unit="patient_id", image_size=32
    )
    cohort, pixels = ep.open_pixels(ep.read_manifest(settings), settings, Path(folder) / "cache")
    cohort = cohort.with_split(ep.draw_splits(cohort, settings.fractions, seed=0))

    start = ep.Classifier.build(ep.Design(backbone="simple_cnn", classes=cohort.classes, image_size=32), seed=0)
    short = ep.TrainingSettings(epochs=2, batch_size=32, learning_rate=2e-3, augment="flips")
    training = ep.Training(pixels=pixels, settings=short)
    vanilla = ep.Vanilla()(start, cohort, training)
    fairer = ep.FairPrune(beta=0.33, ratio=0.2, step=0.1, samples=30)(vanilla, cohort, training)

    for name, model in {"vanilla": vanilla, "FairPrune": fairer}.items():
        result = ep.audit(ep.predict(model, cohort.subset("test"), pixels), replicates=200)
        facts = model.facts()
        gap = result.gaps["eopp1"].value
        print(
            f"{name}: F1 {result.overall['f1'].value:.3f}, "
            f"Eopp1 {'not estimable' if gap is None else f'{gap:.3f}'}, "
            f"{facts.zeros / facts.prunable:.0%} of the prunable weights are zero"
        )
    del pixels, training

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from equiprune.data.cohort import Cohort
from equiprune.data.loader import Batch
from equiprune.data.pixels import Pixels
from equiprune.errors import ModelError
from equiprune.files import read_json_lines
from equiprune.models.classifier import Classifier, evaluating
from equiprune.objectives import Vanilla
from equiprune.predicting import predict
from equiprune.pruning.masks import hold, prunable
from equiprune.training.loop import Training, fit
from equiprune.training.losses import task_loss
from equiprune.training.settings import TrainingSettings

Lesions = tuple[Cohort, Pixels]


def _training(pixels: Pixels, folder: Path | None = None, epochs: int = 3, rate: float = 2e-3) -> Training:
    settings = TrainingSettings(epochs=epochs, batch_size=32, learning_rate=rate, augment="flips")
    return Training(pixels=pixels, settings=settings, folder=folder)


def _same(one: Classifier, other: Classifier) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_training_learns(lesion_data: Lesions, small_net: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    Vanilla()(small_net, cohort, _training(pixels, tmp_path, epochs=12, rate=5e-3))
    losses = [record["loss"] for record in read_json_lines(tmp_path / "log.jsonl")]
    assert losses[-1] < 0.85 * losses[0]


def test_same_seed_same_bits_other_seed_other_bits(lesion_data: Lesions, small_net: Classifier) -> None:
    cohort, pixels = lesion_data
    training = _training(pixels, epochs=1)
    one, two = (Vanilla()(small_net, cohort, training) for _ in range(2))
    other = Vanilla()(small_net, cohort, Training(pixels, training.settings, seed=1))
    assert _same(one, two)
    assert not _same(one, other)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_resumed_training_ends_in_the_same_bits(
    lesion_data: Lesions, small_net: Classifier, tmp_path: Path, optimizer: str
) -> None:
    cohort, pixels = lesion_data
    settings = TrainingSettings.model_validate({"epochs": 3, "batch_size": 32, "optimizer": optimizer})

    def trained(folder: Path, fail_in_step: int | None) -> Classifier:
        model, steps = small_net.clone(), 0

        def loss(model: Classifier, batch: Batch) -> torch.Tensor:
            nonlocal steps
            steps += 1
            if steps == fail_in_step:
                raise KeyboardInterrupt
            return task_loss(model(batch.image), batch.label)

        return fit(model, cohort, Training(pixels, settings, folder=folder), loss)

    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = trained(tmp_path / "whole", None)
    steps_an_epoch = -(-len(cohort.subset("train")) // 32)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "broken", 2 * steps_an_epoch)  # in the last step of the second epoch
    assert len(read_json_lines(tmp_path / "broken" / "log.jsonl")) == 1
    resumed = trained(tmp_path / "broken", None)
    assert _same(whole, resumed)
    epochs = [[r["loss"] for r in read_json_lines(tmp_path / name / "log.jsonl")] for name in ("whole", "broken")]
    assert epochs[0] == epochs[1]


def test_the_best_epoch_is_kept(lesion_data: Lesions, small_net: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    trained = Vanilla()(small_net, cohort, _training(pixels, tmp_path, epochs=6, rate=1e-2))
    records = read_json_lines(tmp_path / "log.jsonl")
    from equiprune.audit import point

    kept = point(predict(trained, cohort.subset("validation"), pixels)).f1
    assert kept == max(record["f1"] for record in records)
    assert records[0]["best"] is True


def test_patience_stops(lesion_data: Lesions, small_net: Classifier, tmp_path: Path) -> None:
    cohort, pixels = lesion_data
    settings = TrainingSettings(epochs=20, batch_size=64, learning_rate=1e-12, patience=2, augment="none")
    Vanilla()(small_net, cohort, Training(pixels, settings, folder=tmp_path))
    assert len(read_json_lines(tmp_path / "log.jsonl")) == 3


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.1), ("adamw", 0.1), ("sgd", 0.1)])
def test_masks_never_revive(lesion_data: Lesions, small_net: Classifier, optimizer: str, decay: float) -> None:
    cohort, pixels = lesion_data
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(w.shape, generator=generator) > 0.4 for name, w in prunable(small_net).items()}
    hold(small_net, masks)
    settings = TrainingSettings.model_validate(
        {"epochs": 2, "batch_size": 32, "optimizer": optimizer, "weight_decay": decay, "learning_rate": 1e-2}
    )
    trained = Vanilla()(small_net, cohort, Training(pixels, settings))
    for name, kept in masks.items():
        weight = trained.get_parameter(name)
        assert (weight[~kept] == 0).all()
        assert not torch.equal(weight, small_net.get_parameter(name))


def test_a_loss_that_is_no_number_names_epoch_and_step(lesion_data: Lesions, small_net: Classifier) -> None:
    cohort, pixels = lesion_data
    with pytest.raises(ModelError, match=r"epoch 1, step \d+"):
        fit(small_net, cohort, _training(pixels), lambda model, batch: model(batch.image).sum() * float("nan"))


def test_task_loss_leaves_unknown_labels_out() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64)
    label = torch.tensor([[0, 1, float("nan")]] * 6, dtype=torch.float64)
    known = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, :2], label[:, :2])
    assert task_loss(logits, label).item() == pytest.approx(known.item())
    assert task_loss(logits, torch.full((6, 3), float("nan"))).item() == 0


def test_predicting_leaves_the_model_as_it_was(lesion_data: Lesions, small_net: Classifier) -> None:
    cohort, pixels = lesion_data
    small_net.train()
    small_net.network.eval()
    told = predict(small_net, cohort.subset("test"), pixels)
    assert small_net.training
    assert not small_net.network.training
    assert np.allclose(told.score.sum(axis=1), 1)
    with pytest.raises(RuntimeError), evaluating(small_net):
        raise RuntimeError
    assert small_net.training

from __future__ import annotations

import pytest
from pydantic import ValidationError

from equiprune.training.settings import TrainingSettings


def test_the_defaults_are_the_papers() -> None:
    settings = TrainingSettings()
    assert (settings.epochs, settings.batch_size, settings.optimizer) == (200, 256, "adam")
    assert settings.learning_rate_at(159) == pytest.approx(1e-4)
    assert settings.learning_rate_at(160) == pytest.approx(1e-5)


def test_several_milestones() -> None:
    settings = TrainingSettings(epochs=10, milestones=(0.5, 0.9), decay=0.5, learning_rate=1.0)
    assert [settings.learning_rate_at(epoch) for epoch in (0, 4, 5, 8, 9)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        TrainingSettings.model_validate({"epochs": 0})
    with pytest.raises(ValidationError):
        TrainingSettings.model_validate({"epoch": 3})

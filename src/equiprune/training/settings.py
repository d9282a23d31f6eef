"""The `[training]` section of a recipe: optimiser, schedule, augmentation, stopping."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """How a model is trained. The defaults are FairPrune's (Adam 1e-4, 200 epochs, tenth at 160).

    Any of these may also stand in a `[[step]]`, and then holds for that step alone.

    Example:
        >>> TrainingSettings(epochs=30).learning_rate_at(24)
        1e-05
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(200, ge=1, description="Passes over the training split.")
    batch_size: int = Field(256, ge=2, description="Images a step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="sgd has Nesterov momentum 0.9.")
    learning_rate: float = Field(1e-4, gt=0, description="Before the first drop.")
    milestones: tuple[float, ...] = Field(
        (0.8,), description="Shares of the epochs after which the learning rate is multiplied by `decay`."
    )
    decay: float = Field(0.1, gt=0, le=1, description="Factor at each milestone.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimiser.")
    balanced: bool = Field(False, description="Draws every class equally often.")
    augment: Literal["paper", "flips", "none"] = Field(
        "paper", description="paper: flips, rotation, scaling and AutoAugment, drawn for each image."
    )
    patience: int | None = Field(
        None, ge=1, description="Stops after this many epochs without a better validation macro F1."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on CUDA, float32 on the CPU."
    )
    workers: int = Field(0, ge=0, description="Processes that prepare batches.")

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0. A pure function, so a resumed run needs no state."""
        passed = sum(epoch >= round(share * self.epochs) for share in self.milestones)
        return float(f"{self.learning_rate * self.decay**passed:.12g}")

"""What must be known to build a network again, and to show it images as it saw them in training."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from equiprune.data.settings import Fit
from equiprune.models.form import Form

# The usual statistics of ImageNet, so that its weights see the inputs they were trained on.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _usual(colour: tuple[float, ...], other: float, settled: dict[str, Any]) -> tuple[float, ...]:
    channels = settled.get("channels", 3)
    return colour if channels == 3 else (other,) * channels


class Design(BaseModel):
    """Architecture, classes and input of a classifier: everything but its weights.

    Mean and standard deviation are those of pixels scaled to 0..1, one a channel. The default is
    the same whether weights are loaded or not: ImageNet's for three channels, 0.5 and 0.25 otherwise.

    Example:
        >>> Design(backbone="resnet18", classes=("nevus", "melanoma")).mean
        (0.485, 0.456, 0.406)
        >>> Design(backbone="simple_cnn", classes=("no", "yes"), channels=1).std
        (0.25,)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = Field(description='A name in BACKBONES, a timm name, or "my_file.py:factory".')
    classes: tuple[str, ...] = Field(min_length=1, description="Class names in the order of the logits.")
    channels: int = Field(3, ge=1, description="Channels of the images: 1 grey, 3 colour.")
    image_size: int = Field(128, ge=1, description="Side of the square input, in pixels.")
    task: Literal["multiclass", "multilabel"] = Field("multiclass", description="Softmax or sigmoid of the logits.")
    mean: tuple[float, ...] = Field(
        default_factory=lambda settled: _usual(IMAGENET_MEAN, 0.5, settled), description="Subtracted, one a channel."
    )
    std: tuple[float, ...] = Field(
        default_factory=lambda settled: _usual(IMAGENET_STD, 0.25, settled), description="Divided by, one a channel."
    )
    fit: Fit = Field("crop", description="How images were made square.")
    source_sha256: str | None = Field(None, description="SHA-256 of the factory's file, where the backbone is one.")
    form: Form = Field(Form(), description="What a training objective built into the network.")

    @field_validator("backbone", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if callable(value):
            raise ValueError("a function is named by its file, as in my_file.py:factory, so that it is found again")  # noqa: TRY004 - pydantic's
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Design:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must differ from one another")
        if self.task == "multiclass" and len(self.classes) < 2:
            raise ValueError("multiclass needs at least two classes")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values each, one a channel")
        if not all(math.isfinite(m) for m in self.mean) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError("mean must be finite, std finite and above 0")
        return self


class Trained(BaseModel):
    """The objective that a classifier was trained with last, by which it is trained on after a cut."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    settings: dict[str, Any]

"""What a training objective builds into a network: blocks of logits, norms or offsets by group, early exits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Form(BaseModel):
    """How a classifier differs from its backbone; a plain one does not.

    Example:
        >>> Form().plain, Form(groups=("dark", "light"), norms=True).needs_group
        (True, True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[str, ...] = Field((), description="Names of the groups, in the order of their index.")
    blocks: bool = Field(False, description="The last layer has one block of logits a group; they are added up.")
    norms: bool = Field(False, description="Every batch norm has its own parameters and statistics for each group.")
    offsets: bool = Field(False, description="Each group's own numbers are added to the logits.")
    exits: tuple[str, ...] = Field((), description="Layers of the network behind which an early exit stands.")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field((), description="Of the exits' losses, the last too.")
    confidence: float | None = Field(
        None, description="An image leaves at the first exit that is at least so sure; none: at the last."
    )

    @property
    def plain(self) -> bool:
        """Whether it is the backbone and nothing else."""
        return self == Form()

    @property
    def needs_group(self) -> bool:
        """Whether the answer depends on the group of the image, so that the attribute must be known at use."""
        return self.norms or self.offsets

    @model_validator(mode="after")
    def _consistent(self) -> Form:
        if (self.blocks or self.needs_group) and len(self.groups) < 2:
            raise ValueError("blocks, norms and offsets need the names of two groups or more")
        if self.exits and len(self.weights) != len(self.exits) + 1:
            raise ValueError("weights need one number an exit, the last included")
        return self

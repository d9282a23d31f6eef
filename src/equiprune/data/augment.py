"""Random changes of one training image, as in FairPrune: flips, rotation, scaling, AutoAugment.

torchvision's transforms run on a Pillow image here, which on one small image is quicker than the
same transforms on a tensor.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

if TYPE_CHECKING:
    from torchvision.transforms import v2


class Augment(BaseModel):
    """Changes one image at random; call it anew for every image.

    torchvision draws one set of parameters for a whole batch, so a batch is never handed in.
    The draws come from torch's global generator, which the loader seeds for each image.
    Wu et al., "FairPrune: Achieving Fairness Through Pruning for Dermatological Disease
    Diagnosis", MICCAI 2022, names the four changes and gives no ranges; the defaults are ours.

    Example:
        >>> image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        >>> Augment(auto=False)(image).shape
        torch.Size([3, 32, 32])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: bool = Field(True, description="Mirrors left-right and top-bottom, each with probability one half.")
    rotate: float = Field(15.0, ge=0, le=180, description="Turns by up to this many degrees either way.")
    scale: tuple[float, float] = Field((0.8, 1.2), description="Scales about the centre by a factor in this range.")
    auto: bool = Field(True, description="AutoAugment with the policy found on ImageNet.")

    @cached_property
    def _transform(self) -> v2.Compose:
        # See `models.backbones`: torchvision takes as long to import as torch.
        from torchvision.transforms import InterpolationMode, v2

        steps: list[v2.Transform] = [v2.Identity()]
        if self.flip:
            steps += [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        if self.rotate or self.scale != (1.0, 1.0):
            steps.append(v2.RandomAffine(self.rotate, scale=self.scale, interpolation=InterpolationMode.BILINEAR))
        if self.auto:
            steps.append(v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET))
        return v2.Compose(steps)

    def __call__(self, image: UInt8[Tensor, "channel height width"]) -> UInt8[Tensor, "channel height width"]:
        """A changed copy of a colour or grey image."""
        array = np.asarray(image.permute(1, 2, 0))
        changed = self._transform(Image.fromarray(array[:, :, 0] if len(image) == 1 else array))
        return torch.from_numpy(np.array(changed)).view(*array.shape).permute(2, 0, 1)

"""What a silent channel would change: against finite differences in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.objectives.conftest import NETWORK, built
from torch import Tensor

from equiprune.data.loader import Batch, batches
from equiprune.errors import ModelError
from equiprune.models.classifier import Classifier
from equiprune.models.form import Form
from equiprune.models.reshaping import reshape
from equiprune.pruning.effects import effects
from equiprune.training.losses import sample_losses

if TYPE_CHECKING:
    from pathlib import Path

    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

# Behind which module the channels of a convolution are read, in the network of the objectives' tests.
READ = {"stem.0": "stem.2", "stage1.0": "stage1.2", "stage2.0": "stage2.2", "branch": "relu"}
EXACT = 1e-6


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "net.py"
    path.write_text(NETWORK)
    return f"{path}:small"


def losses(model: Classifier, batch: Batch) -> Tensor:
    return sample_losses(model(batch.image, batch.group), batch.label)


def scaled(model: Classifier, layer: str, channel: int, factor: float, batch: Batch) -> Tensor:
    """The losses where a channel is multiplied by a factor just before it is read."""

    def times(_layer: Any, _args: Any, output: Tensor) -> Tensor:  # noqa: ANN401
        changed = output.clone()
        changed[:, channel] *= factor
        return changed

    inner: Any = model.network
    hook = inner.get_submodule(READ[layer]).register_forward_hook(times)
    try:
        with torch.no_grad():
            return losses(model, batch)
    finally:
        hook.remove()


@pytest.mark.parametrize("layer", list(READ))
def test_the_slope_is_that_of_scaling_the_channel(layer: str, factory: str, lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data
    test = cohort.subset("test")
    model = built(factory, cohort).double().eval()
    # The ReLU behind the sum is used once, so that the hook finds it.
    found = effects(model, test, pixels, [layer], losses)[layer]
    (batch,) = batches(test, pixels, batch_size=len(test))
    for channel in (0, 3, 5):
        up, down = (scaled(model, layer, channel, 1 + sign * EXACT, batch) for sign in (1, -1))
        torch.testing.assert_close(found.slope[:, channel], (up - down) / (2 * EXACT), rtol=1e-5, atol=1e-9)
        assert found.first[channel].item() == pytest.approx(-found.slope[:, channel].mean().item())
        square = 0.5 * found.slope[:, channel].square().mean().item()
        assert (found.second - found.first)[channel].item() == pytest.approx(square)


def test_features_are_means_over_places_in_the_order_of_the_cohort(
    factory: str, lesion_data: tuple[Cohort, Pixels]
) -> None:
    cohort, pixels = lesion_data
    model = built(factory, cohort).double().eval()
    found = effects(model, cohort, pixels, ["stage2.0", "branch"], losses)
    seen: dict[str, Tensor] = {}
    inner: Any = model.network
    for layer in found:
        inner.get_submodule(READ[layer]).register_forward_hook(
            lambda _used, _args, out, layer=layer: seen.update({layer: out.mean((2, 3))})
        )
    (batch,) = batches(cohort, pixels, batch_size=len(cohort))
    with torch.no_grad():
        model(batch.image)
    for layer, one in found.items():
        torch.testing.assert_close(one.pooled, seen[layer])


def test_the_model_is_left_alone_frozen_or_not(factory: str, lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data
    model = built(factory, cohort)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = effects(model, cohort, pixels, ["branch"], losses)["branch"]
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    frozen = effects(model.requires_grad_(False), cohort, pixels, ["branch"], losses)["branch"]
    assert torch.equal(one.slope, frozen.slope)


def test_a_layer_that_takes_no_part_is_named(tmp_path: Path, lesion_data: tuple[Cohort, Pixels]) -> None:
    path = tmp_path / "idle.py"
    path.write_text(NETWORK.replace("self.fc = nn", "self.idle = nn.Conv2d(3, 4, 3)\n        self.fc = nn"))
    cohort, pixels = lesion_data
    with pytest.raises(ModelError, match=r"network\.idle takes no part"):
        effects(built(f"{path}:small", cohort), cohort, pixels, ["branch", "idle"], losses)


def test_of_several_exits_all_count(factory: str, lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data
    model = built(factory, cohort)
    reshape(model, Form(exits=("stage1",), weights=(0.0, 1.0)))

    def first(now: Classifier, batch: Batch) -> Tensor:
        return sample_losses(now.exits(batch.image)[0], batch.label)

    found = effects(model, cohort, pixels, ["stem.0", "stage1.0"], first)
    assert found["stem.0"].slope.abs().sum() > 0
    with pytest.raises(ModelError, match="takes no part"):
        effects(model, cohort, pixels, ["branch"], first)  # behind the exit

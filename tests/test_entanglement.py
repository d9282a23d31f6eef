from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equiprune.entanglement import channel_scores, every_group, model_scores
from equiprune.errors import ModelError, UsageError


def twin(features: Tensor, groups: list[int], temperature: float | None = None, *, published: bool = False) -> Tensor:
    """Eq. 1 word for word: a loop over channels, images and neighbours, in float64."""
    rows = [row for row, group in enumerate(groups) if group >= 0]
    scores = []
    for channel in range(features.shape[1]):
        maps = {row: features[row, channel].double().flatten() for row in rows}
        apart = {(i, j): _apart(maps[i], maps[j], published) for i in rows for j in rows}
        pairs = [apart[i, j] for i in rows for j in rows if i != j]
        scale = temperature or (1.0 if published else sum(pairs) / len(pairs)) or 1.0
        terms = []
        for i in rows:
            same = [j for j in rows if groups[j] == groups[i] and (published or j != i)]
            if same:
                above = sum(math.exp(-apart[i, j] / scale) for j in same)
                below = sum(math.exp(-apart[i, j] / scale) for j in rows if j != i)
                terms.append(-math.log(above / below))
        scores.append(sum(terms) / len(terms))
    return torch.tensor(scores, dtype=torch.float64)


def _apart(one: Tensor, other: Tensor, published: bool) -> float:
    if published:
        return 1 - float(nn.functional.cosine_similarity(one, other, dim=0))
    return float((one - other).square().sum())


def made(channels: int = 5, images: int = 24, seed: int = 0, groups: int = 2) -> tuple[Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, 3, 2, generator=generator, dtype=torch.float64)
    return features, torch.randint(groups, (images,), generator=generator).tolist()


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("temperature", [None, 0.7, 40.0])
def test_it_is_the_papers_equation(groups: int, temperature: float | None) -> None:
    features, group = made(groups=groups)
    group[3] = group[7] = -1  # not known
    found = channel_scores(features, group, temperature)
    torch.testing.assert_close(found, twin(features, group, temperature), rtol=1e-12, atol=1e-12)


def test_the_published_score() -> None:
    features, group = made(groups=3)
    found = channel_scores(features, group, published=True)
    torch.testing.assert_close(found, twin(features, group, published=True), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_float32_keeps_its_digits_even_far_from_zero(offset: float) -> None:
    """Distances are differences of norms: without the mean taken off first, none would be left at 300."""
    features, group = made(channels=7, images=40)
    found = channel_scores((features + offset).float(), group)
    assert found.dtype == torch.float32
    expected = channel_scores((features + offset).float().double(), group)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5)


def test_a_small_temperature_does_not_underflow() -> None:
    """e^(−d/T) is 0 for every pair here; the published remedy was another distance."""
    features, group = made()
    found = channel_scores((30 * features).float(), group, 1.0)
    assert bool(found.isfinite().all())
    nearest = channel_scores(30 * features, group, 1.0)
    torch.testing.assert_close(found.double(), nearest, rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-5, 5), st.integers(2, 4))
def test_order_scale_and_offset_of_the_features_change_nothing(
    seed: int, scale: float, offset: float, groups: int
) -> None:
    features, group = made(channels=3, images=20, seed=seed, groups=groups)
    group[:4] = [0, 0, 1, 1]
    expected = channel_scores(features, group)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    turned = channel_scores(features[order], [group[row] for row in order.tolist()])
    torch.testing.assert_close(turned, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(channel_scores(scale * (features + offset), group), expected, rtol=1e-7, atol=1e-7)
    renamed = [3 - one for one in group]
    torch.testing.assert_close(channel_scores(features, renamed), expected, rtol=1e-9, atol=1e-9)


def test_without_group_signal_the_score_does_not_follow_the_scale() -> None:
    """The published score has a correlation of −0.96 with the spread of such channels; ours has that of noise."""
    generator = torch.Generator().manual_seed(3)
    spread = torch.logspace(-2, 2, 200, dtype=torch.float64)
    features = torch.randn(128, 200, 16, generator=generator, dtype=torch.float64) * spread[:, None]
    group = torch.arange(128) % 2
    found = channel_scores(features, group)
    correlation = float(torch.corrcoef(torch.stack([found, spread.log()]))[0, 1])
    assert abs(correlation) < 3 / math.sqrt(200)
    off = found - -math.log(63 / 127)
    assert abs(float(off.mean())) < 0.02  # what nothing to tell the groups apart gives


def test_a_planted_channel_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(64, 50, 4, 4, generator=generator)
    group = torch.arange(64) % 2
    features[:, 17] += group[:, None, None] * 1.0
    found = channel_scores(features, group)
    assert int(found.argmin()) == 17
    # Far apart, T grows with the distance D between the groups: D / T goes to 4032 / 2048.
    features[:, 17] += group[:, None, None] * 1e4
    limit = math.log(1 + 32 / 31 * math.exp(-4032 / 2048))
    assert float(channel_scores(features, group)[17]) == pytest.approx(limit, rel=1e-3)
    assert float(channel_scores(features, group, 1.0)[17]) == 0  # every neighbour is of the same group


def test_a_dead_channel_gives_what_no_signal_gives() -> None:
    features, _ = made()
    features[:, 2] = 3.5
    group = [0] * 6 + [1] * 18
    expected = -(6 * math.log(5 / 23) + 18 * math.log(17 / 23)) / 24
    assert float(channel_scores(features, group)[2]) == pytest.approx(expected, rel=1e-12)


def test_the_only_image_of_its_group_is_skipped_but_is_a_neighbour() -> None:
    features, group = made(groups=2)
    group[5] = 2
    torch.testing.assert_close(channel_scores(features, group), twin(features, group), rtol=1e-12, atol=1e-12)


def test_memory_for_one_channel_at_a_time_gives_the_same() -> None:
    features, group = made(channels=9)
    one = channel_scores(features, group, max_bytes=1)
    torch.testing.assert_close(one, channel_scores(features, group), rtol=1e-12, atol=0)


def test_features_of_vectors_and_in_half_precision() -> None:
    features, group = made()
    flat = features.flatten(2)[:, :, 0]
    torch.testing.assert_close(channel_scores(flat, group), twin(flat[:, :, None], group), rtol=1e-12, atol=1e-12)
    half = channel_scores(features.bfloat16(), group)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), twin(features.bfloat16(), group), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("groups", "arguments", "match"),
    [
        ([0] * 24, {}, "two groups.* 1 group in 24 images"),
        ([-1] * 23 + [0], {}, "1 group in 1 images"),
        ([0] + [1] + [-1] * 22, {}, "two images of one of them"),
        ([0, 1] * 12, {"temperature": 0.0}, "temperature must be above 0, not 0"),
        ([0, 1] * 12, {"temperature": math.nan}, "temperature must be above 0"),
        ([0, 1] * 12, {"factor": -1.0}, "factor must be above 0, not -1"),
        ([0, 1] * 11, {}, "expected one index for each of 24 images"),
        ([0.0, 1.0] * 12, {}, "expected one index"),
    ],
)
def test_what_cannot_be_scored_is_refused(groups: list[int], arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        channel_scores(made()[0], groups, **arguments)


def test_features_must_have_channels_and_be_floats() -> None:
    with pytest.raises(UsageError, match=r"expected floats \(batch, channel"):
        channel_scores(torch.zeros(4, dtype=torch.int64), [0, 0, 1, 1])


class Net(nn.Module):
    """A convolution with norm and activation, two that are added up, and one that nothing follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.left, self.right = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.last = nn.Conv2d(5, 6, 1)
        self.unused = nn.Conv2d(3, 3, 1)

    def parts(self, image: Tensor) -> dict[str, Tensor]:
        seen = {"conv first": self.first(image)}
        seen["first"] = torch.relu(self.norm(seen["conv first"]))
        seen["conv left"], seen["conv right"] = self.left(seen["first"]), self.right(seen["first"])
        seen["left"] = seen["right"] = nn.functional.gelu(seen["conv left"] + seen["conv right"])
        seen["last"] = seen["conv last"] = self.last(seen["left"])
        return seen

    def forward(self, image: Tensor) -> Tensor:
        inner = torch.relu_(self.norm(self.first(image)))
        out = self.left(inner)
        out += self.right(inner)
        return self.last(nn.functional.gelu(out)).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize("tap", ["activation", "conv"])
def test_layers_are_read_behind_norm_sum_and_activation_in_one_pass(tap: str) -> None:
    torch.manual_seed(0)
    net = Net().double().eval()
    image = torch.randn(16, 3, 6, 6, dtype=torch.float64)
    group = torch.arange(16) % 2
    layers = ["last", "first", "left", "right"]
    batches = [(image[:8], group[:8], group[:8]), (image[8:], group[8:], group[8:])]
    told: list[int] = []
    found = model_scores(net, batches, layers, tap=tap, progress=told.append)  # type: ignore[arg-type]
    assert list(found) == layers
    assert told == [8, 16]
    for name in layers:
        key = name if tap == "activation" else f"conv {name}"
        with torch.no_grad():
            each = [channel_scores(net.parts(batch[0])[key], batch[2]) for batch in batches]
        torch.testing.assert_close(found[name], sum(each) / 2, rtol=1e-9, atol=1e-9)


def test_layers_that_are_not_there_or_not_used_and_no_batches() -> None:
    net = Net().eval()
    image, group = torch.randn(4, 3, 6, 6), torch.tensor([0, 0, 1, 1])
    with pytest.raises(UsageError, match=r"no layer 'frist'. Did you mean 'first'"):
        model_scores(net, [(image, group, group)], ["frist"])
    with pytest.raises(UsageError, match="'unused' takes no part"):
        model_scores(net, [(image, group, group)], ["unused"])
    with pytest.raises(UsageError, match="there is no batch"):
        model_scores(net, [], ["first"])
    with pytest.raises(UsageError, match="must hold images of two groups"):
        model_scores(net, [(image, group, torch.zeros(4, dtype=torch.int64))], ["first"])
    assert not net.first._forward_hooks


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=4, max_size=200), st.integers(2, 40), st.integers(0, 99))
def test_every_batch_holds_two_of_every_group_that_has_two(group: list[int], size: int, seed: int) -> None:
    parts = every_group(group, size, [seed])
    present = sorted({one for one in group if one >= 0})
    for part in parts:
        assert len(set(part)) == len(part)
        for one in present:
            assert sum(group[row] == one for row in part) >= min(2, group.count(one))
    assert all(group[row] >= 0 for part in parts for row in part)
    many = [one for one in present if group.count(one) >= 2 * len(parts)]
    shown = sorted(row for part in parts for row in part if group[row] in many)
    assert shown == [row for row, one in enumerate(group) if one in many]
    assert parts == every_group(group, size, [seed])


def test_features_that_are_not_numbers_are_refused_with_the_layer() -> None:
    net = Net().eval()
    with torch.no_grad():
        net.left.bias.fill_(math.nan)  # type: ignore[union-attr]
    image, group = torch.randn(4, 3, 6, 6), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ModelError, match="the features of layer 'left' are not finite"):
        model_scores(net, [(image, group, group)], ["first", "left"])


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e18])
@pytest.mark.parametrize("published", [False, True])
def test_neither_score_follows_the_scale_however_extreme(scale: float, published: bool) -> None:
    features = torch.randn(24, 5, 3, 3, generator=torch.Generator().manual_seed(3))
    groups = [0, 1] * 12
    expected = channel_scores(features, groups, published=published)
    torch.testing.assert_close(channel_scores(features * scale, groups, published=published), expected)


@pytest.mark.parametrize(
    ("features", "groups", "told"),
    [
        (np.zeros((4, 2)), [0, 0, 1, 1], "features are a ndarray"),
        (torch.zeros(4, 2), ["f", "f", "m", "m"], "groups must be whole numbers"),
        (torch.zeros(4, 2), [0, 0, 1, -2], "group -2 is no index"),
    ],
)
def test_what_is_no_tensor_or_no_index_is_refused(features: Any, groups: Any, told: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=told):
        channel_scores(features, groups)

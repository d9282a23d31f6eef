from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from equiprune.errors import ModelError
from equiprune.models.classifier import Classifier, Design
from equiprune.pruning import masks as masks_module
from equiprune.pruning.masks import hold, lowest, prunable, shares

Scope = Literal["global", "layer"]
Case = tuple[dict[str, Tensor], dict[str, Tensor], int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores with many ties, masks of some of them, and a count that can be taken."""
    scores, held = {}, {}
    value = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1e-40, 2.0, 2.0000002, 3e38, math.inf])
    for name in draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True)):
        rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 8))
        size = rows * columns
        scores[name] = torch.tensor(draw(st.lists(value, min_size=size, max_size=size))).view(rows, columns)
        if draw(st.booleans()):
            kept = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            held[name] = torch.tensor(kept).view(rows, columns)
    left = _count(held.get(name, torch.ones_like(scores[name], dtype=torch.bool)) for name in scores)
    return scores, held, draw(st.integers(0, left))


def _count(masks: Iterable[Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks)


def _slow(scores: dict[str, Tensor], held: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The obvious way: sort everything by score, then name, then place."""
    all_left = [
        (value, name, place)
        for name, score in scores.items()
        for place, value in enumerate(score.flatten().tolist())
        if name not in held or held[name].flatten()[place]
    ]
    result = {
        name: held[name].clone() if name in held else torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()
    }
    for _, name, place in sorted(all_left)[:count]:
        result[name].view(-1)[place] = False
    return result


@given(cases())
@settings(max_examples=200, deadline=None)
def test_global_equals_sorting_everything(case: Case) -> None:
    scores, held, count = case
    found = lowest(scores, count, held=held)
    expected = _slow(scores, held, count)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@given(cases(), st.sampled_from(["global", "layer"]))
@settings(max_examples=200, deadline=None)
def test_exactly_count_more_and_none_revives(case: Case, scope: Scope) -> None:
    scores, held, count = case
    before = {name: mask.clone() for name, mask in held.items()}
    found = lowest(scores, count, held=held, scope=scope)
    whole = {name: before.get(name, torch.ones_like(scores[name], dtype=torch.bool)) for name in scores}
    assert _count(whole.values()) - _count(found.values()) == count
    assert all(not (found[name] & ~whole[name]).any() for name in scores)
    assert all(torch.equal(held[name], before[name]) for name in held)
    for name in scores if scope == "layer" else ():
        taken = whole[name] & ~found[name]
        if taken.any() and found[name].any():
            assert scores[name][taken].max() <= scores[name][found[name]].min()


@given(cases(), st.sampled_from(["global", "layer"]), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_dicts_does_not_matter(case: Case, scope: Scope, random: Random) -> None:
    scores, held, count = case
    names = list(scores)
    random.shuffle(names)
    found = lowest(scores, count, held=held, scope=scope)
    again = lowest({name: scores[name] for name in names}, count, held=held, scope=scope)
    assert all(torch.equal(found[name], again[name]) for name in names)


@given(cases(), st.data())
@settings(max_examples=100, deadline=None)
def test_two_small_steps_equal_one_large(case: Case, data: st.DataObject) -> None:
    scores, held, count = case
    first = data.draw(st.integers(0, count))
    once = lowest(scores, count, held=held)
    twice = lowest(scores, count - first, held=lowest(scores, first, held=held))
    assert all(torch.equal(once[name], twice[name]) for name in once)


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1
    ),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_are_proportional(layers: dict[str, tuple[int, float]], part: float) -> None:
    sizes = {name: size for name, (size, _) in layers.items()}
    room = {name: int(size * left) for name, (size, left) in layers.items()}
    count = int(part * sum(room.values()))
    found = shares(count, sizes, room)
    assert sum(found.values()) == count
    assert all(0 <= found[name] <= room[name] for name in sizes)
    # Without full layers each is within one weight of its exact share.
    free = shares(count, sizes, sizes)
    assert all(abs(free[name] - count * sizes[name] / sum(sizes.values())) < 1 for name in sizes)


def test_layer_scope_takes_the_same_fraction_where_global_empties_one() -> None:
    scores = {"a": torch.arange(10.0), "b": torch.arange(10.0) + 100}
    assert _count([lowest(scores, 10, held={})["a"]]) == 0
    layer = lowest(scores, 10, held={}, scope="layer")
    assert (_count([layer["a"]]), _count([layer["b"]])) == (5, 5)


def test_equal_scores_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks_module, "CHUNK", 7)
    scores = {"b": torch.zeros(20), "a": torch.zeros(5, 5)}
    found = lowest(scores, 30, held={})
    assert not found["a"].any()
    assert found["b"].tolist() == [False] * 5 + [True] * 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floats_of_every_size_and_sign_are_ranked_as_sorting_does(dtype: torch.dtype) -> None:
    whole = torch.int32 if dtype == torch.float32 else torch.int64
    bits = torch.iinfo(whole)
    score = torch.randint(bits.min, bits.max, (5000,), dtype=whole).view(dtype)
    score = score[~score.isnan()]
    for count in (1, 100, len(score) // 2, len(score) - 1):
        kept = lowest({"w": score}, count, held={})["w"]
        assert torch.equal(score[~kept].sort().values, score.sort().values[:count])


def test_double_scores_are_not_rounded() -> None:
    scores = {"a": torch.tensor([1 + 1e-12, 1.0], dtype=torch.float64), "b": torch.tensor([1.0, 1.5])}
    found = lowest(scores, 2, held={})
    assert found["a"].tolist() == [True, False]
    assert found["b"].tolist() == [False, True]


def test_half_precision_and_strided_scores() -> None:
    score = torch.tensor([[4.0, 1.0], [3.0, 2.0]], dtype=torch.bfloat16).t()
    assert lowest({"w": score}, 2, held={})["w"].tolist() == [[True, True], [False, False]]


def test_masks_of_other_parameters_pass_through() -> None:
    other = torch.tensor([True, False])
    found = lowest({"w": torch.zeros(2)}, 1, held={"other": other})
    assert torch.equal(found["other"], other)


def test_nan_scores_are_named_unless_their_weight_is_gone() -> None:
    scores = {"good": torch.zeros(3), "bad": torch.tensor([1.0, math.nan, math.nan]), "w": torch.tensor([math.nan])}
    with pytest.raises(ModelError, match=r"(?s)'bad' has 2 scores that are NaN.*'w' has 1 scores"):
        lowest(scores, 1, held={})
    held = {"bad": torch.tensor([True, False, False]), "w": torch.tensor([False])}
    assert lowest(scores, 4, held=held)["bad"].tolist() == [False, False, False]


@pytest.mark.parametrize("count", [-1, 3])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_more_than_is_left_is_refused(count: int, scope: Scope) -> None:
    with pytest.raises(ModelError, match=rf"asked to prune {count} weights, but 2 are left"):
        lowest({"w": torch.zeros(3)}, count, held={"w": torch.tensor([True, True, False])}, scope=scope)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"w: scores have shape \(3,\), the mask \(2,\)"):
        lowest({"w": torch.zeros(3)}, 1, held={"w": torch.ones(2, dtype=torch.bool)})


@pytest.fixture
def model() -> Classifier:
    return Classifier.build(Design(backbone="simple_cnn", classes=("a", "b"), channels=1, image_size=8))


def test_prunable_are_conv_and_linear_weights(model: Classifier) -> None:
    layers = ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert list(prunable(model)) == [f"network.{layer}.weight" for layer in layers]
    both = [f"network.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert list(prunable(model, include_bias=True)) == both
    residual = Classifier.build(Design(backbone="resnet18", classes=("a", "b"), image_size=16))
    assert not any("bn" in name or "downsample.1" in name for name in prunable(residual, include_bias=True))
    assert len(prunable(residual)) == 21
    assert all(weight is model.get_parameter(name) for name, weight in prunable(model).items())


def test_hold_merges_and_zeroes(model: Classifier) -> None:
    name = "network.fc2.weight"
    first, second = torch.ones(2, 128, dtype=torch.bool), torch.ones(2, 128, dtype=torch.bool)
    first[0], second[:, 0] = False, False
    hold(model, {name: first})
    hold(model, {name: second})
    assert torch.equal(model.masks[name], first & second)
    assert torch.equal(model.get_parameter(name) == 0, ~(first & second))
    assert first[1].all()


def test_wrong_masks_are_all_told_and_nothing_changes(model: Classifier) -> None:
    wrong = {
        "network.fc2.weight": torch.zeros(2, 128, dtype=torch.bool),
        "network.fc9.weight": torch.zeros(1, dtype=torch.bool),
        "network.fc1.weight": torch.zeros(3, dtype=torch.bool),
        "network.fc1.bias": torch.zeros(128),
    }
    with pytest.raises(ModelError) as caught:
        hold(model, wrong)
    assert len(caught.value.problems) == 3
    assert "'network.fc9.weight', which is no parameter" in str(caught.value)
    assert model.masks == {}
    assert model.facts().zeros == 0


OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_held_weights_never_revive_under_training(model: Classifier, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 2, (16,), generator=generator)
    optimiser = OPTIMISERS[name](model.parameters())

    def step() -> None:
        optimiser.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimiser.step()

    for _ in range(3):  # momentum is there before the masks are
        step()
    scores = {weight: parameter.detach().abs() for weight, parameter in prunable(model).items()}
    hold(model, lowest(scores, model.facts().prunable // 2, held=model.masks))
    before = {weight: parameter.detach().clone() for weight, parameter in model.named_parameters()}
    for _ in range(10):
        step()
        assert any(bool(model.get_parameter(w)[~kept].any()) for w, kept in model.masks.items())
        model.apply_masks()
        assert all(not model.get_parameter(w)[~kept].any() for w, kept in model.masks.items())
    assert model.facts().zeros == model.facts().prunable // 2
    kept = model.masks["network.fc1.weight"]
    assert not torch.equal(model.get_parameter("network.fc1.weight")[kept], before["network.fc1.weight"][kept])

"""What cannot be measured is refused by name; what can is measured whatever state it comes in."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from equiprune import curvature
from equiprune.errors import DataError, EquipruneError, ModelError, UsageError

Data = tuple[Tensor, Tensor, Tensor]
NAN = float("nan")


def data(label: object = (0, 1, 2, 0), group: object = (0, 1, 0, 1)) -> Data:
    torch.manual_seed(0)
    return torch.randn(4, 2, 6, 6), torch.tensor(label), torch.tensor(group)


def net(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3), *last
    ).eval()


def measured(model: nn.Module, *batches: Data, **choices: Any) -> curvature.Diagonals:  # noqa: ANN401
    return curvature.diagonal(model, batches or [data()], choices.pop("groups", ("light", "dark")), **choices)


class Net(nn.Module):
    """A body around two layers that a test makes odd."""

    def __init__(self, forward: Callable[[Net, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Linear(72, 72)
        self.head = nn.Linear(72, 3)
        self.how = forward

    def forward(self, image: Tensor) -> object:
        return self.how(self, image.flatten(1))


def changed_input(self: Net, x: Tensor) -> Tensor:
    x = x * 1
    out = self.body(x)
    x += 1
    return self.head(out)  # type: ignore[no-any-return]


def without_gradient(self: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = self.body(x)
    return self.head(x)  # type: ignore[no-any-return]


ODD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no parameters": (nn.Flatten, r"the model \(Flatten\) has no parameters"),
    "batch norm in training": (lambda: net().train(), r"'1' \(BatchNorm2d\) normalises by the batch's own statistics"),
    "batch norm without statistics": (
        lambda: net(nn.BatchNorm1d(3, affine=False, track_running_stats=False)).eval(), r"layer '5' .* own statistics"
    ),
    "dropout in training": (lambda: net(nn.Dropout(0.5))[5:].train(), r"'5' \(Dropout\) draws anew"),
    "changed input": (lambda: Net(changed_input), "'body' reads a tensor that is later changed in place"),
    "without gradient": (lambda: Net(without_gradient), "'body' runs without gradients"),
    "detached": (lambda: Net(lambda self, x: self.head(self.body(x).detach())), "'body' does not reach"),
    "a pair": (lambda: Net(lambda self, x: (self.head(x), x)), r"gives a tensor \(\d, 72\), not"),
    "a list of words": (lambda: Net(lambda *_: ["a"]), r"gives a list of \(str\), not a tensor"),
    "a map": (lambda: Net(lambda self, x: self.head(self.body(x))[:, :, None]), r"gives a tensor \(\d, 3, 1\)"),
    "too few rows": (lambda: Net(lambda self, x: self.head(self.body(x))[:3]), r"\(3, 3\), not \(sample, class\) for"),
    "one class": (lambda: Net(lambda self, x: self.head(self.body(x))[:, :1]), "gives 1 classes; cross_entropy needs"),
    "nan": (
        lambda: Net(lambda self, x: self.head(self.body(x)) * NAN), "batch 1: the model's output is nan or infinite$"
    ),
    "nan inside": (lambda: Net(lambda self, x: self.head(self.body(x * NAN))), "infinite, first in layer 'body'$"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_model_that_cannot_be_measured_is_refused_by_name(odd: str) -> None:
    make, reason = ODD[odd]
    model = make()
    with pytest.raises(ModelError, match=reason):
        measured(model)
    assert all(not layer._forward_hooks for layer in model.modules())


def test_everything_wrong_with_a_model_is_said_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        measured(net(nn.Dropout(0.5), nn.BatchNorm1d(3)).train())
    assert len(caught.value.problems) == 3


def test_the_batch_with_nan_is_named_and_only_that() -> None:
    bad = data()
    bad[0][2, 0, 0, 0] = NAN
    with pytest.raises(ModelError, match=r"^batch 2: the model's output is nan or infinite, first in layer '0'$"):
        measured(net(), data(), bad)


def test_overflow_is_an_error_not_an_infinity() -> None:
    model = Net(lambda self, x: self.head(self.body(x)))
    with torch.no_grad():
        model.body.weight.zero_()
        model.body.bias.zero_()
        model.head.weight.fill_(1e25)
        model.head.weight[0] = 0
    with pytest.raises(ModelError, match=r"'body.bias' is not finite"):
        measured(model)


BAD: dict[str, tuple[type[EquipruneError], dict[str, object], tuple[Data, ...], str]] = {
    "estimator": (UsageError, {"estimator": "exakt"}, (), "Did you mean 'exact'"),
    "precision": (
        UsageError, {"estimator": curvature.Exact(cast(Any, "bf16"))}, (), "no precision .* Did you mean 'bfloat16'"
    ),
    "memory": (UsageError, {"max_bytes": 0}, (), "max_bytes must be a whole number above 0"),
    "no groups": (UsageError, {"groups": ()}, (), "groups must be at least one name"),
    "a group twice": (UsageError, {"groups": ("a", "a")}, (), "none twice"),
    "label too high": (DataError, {}, (data(), data((0, 1, 3, 0))), "batch 2: labels must be from 0 to 2.*: 0 to 3"),
    "label too low": (DataError, {}, (data((0, -1, 1, 0)),), "batch 1: labels .*: -1 to 1"),
    "float label": (DataError, {}, (data((0.0, 1.0, 2.0, 0.0)),), "class indices .*float32"),
    "label of bce": (DataError, {}, (data(((0, 1, 0),) * 4),), r"class indices \(4,\), not torch.int64 \(4, 3\)"),
    "bce wants findings": (DataError, {"loss": "bce"}, (data(),), r"labels must be float \(4, 3\)"),
    "bce out of range": (DataError, {"loss": "bce"}, (data(((0.0, 2.0, NAN),) * 4),), "must be from 0 to 1, or nan"),
    "group too high": (DataError, {}, (data(group=(0, 1, 2, -1)),), r"from -1 to 1: \[-1, 0, 1, 2\]"),
    "group too low": (DataError, {}, (data(group=(0, 1, -2, 1)),), "batch 1: group indices"),
    "float group": (DataError, {}, (data(group=(0.0, 1.0, 0.0, 1.0)),), "group be a row of indices"),
    "fewer groups": (DataError, {}, (data(group=(0, 1, 1)),), r"as many rows.*\(4, 2, 6, 6\), \(4,\), \(3,\)"),
    "absent groups": (
        DataError, {"groups": ("a", "b", "c", "d")}, (data(),), "group 'c' has no samples.*\n.*'d' has no samples"
    ),
    "nobody known": (DataError, {"groups": ("a",)}, (data(group=(-1,) * 4),), "group 'a' has no samples"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_said_in_a_sentence(bad: str) -> None:
    kind, choices, batches, reason = BAD[bad]
    with pytest.raises(kind, match=reason):
        measured(net(), *batches, **choices)


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(DataError, match="there is no batch"):
        curvature.diagonal(net(), [], ["light"])


def test_an_unused_layer_has_no_curvature() -> None:
    found = measured(Net(lambda self, x: self.head(x)))["light"]
    assert not found["body.weight"].any()
    assert found["head.weight"].any()


def state(model: nn.Module) -> list[object]:
    parameters = [(name, p.requires_grad, p.grad is None, p._version) for name, p in model.named_parameters()]
    layers = [(name, layer.training, len(layer._forward_hooks)) for name, layer in model.named_modules()]
    return [*parameters, *layers, *((name, value.tolist()) for name, value in model.state_dict().items())]


def test_the_model_is_left_as_it_was() -> None:
    model = net()
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    before = deepcopy(state(model))
    measured(model)
    assert state(model) == before


@pytest.mark.parametrize("which", [["0.weight"], ["0.weight", "0.bias", "1.weight", "1.bias"], None])
def test_frozen_parameters_are_measured_like_the_others(which: list[str] | None) -> None:
    expected, model = measured(net()), net()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(which is not None and name not in which)
    found = measured(model)
    assert all(torch.equal(found[g][name], value) for g in found for name, value in expected[g].items())
    assert all(value.any() for value in found["dark"].values())


def test_modes_of_the_caller_change_nothing() -> None:
    expected = measured(net())["light"]
    with torch.no_grad():
        quiet = measured(net())["light"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = measured(net())["light"]
    model = net()
    with torch.inference_mode():
        inferred = measured(model, data())["light"]
    for found in (quiet, cast, inferred):
        assert all(torch.equal(found[name], value) and not value.requires_grad for name, value in expected.items())
    inferred["0.weight"] += 1  # an ordinary tensor


def test_a_callers_hook_on_the_output_is_part_of_the_model() -> None:
    model, plain = net(), net()
    model[4].register_forward_hook(lambda _layer, _args, out: 2 * out)
    with torch.no_grad():
        for parameter in plain[4].parameters():
            parameter.mul_(2)
    found, expected = measured(model)["light"], measured(plain)["light"]
    torch.testing.assert_close(found["4.weight"], 4 * expected["4.weight"])
    torch.testing.assert_close(found["0.weight"], expected["0.weight"])


def test_progress_counts_every_row() -> None:
    rows: list[int] = []
    measured(net(), data(group=(0, 1, -1, -1)), data(group=(-1,) * 4), progress=rows.append)
    assert sum(rows) == 8
    assert min(rows) >= 0


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(36, 2, dropout=0.5, batch_first=True)
        self.head = nn.Linear(36, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(2)
        return self.head(self.attention(x, x, x)[0].mean(1))  # type: ignore[no-any-return]


class StochasticDepth(nn.Module):
    """Named like torchvision's and as random."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(()) > 0.5) if self.training else x


@pytest.mark.parametrize("estimator", ["exact", "budget", "stochastic", "fisher"])
@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Attention(), r"'attention' \(MultiheadAttention\) draws anew"),
        (nn.Sequential(StochasticDepth(), nn.Flatten(), nn.Linear(72, 3)), r"\(StochasticDepth\) draws anew"),
        (nn.Sequential(nn.Flatten(), nn.Linear(72, 6), nn.RReLU(), nn.Linear(6, 3)), r"\(RReLU\) draws anew"),
        (Net(lambda self, x: self.head(nn.functional.dropout(self.body(x), 0.2))), "copies of one image other outputs"),
        (
            nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True), nn.Flatten(), nn.Linear(72, 3)),
            "changes its buffer '0.running_mean'",
        ),
    ],
)
def test_what_draws_at_random_or_changes_in_a_pass_is_refused(model: nn.Module, match: str, estimator: str) -> None:
    model = deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=match):
        measured(model, estimator=estimator)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("label", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("group", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_indices_may_be_integers_of_any_width(label: torch.dtype, group: torch.dtype) -> None:
    image, labels, groups = data()
    expected = measured(net())
    for estimator in ("exact", "stochastic", "fisher"):
        found = measured(net(), (image, labels.to(label), groups.to(group)), estimator=estimator)
        assert set(found) == {"light", "dark"}
    found = measured(net(), (image, labels.to(label), groups.to(group)))
    assert torch.equal(found["dark"]["0.weight"], expected["dark"]["0.weight"])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: measured(net(), loss=nn.CrossEntropyLoss(ignore_index=1)), "ignore_index=1"),
        (lambda: measured(net(), groups="ab"), r"\['ab'\]\?"),
        (lambda: measured(net(), max_bytes="1GB"), "max_bytes must be a whole number above 0, not '1GB'"),
        (lambda: measured(net(), data()[:2]), r"batch 1: expected \(image, label, group index\), not 2 parts"),  # type: ignore[arg-type]
        (lambda: measured(net(), {"image": 1}), "not dict"),  # type: ignore[arg-type]
        (lambda: measured(net(), (data()[0], [0, 1, 2, 0], data()[2])), "must be tensors, not Tensor, list, Tensor"),  # type: ignore[arg-type]
        (lambda: curvature.Budget(tolerance="a"), "not 'a'"),  # type: ignore[arg-type]
        (lambda: curvature.Stochastic(columns="2"), "not '2'"),  # type: ignore[arg-type]
        (lambda: curvature.Stochastic(seed=1.5), "not 1.5"),  # type: ignore[arg-type]
        (lambda: curvature.combined(measured(net())), "expected a list"),  # type: ignore[arg-type]
        (
            lambda: curvature.combined([measured(net()), measured(Net(lambda self, x: self.head(x)))]),
            "different models",
        ),
    ],
)
def test_what_a_caller_gives_is_checked(call: Callable[[], object], match: str) -> None:
    with pytest.raises(EquipruneError, match=match):
        call()

"""Every kind of layer, and what only autograd itself can measure, against the brute-force second derivative."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from equiprune import curvature
from equiprune.curvature import jobs, passes, squares

CLASSES = 3

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


class Shaped(nn.Module):
    """Reshapes the image, runs a body, and ends in a linear layer on its flattened output."""

    def __init__(self, shape: tuple[int, ...], body: nn.Module, features: int) -> None:
        super().__init__()
        self.shape = shape
        self.body = body
        self.head = nn.Linear(features, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image.reshape(-1, *self.shape)).relu().flatten(1))  # type: ignore[no-any-return]


Made = Callable[[], nn.Module]
FAST: dict[str, Made] = {
    "1d": lambda: Shaped((4, 18), nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), 48),
    "1d, same": lambda: Shaped((4, 18), nn.Conv1d(4, 3, 4, padding="same"), 54),
    "1d, circular": lambda: Shaped((4, 18), nn.Conv1d(4, 3, 4, padding=2, padding_mode="circular"), 57),
    "2d, reflected": lambda: Shaped((2, 6, 6), nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), 108),
    "2d, replicated": lambda: Shaped((2, 6, 6), nn.Conv2d(2, 3, 3, padding=(0, 1), padding_mode="replicate"), 72),
    "3d": lambda: Shaped((2, 3, 4, 3), nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=(1, 0, 1)), 64),
    "3d, grouped, dilated": lambda: Shaped((2, 3, 4, 3), nn.Conv3d(2, 4, 2, groups=2, dilation=(1, 2, 1)), 32),
    "depthwise, several": lambda: Shaped((4, 6, 3), nn.Conv2d(4, 8, 2, groups=4), 80),
    "transposed 1d": lambda: Shaped((4, 18), nn.ConvTranspose1d(4, 2, 3, stride=2, padding=1, output_padding=1), 72),
    "transposed 2d": lambda: Shaped((4, 3, 6), nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1), groups=2), 294),
    "transposed 2d, dilated": lambda: Shaped((2, 6, 6), nn.ConvTranspose2d(2, 3, 2, padding=1, dilation=2), 108),
    "transposed 3d": lambda: Shaped((2, 3, 4, 3), nn.ConvTranspose3d(2, 2, 2, stride=(1, 2, 1)), 256),
    "transposed, one place": lambda: Shaped((72, 1, 1), nn.ConvTranspose2d(72, 2, 2), 8),
    "one place": lambda: Shaped((8, 3, 3), nn.Conv2d(8, 4, 3, groups=2), 4),
    "sequence": lambda: Shaped((3, 4, 6), nn.Linear(6, 5), 60),
    "layer norm": lambda: Shaped((72,), nn.LayerNorm(72), 72),
    "layer norm of places": lambda: Shaped((3, 4, 6), nn.LayerNorm((4, 6), bias=False), 72),
    "group norm": lambda: Shaped((4, 3, 6), nn.GroupNorm(2, 4), 72),
    "group norm of vectors": lambda: Shaped((72,), nn.GroupNorm(3, 72), 72),
    "instance norm": lambda: Shaped((4, 3, 6), nn.InstanceNorm2d(4, affine=True), 72),
    "instance norm, running": lambda: Shaped(
        (4, 18), nn.InstanceNorm1d(4, affine=True, track_running_stats=True), 72
    ),
    "batch norm 3d": lambda: Shaped((2, 3, 4, 3), nn.BatchNorm3d(2), 72),
    "gelu": lambda: Shaped((72,), nn.Sequential(nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 4), nn.GELU()), 4),
}  # fmt: skip


def prepared(make: Made) -> nn.Module:
    torch.manual_seed(0)
    model = make().double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase) and layer.weight is not None:
            nn.init.normal_(layer.weight)
    return model


def image(count: int = 4) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def measured(model: nn.Module, images: Tensor, **settings: object) -> dict[str, Tensor]:
    batch = (images, torch.arange(len(images)) % CLASSES, torch.zeros(len(images), dtype=torch.int64))
    return curvature.diagonal(model, [batch], ["all"], **settings)["all"]  # type: ignore[arg-type]


def slow_twin(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Plain gradients of one sample and one column √p_k (e_k - p) at a time, squared and added."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for row in images[:, None]:
        logits = model(row)
        logits = torch.stack(list(logits), 1) if isinstance(logits, tuple) else logits[:, None]
        for exit_ in range(logits.shape[1]):
            p = logits[0, exit_].detach().softmax(0)
            for k in range(len(p)):
                column = torch.zeros_like(logits)
                column[0, exit_] = p[k].sqrt() * (functional.one_hot(torch.tensor(k), len(p)) - p)
                grads = torch.autograd.grad(
                    logits, list(parameters.values()), column, retain_graph=True, materialize_grads=True
                )
                for name, grad in zip(parameters, grads, strict=True):
                    total[name] += grad.square() / len(images)
    return total


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12 * scale, msg=f"{name} differs")


@pytest.mark.parametrize("way", ["direct", "gram", "support", "in pieces"])
@pytest.mark.parametrize("kind", FAST)
def test_every_kind_of_layer_has_the_slow_twins_diagonal(kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(self: jobs.Product, _gradients: Tensor) -> str:
        return "direct" if way == "in pieces" or (way == "support" and len(self.totals[0]) > 1) else way

    monkeypatch.setattr(jobs.Product, "_way", chosen)
    if way == "in pieces":
        monkeypatch.setattr(squares, "PATCHES", 256)
    model = prepared(FAST[kind])
    assert not passes.forward(model, image()).others, "measured by autograd alone, not by its own kind"
    assert_equal(measured(model, image()), slow_twin(model, image()))


class Net(nn.Module):
    """A body around two layers that a test makes odd."""

    def __init__(self, forward: Callable[[Net, Tensor], object], last: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Linear(72, 72)
        self.head = nn.Linear(72, last)
        self.how = forward

    def forward(self, image: Tensor) -> object:
        return self.how(self, image.flatten(1))


def shared_weight() -> nn.Module:
    model = Net(lambda self, x: self.head(self.body(x))[:, :CLASSES], last=72)
    model.head.weight = model.body.weight
    return model


def masked() -> nn.Module:
    layer = nn.Linear(72, 72)
    prune.l1_unstructured(layer, "weight", 0.5)
    return Shaped((72,), layer, 72)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(1, 2)
        found, _ = self.attention(x, x, x, need_weights=False)
        return self.head((x + self.scale * found).mean(1))  # type: ignore[no-any-return]


class Own(nn.Linear):
    """A subclass may do anything with its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.square(), self.bias)


SLOW: dict[str, tuple[Made, set[str]]] = {
    "own parameter": (lambda: Shaped((72,), nn.PReLU(), 72), {"body.weight"}),
    "a subclass": (lambda: Shaped((72,), Own(72, 4), 4), {"body.weight", "body.bias"}),
    "shared weight": (shared_weight, {"body.weight", "body.bias", "head.bias"}),
    "used twice": (
        lambda: Net(lambda self, x: self.head(self.body(self.body(x).relu()))), {"body.weight", "body.bias"}
    ),
    "used past its layer": (
        lambda: Net(lambda self, x: self.head(functional.linear(x, self.body.weight))), {"body.weight"}
    ),
    "used again past its layer": (
        lambda: Net(lambda self, x: self.head(self.body(x) + self.body.bias)), {"body.weight", "body.bias"}
    ),
    "rows that are no samples": (
        lambda: Net(lambda self, x: self.head(self.body(x.repeat(2, 1)))[: len(x)]),
        {"body.weight", "body.bias", "head.weight", "head.bias"},
    ),
    "positions first": (
        lambda: Net(lambda self, x: self.head(self.body(x[None].expand(5, -1, 72))).sum(0)),
        {"body.weight", "body.bias", "head.weight", "head.bias"},
    ),
    "a mask of torch.nn.utils.prune": (masked, {"body.weight_orig", "body.bias"}),
    "weight norm": (
        lambda: Shaped((72,), parametrizations.weight_norm(nn.Linear(72, 5)), 5),
        {"body.bias", "body.parametrizations.weight.original0", "body.parametrizations.weight.original1"},
    ),
    "attention": (
        Attention,
        {
            "scale", "attention.in_proj_weight", "attention.in_proj_bias",
            "attention.out_proj.weight", "attention.out_proj.bias",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SLOW)
def test_what_only_autograd_can_measure_is_measured_by_it(kind: str) -> None:
    make, others = SLOW[kind]
    model = prepared(make)
    assert set(passes.forward(model, image()).others) == others
    assert_equal(measured(model, image()), slow_twin(model, image()))


class TwoExits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3)
        self.early = nn.Linear(4, CLASSES)
        self.second = nn.Conv2d(4, 4, 3)
        self.late = nn.Linear(4, CLASSES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(image).relu()
        return self.early(first.mean((2, 3))), self.late(self.second(first).relu().amax((2, 3)))


@pytest.mark.parametrize("way", ["direct", "support"])
def test_the_exits_of_a_multi_exit_model_add_up(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: an early exit's column is zero in the late layers, where a support was found under another column."""
    monkeypatch.setattr(jobs.Product, "_way", lambda *_args: way)
    model = prepared(TwoExits)
    found = measured(model, image(6))
    assert_equal(found, slow_twin(model, image(6)))
    weighted = measured(model, image(6), loss=curvature.Exits(weights=(0.0, 2.0)))
    assert not weighted["early.weight"].any()
    torch.testing.assert_close(weighted["late.weight"], 2 * found["late.weight"])


class Fades(nn.Module):
    """Its classes light up disjoint channels, so no column's support holds that of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 40, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).relu().unflatten(1, (20, 2)).sum((2, 3, 4))  # type: ignore[no-any-return]


def test_a_support_that_does_not_hold_is_found_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = jobs.Product._look

    def counted(self: jobs.Product, gradients: Tensor) -> None:
        looked.append(len(gradients))
        look(self, gradients)

    monkeypatch.setattr(jobs.Product, "_way", lambda *_args: "support")
    monkeypatch.setattr(jobs.Product, "_look", counted)
    model = prepared(Fades)
    batch = (image(3), torch.tensor([[1.0] * 20] * 3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))
    found = curvature.diagonal(model, [batch], ["all"], "bce")["all"]
    assert len(looked) > 2
    parameters = list(model.parameters())
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for row in batch[0][:, None]:
        logits = model(row)
        for k, p in enumerate(logits.detach().sigmoid()[0]):
            for total, grad in zip(
                expected, torch.autograd.grad(logits[0, k], parameters, retain_graph=True), strict=True
            ):
                total += p * (1 - p) * grad.square() / 3
    assert_equal(found, dict(zip(dict(model.named_parameters()), expected, strict=True)))


class SequenceFirst(nn.Module):
    """(token, sample, feature), as PyTorch's own transformers have it by default."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.norm, self.out = nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.norm(self.inner(x.transpose(0, 1)))).mean(0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("samples", "tokens"), [(1, 2), (1, 3), (2, 2), (3, 3), (8, 8), (20, 16), (9, 8)])
@pytest.mark.parametrize("estimator", ["exact", "fisher", "budget"])
def test_a_sequence_as_long_as_a_pass_has_images_is_not_taken_for_them(
    samples: int, tokens: int, estimator: str
) -> None:
    model = SequenceFirst().double()
    image = torch.randn(samples, tokens, 5, dtype=torch.float64)
    label, group = torch.arange(samples) % 4, torch.zeros(samples, dtype=torch.int64)
    chosen = curvature.Budget(0.0) if estimator == "budget" else estimator
    found = curvature.diagonal(model, [(image, label, group)], ["all"], estimator=chosen)["all"]  # type: ignore[arg-type]
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for row in range(samples):
        logits = model(image[row : row + 1])
        p = logits.detach().softmax(1)[0]
        if estimator == "fisher":
            columns = [p - torch.nn.functional.one_hot(label[row], 4)]
        else:
            values, vectors = torch.linalg.eigh(torch.diag(p) - torch.outer(p, p))
            columns = [vectors[:, k] * values[k].clamp_min(0).sqrt() for k in range(4)]
        for column in columns:
            grads = torch.autograd.grad(logits, list(model.parameters()), column[None], retain_graph=True)
            for name, grad in zip(total, grads, strict=True):
                total[name] += grad**2 / samples
    for name, value in total.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)

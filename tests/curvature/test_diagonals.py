"""Numbers: against the brute-force second derivative, a slow twin on a real network, and BackPACK."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.models import resnet18

from equiprune import curvature
from equiprune.curvature import jobs, squares
from equiprune.curvature.losses import Loss
from equiprune.models.classifier import Classifier, Design

Diagonal = dict[str, Tensor]
Net = Callable[[], nn.Module]
GROUPS = ("light", "dark")
CLASSES = 3

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.short = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        first = functional.relu(self.norm(self.first(image)), inplace=True)
        second = self.second(first)
        second += self.short(first)
        return self.head(functional.relu(second).mean((2, 3)))  # type: ignore[no-any-return]


class Sequences(nn.Module):
    """A linear layer on (sample, position, feature), and batch norm on (sample, feature, position)."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        each = functional.relu(self.each(input=image.flatten(1, 2)), inplace=True)
        return self.head(self.norm(each.mT).relu().sum(2))  # type: ignore[no-any-return]


def force(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every product go one way; grouped ones cannot be picked apart."""

    def chosen(self: jobs.Product, _gradients: Tensor) -> str:
        return "direct" if way == "support" and len(self.totals[0]) > 1 else way

    monkeypatch.setattr(jobs.Product, "_way", chosen)


def conv_net(*last: nn.Module, features: int, **settings: object) -> nn.Module:
    conv = nn.Conv2d(2, 4, **settings)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU(inplace=True), *last, nn.Flatten(), nn.Linear(features, CLASSES))


NETS: dict[str, Net] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES)),
    "mlp with norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, CLASSES)
    ),
    "stride, padding": lambda: conv_net(features=36, kernel_size=3, stride=2, padding=1),
    "unequal sides": lambda: conv_net(
        features=24, kernel_size=(3, 2), stride=(1, 2), padding=(0, 1), dilation=(2, 3), bias=False
    ),
    "groups, max pool": lambda: conv_net(nn.MaxPool2d(2), features=16, kernel_size=3, groups=2),
    "depthwise, average pool": lambda: conv_net(nn.AvgPool2d(2), features=16, kernel_size=3, groups=2, dilation=1),
    "same padding": lambda: conv_net(nn.AdaptiveAvgPool2d(2), features=16, kernel_size=(2, 3), padding="same"),
    "same padding, dilated": lambda: conv_net(
        nn.AdaptiveMaxPool2d(1), features=4, kernel_size=(4, 2), dilation=(1, 3), padding="same"
    ),
    "valid padding": lambda: conv_net(nn.AdaptiveAvgPool2d(1), features=4, kernel_size=3, padding="valid"),
    "one position": lambda: conv_net(features=4, kernel_size=6),
    "residual": Residual,
    "sequences": Sequences,
}


def prepared(net: Net, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = net().double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (layer.weight, layer.bias, layer.running_mean):
                assert value is not None
                nn.init.normal_(value)
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute(model: nn.Module, mean_loss: Callable[[Tensor], Tensor], image: Tensor) -> Diagonal:
    """The diagonal of the Hessian matrix, one parameter tensor at a time."""

    def of(name: str, parameter: Tensor) -> Tensor:
        def loss(flat: Tensor) -> Tensor:
            return mean_loss(functional_call(model, {name: flat.view_as(parameter)}, (image,)))

        hessian = torch.autograd.functional.hessian(loss, parameter.detach().flatten())
        assert isinstance(hessian, Tensor)
        return hessian.diagonal().view_as(parameter)

    return {name: of(name, parameter) for name, parameter in model.named_parameters()}


def entropy(label: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda logits: functional.cross_entropy(logits, label)


def masked(label: Tensor) -> Callable[[Tensor], Tensor]:
    def loss(logits: Tensor) -> Tensor:
        each = functional.binary_cross_entropy_with_logits(logits, label.nan_to_num(0), reduction="none")
        return each.masked_fill(label.isnan(), 0).sum(1).mean()

    return loss


def assert_equal(found: Diagonal, expected: Diagonal, rtol: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol * scale, msg=f"{name} differs")


def one_group(model: nn.Module, image: Tensor, label: Tensor, loss: Loss = "cross_entropy") -> Diagonal:
    batch = (image, label, torch.zeros(len(image), dtype=torch.int64))
    return curvature.diagonal(model, [batch], ["all"], loss)["all"]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("way", ["direct", "gram", "support"])
def test_is_the_brute_force_hessian_diagonal(net: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    force(way, monkeypatch)
    model, image, label = prepared(NETS[net]), images(5), torch.arange(5) % CLASSES
    assert_equal(one_group(model, image, label), brute(model, entropy(label), image))


@pytest.mark.parametrize("net", ["groups, max pool", "residual", "sequences"])
def test_bce_leaves_unknown_findings_out(net: str) -> None:
    model, image = prepared(NETS[net]), images(4)
    nan = float("nan")
    label = torch.tensor([[0.0, 1, nan], [nan, nan, nan], [1, 1, 0], [nan, 0, 1]], dtype=torch.float64)
    assert_equal(one_group(model, image, label, "bce"), brute(model, masked(label), image))


def test_bce_of_one_finding() -> None:
    model = prepared(lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 1)))
    label = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert_equal(one_group(model, images(2), label, "bce"), brute(model, masked(label), images(2)))


def in_batches(size: int, image: Tensor, label: Tensor, group: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Four things a batch, as the loader gives them."""
    index = torch.arange(len(image))
    return zip(*(torch.split(each, size) for each in (image, label, group, index)), strict=True)


def test_each_group_has_its_own_mean_and_unknown_ones_count_in_none() -> None:
    model, image = prepared(Residual), images(9)
    label, group = torch.arange(9) % CLASSES, torch.tensor([1, -1, 0, 1, 1, -1, 0, 1, -1])
    found = curvature.diagonal(model, in_batches(9, image, label, group), GROUPS)
    assert list(found) == list(GROUPS)
    for index, name in enumerate(GROUPS):
        rows = group == index
        assert_equal(found[name], brute(model, entropy(label[rows]), image[rows]))


@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_batch_size_changes_nothing(size: int) -> None:
    model, image = prepared(Residual), images(9)
    label, group = torch.arange(9) % CLASSES, torch.tensor([1, -1, 0, 1, 1, -1, 0, 1, 0])
    whole = curvature.diagonal(model, in_batches(9, image, label, group), GROUPS)
    cut = curvature.diagonal(model, in_batches(size, image, label, group), GROUPS)
    for name in GROUPS:
        assert_equal(cut[name], whole[name], rtol=1e-12)


@pytest.mark.parametrize("net", NETS)
def test_memory_bounds_change_nothing(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image, label = prepared(NETS[net]), images(5), torch.arange(5) % CLASSES
    whole = one_group(model, image, label)
    batch = (image, label, torch.zeros(len(image), dtype=torch.int64))
    for bound in (1, 2000, 20_000):
        monkeypatch.setattr(squares, "BLOCK", bound)
        monkeypatch.setattr(squares, "PATCHES", bound)
        found = curvature.diagonal(model, [batch], ["all"], max_bytes=bound)["all"]
        assert_equal(found, whole, rtol=1e-12)


def slow_twin(model: nn.Module, image: Tensor) -> Diagonal:
    """Plain gradients of one sample and one column √p_k (e_k - p) at a time, squared and added."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for row in image[:, None]:
        logits = model(row)
        p = logits.detach().softmax(1)[0]
        for k, probability in enumerate(p):
            column = -p.clone()
            column[k] += 1
            grads = torch.autograd.grad(
                logits, list(parameters.values()), probability.sqrt() * column[None], retain_graph=True
            )
            for name, grad in zip(parameters, grads, strict=True):
                total[name] += grad.square() / len(image)
    return total


def test_resnet18_has_the_slow_twins_diagonal() -> None:
    model = prepared(lambda: resnet18(num_classes=3))
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = one_group(model, image, torch.arange(3))
    assert_equal(found, slow_twin(model, image), rtol=1e-9)


def test_float32_is_near_float64() -> None:
    model, image, label = prepared(Residual), images(6), torch.arange(6) % CLASSES
    exact = one_group(model, image, label)
    single = one_group(model.float(), image.float(), label)
    assert all(value.dtype == torch.float32 for value in single.values())
    assert_equal({name: value.double() for name, value in single.items()}, exact, rtol=1e-5)


def test_a_classifier_is_measured_on_the_bytes_it_reads() -> None:
    model = Classifier.build(Design(backbone="simple_cnn", classes=("no", "yes"), image_size=16)).eval()
    image = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    found = one_group(model, image, torch.arange(5) % 2)
    inside = one_group(model.network, (image / 255 - model.mean) / model.std, torch.arange(5) % 2)
    assert_equal(found, {f"network.{name}": value for name, value in inside.items()}, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_is_backpacks_exact_diagonal() -> None:
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    def net() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, CLASSES),
        )  # fmt: skip

    model, image, label = prepared(net), images(7), torch.arange(7) % CLASSES
    found = one_group(model, image, label)
    theirs = extend(prepared(net))
    with backpack(DiagGGNExact()):
        extend(nn.CrossEntropyLoss())(theirs(image), label).backward()
    assert_equal(found, {name: parameter.diag_ggn_exact for name, parameter in theirs.named_parameters()})


@given(order=st.permutations(range(6)), scale=st.floats(0.01, 30), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_is_never_negative_and_knows_no_order(order: Sequence[int], scale: float, seed: int) -> None:
    model, image = prepared(NETS["groups, max pool"], seed), scale * images(6)
    label, group = torch.arange(6) % CLASSES, torch.arange(6) % 2
    one = curvature.diagonal(model, [(image, label, group)], GROUPS)
    row = torch.tensor(order)
    other = curvature.diagonal(model, [(image[row], label[row], group[row])], GROUPS)
    for name in GROUPS:
        assert all((value >= 0).all() for value in one[name].values())
        assert_equal(other[name], one[name], rtol=1e-9)

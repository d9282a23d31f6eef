from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equiprune.errors import ModelError, UsageError
from equiprune.models.classifier import Classifier
from equiprune.models.cuts import Cut, left
from equiprune.models.design import Design
from equiprune.pruning.channels import channel_sets, cut, lowest_units, named
from equiprune.pruning.masks import hold

SIZES = {"simple_cnn": 32, "vgg11": 64, "vgg11_bn": 64, "resnet18": 64, "resnet50": 64}
TIMM = ("mobilenetv3_small_100", "efficientnet_b0", "resnext50_32x4d", "convnext_atto", "regnety_002")


def inner(model: Classifier) -> Any:  # noqa: ANN401 - any network
    return model.network


def build(backbone: str, size: int = 64, classes: int = 3) -> Classifier:
    names = tuple(f"c{index}" for index in range(classes))
    model = Classifier.build(Design(backbone=backbone, classes=names, image_size=size))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training: nothing is 0 or 1 by chance
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                module.bias.normal_(0, 0.1)
    return model.eval()


def wrapped(network: nn.Module, size: int = 16, classes: int = 3) -> Classifier:
    design = Design(backbone="simple_cnn", classes=tuple(f"c{k}" for k in range(classes)), image_size=size)
    return Classifier(network, design).eval()


def silenced(model: Classifier, layers: dict[str, tuple[int, ...]], image: Tensor) -> Tensor:
    """The logits when the channels' maps are set to nought behind every convolution and norm that makes them."""
    twin = model.clone()

    def quiet(channels: tuple[int, ...]):  # type: ignore[no-untyped-def]  # noqa: ANN202
        def hook(_layer: nn.Module, _args: object, out: Tensor) -> Tensor:
            gone = out.clone()
            gone[:, list(channels)] = 0
            return gone

        return hook

    for name, channels in layers.items():
        inner(twin).get_submodule(name).register_forward_hook(quiet(channels))
    with torch.no_grad():
        return twin(image)  # type: ignore[no-any-return]


@pytest.mark.parametrize("backbone", list(SIZES))
def test_cut_and_masked_model_agree_on_every_backbone(backbone: str) -> None:
    """The twin is told by hand which norms follow which convolutions."""
    model = build(backbone, SIZES[backbone])
    chosen = named(model, "last")[0]
    gone = tuple(range(0, chosen.count, 3))
    smaller = cut(model, {chosen.layer: gone})
    norms = {
        "simple_cnn": ["conv3"],
        "vgg11": ["features.18"],
        "vgg11_bn": ["features.26"],
        "resnet18": ["layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"],
        "resnet50": ["layer4.0.bn3", "layer4.0.downsample.1", "layer4.1.bn3", "layer4.2.bn3"],
    }[backbone]
    image = torch.rand(3, 3, SIZES[backbone], SIZES[backbone])
    with torch.no_grad():
        found = smaller(image)
    expected = silenced(model, dict.fromkeys(norms, gone), image)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - model(image)).abs().max() > 1e-4  # it does change what the whole model says
    assert smaller.facts().parameters < model.facts().parameters


# Not vgg11: all it has is in vgg11_bn (its head of 130 million weights takes its time) and, without norms, simple_cnn.
@pytest.mark.parametrize("backbone", ["simple_cnn", "vgg11_bn", "resnet18", "resnet50", *TIMM])
def test_half_of_all_channels_goes_and_the_rest_comes_back_from_disk(backbone: str, tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    model = build(backbone, SIZES.get(backbone, 64))
    sets = channel_sets(model)
    smaller = cut(model, {found.layer: found.of_units(range(0, found.units, 2)) for found in sets if found.units > 1})
    image = torch.rand(2, 3, model.design.image_size, model.design.image_size)
    assert smaller.facts().parameters < 0.65 * model.facts().parameters
    smaller.save(tmp_path)
    again = Classifier.load(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(image), smaller(image))
    assert again.cuts == smaller.cuts
    for before, after in zip(smaller.modules(), again.modules(), strict=True):
        for key in ("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features"):
            assert getattr(before, key, None) == getattr(after, key, None)
    once_more = cut(again, {channel_sets(again)[-1].layer: channel_sets(again)[-1].of_units([0])})
    assert once_more.facts().parameters < again.facts().parameters


def test_in_a_residual_network_the_whole_stage_goes_together() -> None:
    model = build("resnet18")
    last = channel_sets(model)[-1]
    assert last.layers == ("layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv2")
    smaller = cut(model, {"layer4.0.conv2": [5]})  # any of them may be named
    assert [inner(smaller).get_submodule(name).out_channels for name in last.layers] == [511] * 3
    assert inner(smaller).fc.in_features == 511
    assert smaller.cuts == (Cut(layer="network.layer4.1.conv2", channels=(5,)),)


def test_masks_of_earlier_weight_pruning_are_cut_along() -> None:
    model = build("resnet18")
    generator = torch.Generator().manual_seed(0)
    names = [
        "network.layer4.1.conv2.weight",
        "network.layer4.1.conv1.weight",
        "network.fc.weight",
        "network.conv1.weight",
    ]
    masks = {name: torch.rand(model.get_parameter(name).shape, generator=generator) > 0.3 for name in names}
    hold(model, masks)
    gone = [3, 100, 511]
    keep = [channel for channel in range(512) if channel not in gone]
    smaller = cut(model, {"layer4.1.conv2": gone})
    assert torch.equal(smaller.masks[names[0]], masks[names[0]][keep])
    assert torch.equal(smaller.masks[names[1]], masks[names[1]][:, keep])
    assert torch.equal(smaller.masks[names[2]], masks[names[2]][:, keep])
    assert torch.equal(smaller.masks[names[3]], masks[names[3]])
    assert all(model.masks[name].shape == masks[name].shape for name in names)  # the one handed in is left as it was
    for name, kept in smaller.masks.items():
        assert not smaller.get_parameter(name)[~kept].any()


def test_frozen_parameters_no_grad_and_training_mode_are_as_before() -> None:
    model = build("resnet18").train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    inner(model).conv1.weight.requires_grad_(True)
    with torch.no_grad():
        smaller = cut(model, {"layer4.1.conv1": [0, 1]})
    assert [name for name, value in smaller.named_parameters() if value.requires_grad] == ["network.conv1.weight"]
    assert [name for name, value in model.named_parameters() if value.requires_grad] == ["network.conv1.weight"]
    assert all(module.training for module in [*smaller.modules(), *model.modules()])


def test_a_smaller_model_trains_and_its_held_weights_stay_zero() -> None:
    model = build("simple_cnn", 32)
    hold(model, {"network.conv3.weight": torch.rand(128, 64, 3, 3) > 0.5})
    smaller = cut(model, {"conv3": range(0, 128, 2)}).train()
    optimiser = torch.optim.Adam(smaller.parameters(), 1e-2)
    for _ in range(3):
        loss = nn.functional.cross_entropy(smaller(torch.rand(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        smaller.apply_masks()
    kept = smaller.masks["network.conv3.weight"]
    assert kept.shape == inner(smaller).conv3.weight.shape
    assert not inner(smaller).conv3.weight[~kept].any()


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3, groups=4), nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2)
        self.act, self.out = nn.PReLU(6), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.c(self.b(self.a(image).relu()).sigmoid()).tanh()
        return self.out(self.act(self.up(x)).mean((2, 3)))  # type: ignore[no-any-return]


def test_grouped_depthwise_and_transposed_convolutions() -> None:
    model = wrapped(Grouped())
    assert [(found.layer, found.units, found.tied) for found in channel_sets(model)] == [
        ("a", 3, 4), ("c", 2, 4), ("up", 6, 1)
    ]  # fmt: skip
    smaller = cut(model, {"a": [1, 4, 7, 10], "b": [0, 2, 4, 6], "up": [5]})
    net = smaller.network
    assert isinstance(net, Grouped)
    assert (net.a.out_channels, net.b.groups, net.b.in_channels, net.c.groups, net.up.in_channels) == (8, 4, 8, 4, 4)
    with pytest.raises(UsageError, match=r"'a': a grouped convolution lets channel k go only together with k \+ 3"):
        cut(model, {"a": [1]})


class Heads(nn.Module):
    """Two heads on one trunk, the second after a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Conv2d(8, 5, 3)
        self.one, self.two = nn.Linear(9, 3), nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.trunk(image).relu()
        joined = torch.cat([self.left(x), self.right(x)], 1).relu().mean((2, 3))
        return self.one(joined) + self.two(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_two_heads_and_concatenation() -> None:
    model = wrapped(Heads())
    smaller = cut(model, {"trunk": [0, 7], "right": [1]})
    image = torch.rand(4, 3, 16, 16)
    expected = silenced(model, {"trunk": (0, 7), "right": (1,)}, image)
    with torch.no_grad():
        torch.testing.assert_close(smaller(image), expected, rtol=1e-5, atol=1e-6)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 6)
        self.normed, self.logits = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.again(self.again(self.first(image)).relu()).relu()
        return self.logits(self.norm(self.normed(x)).relu()).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("again", "used more than once"),
        ("normed", r"'norm' \(GroupNorm\) reads them all together"),
        ("logits", "what the network gives"),
        ("norm", r"'norm' \(GroupNorm\) is not a convolution"),
        ("agian", "no layer 'agian'. Did you mean 'again'"),
    ],
)
def test_channels_that_cannot_leave_are_refused_with_the_reason(layer: str, why: str) -> None:
    model = wrapped(Twice())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises((ModelError, UsageError), match=why):
        cut(model, {layer: [0]})
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Softmaxed(nn.Module):
    """Channels meet in an operation that looks like any other to the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.conv(image).softmax(1).amax((2, 3)))  # type: ignore[no-any-return]


def test_an_operation_that_mixes_channels_is_found_out() -> None:
    model = wrapped(Softmaxed())
    with pytest.raises(ModelError, match=r"removing channels of 'conv' changes what other channels do \(logits by"):
        cut(model, {"conv": [0]})


class Flipped(nn.Module):
    """Channels change places, which moves faint logits by as much as the cut does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return 1e-5 * self.out(self.conv(image).flip(1).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_wrong_cut_is_found_out_however_small_the_logits() -> None:
    with pytest.raises(ModelError, match=r"removing channels of 'conv' changes what other channels do"):
        cut(wrapped(Flipped()), {"conv": [0]})


class Faint(nn.Module):
    """Channels meet in a norm over neighbours that does next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        maps = nn.functional.local_response_norm(self.conv(image), 3, alpha=1e-4)
        return self.out(maps.relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_slight_norm_over_channels_is_found_out() -> None:
    with pytest.raises(ModelError, match=r"removing channels of 'conv' changes what other channels do"):
        cut(wrapped(Faint()), {"conv": [2]})


class Auxiliary(nn.Module):
    """A second head that only training reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out, self.beside = nn.Conv2d(3, 6, 3), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.conv(image).relu().mean((2, 3))
        return self.out(pooled) + (0.1 * self.beside(pooled) if self.training else 0)  # type: ignore[no-any-return]


def test_a_layer_that_only_training_reaches_stops_the_cut() -> None:
    model = wrapped(Auxiliary()).train()
    with pytest.raises(ModelError, match=r"channels of 'conv' the network no longer runs in training mode \(Runtime"):
        cut(model, {"conv": [0]})
    assert model.training


class Single(nn.Module):
    """A network that runs in no other precision than float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.conv(image.float()).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_without_float64_is_compared_in_float32() -> None:
    model, image = wrapped(Single()), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        found, expected = cut(model, {"conv": [1, 4]})(image), silenced(model, {"conv": (1, 4)}, image)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    """Two layers with one weight, which would lose different channels of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.third.weight = self.second.weight
        self.out = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.third(self.second(self.first(image).relu()).relu()).relu()
        return self.out(maps.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("layer", ["first", "second", "third"])
def test_layers_that_share_a_weight_are_not_torn_apart(layer: str) -> None:
    with pytest.raises(ModelError, match=r"'second.weight' and 'third.weight' are one parameter"):
        cut(wrapped(Tied()), {layer: [1]})


class Halves(nn.Module):
    """The halves of one layer meet, so that channel k leaves with k + 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 10, 3), nn.Linear(5, 3)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.conv(image).chunk(2, 1)
        return self.out((left * right.sigmoid()).mean((2, 3)))  # type: ignore[no-any-return]


def test_halves_of_a_layer_that_meet_leave_together() -> None:
    model = wrapped(Halves())
    (found,) = channel_sets(model)
    assert (found.layer, found.count, found.units) == ("conv", 10, 5)
    with pytest.raises(UsageError, match=r"lets channel k go only together with k \+ 5"):
        cut(model, {"conv": [1]})


class Transposed(nn.Module):
    """Places before channels: what reads them is not followed by the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6 * 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        maps = nn.functional.adaptive_avg_pool2d(self.conv(image), 2)
        return self.out(maps.flatten(2).transpose(1, 2).flatten(1))  # type: ignore[no-any-return]


class Broadcast(nn.Module):
    """One channel is added to all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 1, 1), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.conv(image)
        return self.out((maps + self.one(maps)).mean((2, 3)))  # type: ignore[no-any-return]


class Normed(nn.Module):
    """A weight that is made of others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.read = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3))
        self.out = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.read(self.conv(image)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Transposed, "cannot be followed"),
        (Broadcast, "joined with those of 'one', of which there are 1"),
        (Normed, "cannot be followed"),
    ],
)
def test_what_the_graph_does_not_follow_is_told_in_a_sentence(network: type[nn.Module], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        cut(wrapped(network()), {"conv": [1]})


@pytest.mark.parametrize("numbers", [[1.0], "12", 3, None, [[1, 2]], [True], torch.tensor([0.5])])
def test_channels_are_whole_numbers(numbers: Any) -> None:  # noqa: ANN401 - whatever a user gives
    with pytest.raises(UsageError, match=r"named by a list of whole numbers|is named"):
        cut(build("simple_cnn", 32), {"conv1": numbers})


@pytest.mark.parametrize("numbers", [torch.tensor([1, 3]), np.array([1, 3]), {1, 3}, range(1, 4, 2)])
def test_channels_may_be_tensors_arrays_sets_and_ranges(numbers: Any) -> None:  # noqa: ANN401
    assert cut(build("simple_cnn", 32), {"conv1": numbers}).cuts == (Cut(layer="network.conv1", channels=(1, 3)),)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.conv(image).detach().mean((2, 3)))  # type: ignore[no-any-return]


def test_what_cannot_be_traced_is_refused() -> None:
    with pytest.raises(ModelError, match="no channels of simple_cnn can be cut"):
        channel_sets(wrapped(Branching()))
    with pytest.raises(ModelError, match="graph cannot be traced"):
        channel_sets(wrapped(nn.Linear(3, 3)))
    with pytest.raises(ModelError, match="no channels of vit_tiny_patch16_224 can be cut"):
        channel_sets(build("vit_tiny_patch16_224", 224))


def test_everything_wrong_with_the_numbers_is_told_at_once() -> None:
    model = build("simple_cnn", 32)
    with pytest.raises(UsageError) as caught:
        cut(model, {"conv1": range(32), "conv2": [1, 1, 64, -1], "conv3": []})
    told = str(caught.value)
    for part in ("'conv1' would be left without a channel", "'conv2' has channels 0 to 63, not [64, -1]",
                 "'conv2': a channel is named twice", "'conv3': no channel is named"):  # fmt: skip
        assert part in told
    with pytest.raises(UsageError, match="channels of two layers that leave together"):
        cut(build("resnet18"), {"layer4.0.conv2": [0], "layer4.1.conv2": [1]})


def test_the_record_tells_which_of_the_first_channels_are_left() -> None:
    model = build("simple_cnn", 32)
    smaller = cut(cut(model, {"conv3": [0, 5]}), {"conv3": [0, 125], "conv1": [31]})
    expected = [number for number in range(128) if number not in (0, 5, 1, 127)]
    assert left(smaller.cuts, "network.conv3", 124) == tuple(expected)
    assert torch.equal(inner(smaller).conv3.bias, inner(model).conv3.bias[expected])


def test_units_are_ranked_by_their_mean_and_nan_is_refused() -> None:
    found = channel_sets(wrapped(Grouped()))[0]
    scores = torch.tensor([5.0, 1, 3, 5, 1, 3, 5, 1, 3, 0, 9, 3])
    assert lowest_units(scores, found, 1) == (1, 4, 7, 10)  # means 3.75, 3 and 3: of equals the first
    assert lowest_units(scores, found, 2) == (1, 2, 4, 5, 7, 8, 10, 11)
    with pytest.raises(ModelError, match="2 channels have a score that is NaN"):
        lowest_units(torch.tensor([float("nan")] * 2 + [1.0] * 10), found, 1)

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from equiprune.errors import ModelError
from equiprune.models.backbones import BACKBONES, build
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design

# Every backbone once; all combinations only where a build takes milliseconds.
MEMBERS = [
    ("vgg11", 1, 2, 32),
    ("resnet50", 1, 114, 16),
    *(("resnet18", channels, classes, size) for channels, classes, size in ((3, 2, 16), (1, 114, 33))),
    *(("simple_cnn", channels, classes, size) for channels in (1, 3) for classes in (2, 114) for size in (8, 50)),
]


def _design(backbone: str, channels: int = 3, classes: int = 2, image_size: int = 16) -> Design:
    names = tuple(f"class {i}" for i in range(classes))
    return Design(backbone=backbone, classes=names, channels=channels, image_size=image_size)


def test_the_contract_is_tried_on_every_backbone() -> None:
    assert {member[0] for member in MEMBERS} | {"vgg11_bn"} == set(BACKBONES)


@pytest.mark.parametrize(("backbone", "channels", "size"), [("vgg11", 3, 40), ("vgg11_bn", 1, 32)])
def test_large_networks_without_their_memory(backbone: str, channels: int, size: int) -> None:
    with torch.device("meta"):
        network = build(_design(backbone, channels, 114, size))
        assert network(torch.zeros(2, channels, size, size)).shape == (2, 114)
    colour = 129_233_394 if backbone == "vgg11" else 129_238_898
    assert sum(parameter.numel() for parameter in network.parameters()) == colour - 64 * 9 * (3 - channels)


@pytest.mark.parametrize(("backbone", "channels", "classes", "size"), MEMBERS)
def test_every_backbone_builds_runs_and_comes_back_bit_equal(
    backbone: str, channels: int, classes: int, size: int, tmp_path: Path
) -> None:
    model = Classifier.build(_design(backbone, channels, classes, size), seed=3)
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    with torch.no_grad():
        if backbone.endswith(("18", "50")):
            model.train()(images)  # so that the running statistics are not those of a fresh net
        logits = model.eval()(images)
    assert logits.shape == (2, classes)
    assert torch.isfinite(logits).all()
    first = next(iter(model.named_parameters()))[0]
    model.masks = {first: torch.rand_like(model.get_parameter(first)) > 0.5}
    model.apply_masks()
    model.save(tmp_path)
    again = Classifier.load(tmp_path)
    assert again.design == model.design
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(again.masks[first], model.masks[first])
    (tmp_path / "model.safetensors").unlink()  # pytest keeps folders, and half a gigabyte is much


@pytest.mark.parametrize("backbone", ["resnet18", "simple_cnn"])
def test_weights_depend_on_the_seed_alone_and_the_global_state_stays(backbone: str) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = build(_design(backbone, channels=1), seed=5)
    assert torch.equal(torch.rand(3), expected)
    second = build(_design(backbone, channels=1), seed=5)
    other = build(_design(backbone, channels=1), seed=6)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_a_grey_first_convolution_is_scaled_like_torchvisions() -> None:
    grey = next(build(_design("resnet18", channels=1)).parameters())
    assert grey.shape == (64, 1, 7, 7)
    assert float(grey.detach().std()) == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.1)


def test_an_image_too_small_is_told_with_a_size_that_works() -> None:
    wanted = r"vgg11 does not work on images of 16 x 16 .*image_size = 32"
    with torch.device("meta"), pytest.raises(ModelError, match=wanted):
        build(_design("vgg11", image_size=16))


def test_building_does_not_touch_batch_norm_statistics() -> None:
    network = build(_design("resnet18"))
    assert network.training
    assert isinstance(network.bn1, nn.BatchNorm2d)
    state = network.bn1.state_dict()
    assert torch.equal(state["running_var"], torch.ones(64))
    assert int(state["num_batches_tracked"]) == 0


def test_an_unknown_name_gets_the_nearest_and_the_extra_that_timm_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"no backbone 'resnt18'. Did you mean 'resnet18'\?.*equiprune\[timm\]"):
        build(_design("resnt18"))


def _timm(**argument_names: bool) -> SimpleNamespace:
    def create_model(name: str, pretrained: bool, num_classes: int, in_chans: int, **more: int) -> nn.Module:
        assert name == "tiny_vit"
        assert not pretrained
        if more and not argument_names["img_size"]:
            raise TypeError("unexpected keyword argument 'img_size'")
        size = more.get("img_size", 16)
        return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * size * size, num_classes))

    return SimpleNamespace(create_model=create_model, list_models=lambda: ["tiny_vit"])


@pytest.mark.parametrize("takes_size", [True, False])
def test_timm_names_are_built_where_timm_is(monkeypatch: pytest.MonkeyPatch, takes_size: bool) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "timm", _timm(img_size=takes_size))
    size = 24 if takes_size else 16
    network = build(_design("tiny_vit", image_size=size))
    assert network(torch.zeros(1, 3, size, size)).shape == (1, 2)
    for name in ("tiny_vitt", "hf-hub:someone/tiny_vit"):
        with pytest.raises(ModelError, match="no backbone"):
            build(_design(name))


FACTORY = """
from torch import nn
import sibling

class Net(nn.Module):
    def __init__(self, classes, image_size=8):
        super().__init__()
        self.fc = nn.Linear(3 * image_size ** 2, classes)

    def forward(self, image):
        return self.fc(image.flatten(1))

def make(num_classes, channels, *, depth=sibling.DEPTH):
    assert channels == 3
    layers = [nn.Conv2d(channels, 4, 3) for _ in range(depth)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

def wrong_type(classes):
    return lambda image: image

def wrong_shape(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes + 1))

def two_outputs(classes):
    class Two(Net):
        def forward(self, image):
            return super().forward(image), image
    return Two(classes, 16)

def greedy(classes, depth, *rest, **more):
    return None

def fails(classes):
    raise ValueError("no such thing")

def leaves():
    raise SystemExit(2)

number = 3
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("DEPTH = 1\n")
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize("function", ["make", "Net"])
def test_a_factory_gets_the_arguments_it_names(factory: Path, function: str) -> None:
    before = list(sys.path)
    network = build(_design(f"{factory}:{function}", classes=5, image_size=16))
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 5)
    assert sys.path == before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong_type", "returned function, expected a torch.nn.Module"),
        ("wrong_shape", r"gave shape \(1, 3\), expected logits of shape \(1, 2\)"),
        ("two_outputs", "gave tuple, expected logits"),
        ("greedy", r"mine.py:greedy: asks for 'depth', .*offered are classes, num_classes, channels, image_size"),
        ("fails", r"mine.py:fails, row 34: failed with ValueError: no such thing"),
        ("leaves", "mine.py:leaves, row 37: failed with SystemExit: 2"),
        ("number", "has no function 'number'"),
        ("mkae", r"has no function 'mkae'. Did you mean 'make'\?"),
    ],
)
def test_a_wrong_factory_is_told_with_file_and_function(factory: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(_design(f"{factory}:{function}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name\n", "row 1: failed with ModuleNotFoundError"),
        ("\ndef f(:\n", "row 2: failed with S"),
    ],
)
def test_a_factory_file_that_does_not_import(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        build(_design(f"{path}:make"))


def test_a_missing_factory_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        Classifier.build(_design(f"{tmp_path / 'gone.py'}:make"))


def test_a_factory_runs_the_source_that_is_there_now(factory: Path) -> None:
    first = Classifier.build(_design(f"{factory}:make"))
    factory.write_text(FACTORY.replace("4, 3", "8, 3").replace("Linear(4", "Linear(8"))
    second = Classifier.build(_design(f"{factory}:make"))
    assert first.design.source_sha256 != second.design.source_sha256
    assert next(second.parameters()).shape[0] == 8


def test_other_random_generators_are_left_alone() -> None:
    state = random.getstate()
    build(_design("simple_cnn"))
    assert random.getstate() == state


def test_dry_run_needs_no_batch_norm_training(factory: Path) -> None:
    factory.write_text(
        "from torch import nn\n"
        "def make(classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, classes))\n"
    )
    network = build(_design(f"{factory}:make"))
    assert isinstance(network, nn.Sequential)
    statistic = network[1].running_mean
    assert isinstance(statistic, Tensor)
    assert not statistic.any()

from __future__ import annotations

import pickle
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from equiprune.errors import ModelError
from equiprune.models.classifier import Classifier, Design
from equiprune.models.load import load_weights

DESIGN = Design(backbone="simple_cnn", classes=("no", "yes"), channels=3, image_size=8)


@pytest.fixture
def model() -> Classifier:
    return Classifier.build(DESIGN, seed=0)


@pytest.fixture
def other() -> dict[str, Tensor]:
    """The network's state under another seed: names as torchvision or the user would have them."""
    return Classifier.build(DESIGN, seed=1).network.state_dict()


def _assert_equal(state: dict[str, Tensor], expected: dict[str, Tensor], but: tuple[str, ...] = ()) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state if name not in but)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors"])
def test_a_bare_state_dict_loads_without_a_notice(
    model: Classifier, other: dict[str, Tensor], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(other, path)
    else:
        torch.save(other, path)
    assert load_weights(model, str(path)) == ()
    _assert_equal(model.network.state_dict(), other)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "network.", "backbone.", "model.module."])
def test_wrappers_and_prefixes_come_off_with_a_notice(
    model: Classifier, other: dict[str, Tensor], tmp_path: Path, key: str, prefix: str
) -> None:
    checkpoint = {"epoch": 3, "lr": 0.1, key: {prefix + name: tensor for name, tensor in other.items()}}
    torch.save(checkpoint, tmp_path / "w.pt")
    (notice,) = load_weights(model, tmp_path / "w.pt")
    assert f"names begin with {prefix!r}, which was taken off" in str(notice)
    _assert_equal(model.network.state_dict(), other)


def test_a_prefix_that_is_the_networks_own_stays(tmp_path: Path) -> None:
    source = (
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
    )
    source += "        self.backbone = nn.Flatten()\n        self.model = nn.Linear(192, classes)\n"
    source += "    def forward(self, image):\n        return self.model(self.backbone(image))\n"
    (tmp_path / "net.py").write_text(source)
    model = Classifier.build(DESIGN.model_copy(update={"backbone": f"{tmp_path / 'net.py'}:Net"}))
    torch.save({"model.weight": torch.ones(2, 192), "model.bias": torch.ones(2)}, tmp_path / "w.pt")
    assert load_weights(model, tmp_path / "w.pt") == ()
    assert model.get_parameter("network.model.weight").eq(1).all()


def test_a_head_for_other_classes_starts_afresh(model: Classifier, other: dict[str, Tensor], tmp_path: Path) -> None:
    fresh = model.network.state_dict()["fc2.weight"].clone()
    other |= {"fc2.weight": torch.ones(1000, 128), "fc2.bias": torch.ones(1000)}
    torch.save(other, tmp_path / "w.pt")
    (notice,) = load_weights(model, tmp_path / "w.pt")
    assert "head 'fc2' was made for 1000 other classes; here it starts afresh with 2" in notice.what
    state = model.network.state_dict()
    assert torch.equal(state["fc2.weight"], fresh)
    assert torch.equal(state["conv1.weight"], other["conv1.weight"])


def test_torchvision_files_load_by_name_from_the_checkpoints_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    design = Design(backbone="resnet18", classes=("a", "b", "c"), image_size=16)
    model = Classifier.build(design)
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(ModelError, match=rf"{path}: the file of weights IMAGENET1K_V1 .* Nothing is downloaded"):
        load_weights(model, "IMAGENET1K_V1")
    path.parent.mkdir()
    trained = Classifier.build(design.model_copy(update={"classes": tuple(map(str, range(1000)))}), seed=9)
    state = trained.network.state_dict()
    # Files from before 2018 have no such counters.
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    (notice,) = load_weights(model, "IMAGENET1K_V1")
    assert "head 'fc' was made for 1000 other classes" in notice.what
    _assert_equal(model.network.state_dict() | {"fc.weight": state["fc.weight"], "fc.bias": state["fc.bias"]}, state)
    with pytest.raises(ModelError, match=r"no weights 'IMAGENET1K_V9' for resnet18. Did you mean 'IMAGENET1K_V1'"):
        load_weights(model, "IMAGENET1K_V9")


def test_a_backbone_that_torchvision_has_no_weights_for(model: Classifier) -> None:
    with pytest.raises(ModelError, match="torchvision has no weights 'DEFAULT' for 'simple_cnn'"):
        load_weights(model, "DEFAULT")


def test_everything_that_does_not_fit_is_listed_and_nothing_changes(
    model: Classifier, other: dict[str, Tensor], tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other["conv_1.weight"] = other.pop("conv1.weight")
    other["fc1.bias"] = torch.zeros(7)
    other["conv2.bias"][3] = torch.nan
    del other["fc2.bias"]
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "w.pt")
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    assert "lacks tensor 'conv1.weight'" in text
    assert "lacks tensor 'fc2.bias'" in text
    assert "unexpected tensor 'conv_1.weight' of shape (32, 3, 3, 3). Nearest missing name: 'conv1.weight'" in text
    assert "'fc1.bias' has shape (7,), expected (128,)" in text
    assert "'conv2.bias' holds NaN or infinite values" in text
    _assert_equal(model.state_dict(), before)


def test_colour_weights_on_a_grey_model_get_a_hint(other: dict[str, Tensor], tmp_path: Path) -> None:
    grey = Classifier.build(DESIGN.model_copy(update={"channels": 1, "mean": (0.5,), "std": (0.25,)}))
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_weights(grey, tmp_path / "w.pt")
    text = str(caught.value)
    assert "was trained on images of 3 channels, this model takes 1. Set channels = 3: grey images are repeated" in text
    assert "'conv1.weight' has shape (32, 3, 3, 3), expected (32, 1, 3, 3)" in text


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["model", "namespace", "bomb", "plain pickle"])
def test_pickles_are_never_opened(model: Classifier, tmp_path: Path, kind: str) -> None:
    path, trace = tmp_path / "w.pt", tmp_path / "ran"
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(_Bomb(trace)))
    else:
        content: object = {"model": model, "namespace": {"args": Namespace(a=1)}, "bomb": _Bomb(trace)}[kind]
        torch.save(content, path)
    with pytest.raises(ModelError, match=r"pickled objects.*torch.save\(model.state_dict\(\), 'weights.pth'\)"):
        load_weights(model, path)
    assert not trace.exists()


def test_torchscript_is_refused(model: Classifier, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch retires TorchScript; users still have such files
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="pickled objects"):
        load_weights(model, tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("left", [0, 5, 100, 20_000])
def test_files_cut_short(model: Classifier, other: dict[str, Tensor], tmp_path: Path, suffix: str, left: int) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(other, path)
    else:
        torch.save(other, path)
    path.write_bytes(path.read_bytes()[:left])
    message = "is empty" if left == 0 else "cannot be read|is not a whole safetensors file"
    with pytest.raises(ModelError, match=message):
        load_weights(model, path)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x00" * 100, b"\x80\x04.", b"col1,col2\n1,2\n", b"PK\x03\x04" + b"x" * 50]
)
def test_files_of_something_else(model: Classifier, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(model, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list, expected a dict of tensors"),
        (torch.zeros(3), "holds Tensor, expected a dict"),
        ({}, "expected a dict of tensors"),
        ({"state_dict": {}}, "expected a dict of tensors"),
        ({"epoch": 3, "net": {"a": torch.zeros(1)}}, r"no tensors: 'epoch' \(int\), 'net' \(dict\).*looked for under"),
    ],
)
def test_files_that_hold_no_state_dict(model: Classifier, tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        load_weights(model, tmp_path / "w.pt")


def test_missing_files_folders_and_endings(model: Classifier, tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="there is no such file of weights"):
        load_weights(model, tmp_path / "gone.pt")
    with pytest.raises(ModelError, match="holds no finished model"):
        load_weights(model, tmp_path)
    with pytest.raises(ModelError, match=r"ends in '.onnx', expected weights as .safetensors .pt"):
        load_weights(model, tmp_path / "w.onnx")


def test_half_precision_files_widen(model: Classifier, other: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in other.items()}, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    _assert_equal(model.network.state_dict(), {name: tensor.half().float() for name, tensor in other.items()})


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_saved_classifier_brings_its_masks(model: Classifier, tmp_path: Path, named: str) -> None:
    saved = Classifier.build(DESIGN, seed=4)
    saved.masks = {"network.conv1.weight": torch.rand(32, 3, 3, 3) > 0.5}
    saved.apply_masks()
    saved.save(tmp_path)
    model.masks = {"network.conv1.weight": torch.ones(32, 3, 3, 3, dtype=torch.bool)}
    model.masks["network.conv1.weight"][0] = False
    assert load_weights(model, tmp_path if named == "folder" else tmp_path / "model.safetensors") == ()
    expected = saved.masks["network.conv1.weight"].clone()
    expected[0] = False
    assert torch.equal(model.masks["network.conv1.weight"], expected)
    weight = model.get_parameter("network.conv1.weight")
    assert torch.equal(weight, saved.get_parameter("network.conv1.weight") * expected)


def test_a_saved_classifier_of_as_many_other_classes_keeps_its_head_to_itself(
    model: Classifier, tmp_path: Path
) -> None:
    saved = Classifier.build(DESIGN.model_copy(update={"classes": ("yes", "no"), "mean": (0.0, 0.0, 0.0)}), seed=4)
    saved.masks = {"network.fc2.weight": torch.zeros(2, 128, dtype=torch.bool)}
    saved.save(tmp_path)
    fresh = model.get_parameter("network.fc2.weight").clone()
    notices = [notice.what for notice in load_weights(model, tmp_path)]
    assert any("was trained with mean (0.0, 0.0, 0.0)" in notice for notice in notices)
    assert any("head 'fc2' was made for 2 other classes" in notice for notice in notices)
    assert torch.equal(model.get_parameter("network.fc2.weight"), fresh)
    assert model.masks == {}

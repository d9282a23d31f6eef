from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equiprune.errors import ModelError, UsageError
from equiprune.exporting import export
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.pruning.channels import channel_sets, cut
from equiprune.pruning.masks import hold


def pruned(backbone: str, size: int = 64) -> Classifier:
    """Half of all channels cut, and a third of one layer's weights held at zero."""
    model = Classifier.build(Design(backbone=backbone, classes=("a", "b", "ç\"'\\"), image_size=size))
    sets = channel_sets(model)
    model = cut(model, {found.layer: found.of_units(range(0, found.units, 2)) for found in sets}).eval()
    name = f"network.{sets[-1].layer}.weight"
    hold(model, {name: torch.rand(model.get_parameter(name).shape) > 0.3})
    return model


@pytest.mark.parametrize("backbone", ["simple_cnn", "vgg11", "vgg11_bn", "resnet18", "resnet50"])
def test_onnx_of_a_cut_model_gives_its_logits_for_any_batch(backbone: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    model = pruned(backbone)
    assert export(model, tmp_path / "m.onnx", "onnx") == [tmp_path / "m.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        image = torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(batch))
        (found,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, model(image).numpy(), rtol=1e-4, atol=1e-4)
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(facts["classes"]) == ["a", "b", "ç\"'\\"]
    assert (tmp_path / "m.onnx").stat().st_size < 4 * model.facts().parameters + 200_000


def test_onnx_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("equiprune.exporting.find_spec", lambda name: None if name == "onnxruntime" else real(name))
    with pytest.raises(UsageError, match=r"not installed: onnxruntime. pip install 'equiprune\[onnx\]'"):
        export(pruned("simple_cnn", 32), tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())


class Sized(nn.Module):
    """Python code that depends on the values: no graph of it exists."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image).mean((2, 3))
        return self.out(x if float(x.sum()) > 0 else -x)  # type: ignore[no-any-return]


def test_a_network_that_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    model = Classifier(Sized(), Design(backbone="simple_cnn", classes=("a", "b"), image_size=16))
    with pytest.raises(ModelError, match="cannot be exported to ONNX"):
        export(model, tmp_path / "m.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_safetensors_come_back_with_cuts_and_masks(tmp_path: Path) -> None:
    model = pruned("resnet18")
    files = export(model, tmp_path / "fair.safetensors", "safetensors")
    assert [file.name for file in files] == ["fair.safetensors", "fair.json"]
    again = Classifier.load(tmp_path / "fair.safetensors").eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    assert again.cuts == model.cuts
    assert {name: int(kept.sum()) for name, kept in again.masks.items()} == {
        name: int(kept.sum()) for name, kept in model.masks.items()
    }


STATES = ("vgg11_bn", "resnet18", "mobilenetv3_small_100")
LOADED = """
import sys, torch
from importlib import import_module
from torchvision.models import get_model
import timm
for name in sys.argv[1:]:
    sys.path.insert(0, name)
    sys.modules.pop("load_fair_model", None)
    load = import_module("load_fair_model").load
    make = timm.create_model if "mobilenet" in name else get_model
    network = load(make(name, num_classes=3), f"{name}/fair-model.pt")
    image, mean, std = torch.load(f"{name}/image.pt")
    with torch.no_grad():
        torch.save(network((image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)), f"{name}/logits.pt")
assert "equiprune" not in sys.modules
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models that a process without equiprune has loaded, one after the other: its start takes longest."""
    folder = tmp_path_factory.mktemp("states")
    for backbone in STATES:
        place = folder / backbone
        place.mkdir()
        model = pruned(backbone)
        files = export(model, place / "fair-model.pt", "torch")
        assert [file.name for file in files] == ["fair-model.pt", "load_fair_model.py"]
        image = torch.rand(2, 3, 64, 64)
        torch.save((image, torch.tensor(model.design.mean), torch.tensor(model.design.std)), place / "image.pt")
        with torch.no_grad():
            torch.save(model(image), place / "expected.pt")
    subprocess.run([sys.executable, "-c", LOADED, *STATES], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("backbone", STATES)
def test_the_state_dict_is_loaded_by_its_loader_without_equiprune(backbone: str, loaded: Path) -> None:
    found, expected = (torch.load(loaded / backbone / name) for name in ("logits.pt", "expected.pt"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "torch"])
def test_the_ending_must_be_the_formats(kind: str, tmp_path: Path) -> None:
    model = Classifier.build(Design(backbone="simple_cnn", classes=("a", "b"), image_size=16))
    with pytest.raises(UsageError, match=f"a file of {kind} ends in"):
        export(model, tmp_path / "model.bin", kind)  # type: ignore[arg-type]

from __future__ import annotations

import errno
import json
import resource
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from equiprune import files
from equiprune.errors import DataError, ModelError, UsageError
from equiprune.models import storage
from equiprune.models.classifier import Classifier, Design, prunable

DESIGN = Design(backbone="simple_cnn", classes=("no", "yes", "maybe"), channels=1, image_size=8)


@pytest.fixture
def model() -> Classifier:
    return Classifier.build(DESIGN)


@pytest.fixture
def folder(model: Classifier, tmp_path: Path) -> Path:
    model.masks = {
        "network.conv2.weight": torch.rand(64, 32, 3, 3) > 0.3,
        "network.fc2.weight": torch.rand(3, 128) > 0.3,
    }
    model.apply_masks()
    model.save(tmp_path / "model")
    return tmp_path / "model"


def _rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    """As a program would that knows the format: weights and hash agree."""
    save_file(tensors, folder / storage.WEIGHTS)
    document = json.loads((folder / storage.DOCUMENT).read_text())
    document["sha256"] = files.sha256(folder / storage.WEIGHTS)
    (folder / storage.DOCUMENT).write_text(json.dumps(document))


def test_uint8_and_floats_give_the_same_and_are_normalised_by_hand(model: Classifier) -> None:
    image = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    by_hand = model.network((image.float() / 255 - 0.5) / 0.25)
    assert torch.equal(model(image), by_hand)
    assert torch.equal(model(image.float() / 255), by_hand)
    assert torch.equal(model(image, torch.zeros(4, dtype=torch.int64)), by_hand)


def test_channels_last_images_give_the_same() -> None:
    model = Classifier.build(DESIGN.model_copy(update={"channels": 3, "mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0)}))
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    last = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(image.contiguous(memory_format=torch.channels_last)), model(image))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"shape \(2, 3, 8, 8\), expected \(batch, 1, h, w\)"),
        (torch.zeros(8, 8), r"shape \(8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "expected uint8 or floats"),
    ],
)
def test_wrong_images_are_refused(model: Classifier, image: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model(image)


def test_a_network_with_other_logits_is_refused() -> None:
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), DESIGN)
    with pytest.raises(ModelError, match=r"gave shape \(4, 2\), expected logits of shape \(4, 3\)"):
        model(torch.zeros(4, 1, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ("a", "a")},
        {"classes": ("a",)},
        {"classes": ()},
        {"mean": (0.5,)},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": (float("nan"), 0.0, 0.0)},
        {"channels": 0},
        {"task": "regression"},
        {"colour": "red"},
    ],
)
def test_a_design_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Design.model_validate({"backbone": "resnet18", "classes": ("a", "b"), **wrong})


def test_one_finding_is_enough_for_multilabel() -> None:
    assert Design(backbone="resnet18", classes=("fracture",), task="multilabel", channels=5).mean == (0.5,) * 5


def test_held_weights_are_exactly_zero_even_where_they_were_infinite(model: Classifier) -> None:
    weight = model.get_parameter("network.fc2.weight")
    kept = torch.zeros_like(weight, dtype=torch.bool)
    kept[0] = True
    with torch.no_grad():
        weight[1, 0] = torch.inf
    before = weight[0].clone()
    model.masks = {"network.fc2.weight": kept}
    model.apply_masks()
    assert not weight[1:].any()
    assert torch.equal(weight[0], before)
    assert model.facts().zeros == 2 * 128


def test_facts_count_by_hand(model: Classifier) -> None:
    weights = 32 * 9 + 64 * 32 * 9 + 128 * 64 * 9 + 128 * 2048 + 3 * 128
    facts = model.facts()
    assert (facts.parameters, facts.prunable, facts.zeros) == (weights + 32 + 64 + 128 + 128 + 3, weights, 0)


def test_masks_follow_the_model_and_stay_bool(model: Classifier) -> None:
    model.masks = {"network.fc2.weight": torch.rand(3, 128) > 0.5}
    assert model.double().masks["network.fc2.weight"].dtype == torch.bool
    assert model(torch.zeros(1, 1, 8, 8)).dtype == torch.float64
    assert model.to("meta").masks["network.fc2.weight"].device.type == "meta"


def test_a_clone_shares_nothing(model: Classifier) -> None:
    model.masks = {"network.fc2.weight": torch.ones(3, 128, dtype=torch.bool)}
    copy = model.clone()
    with torch.no_grad():
        next(copy.parameters()).zero_()
    copy.masks["network.fc2.weight"][:] = False
    assert next(model.parameters()).any()
    assert model.masks["network.fc2.weight"].all()


def test_round_trip_of_masks_statistics_and_double_precision(tmp_path: Path) -> None:
    model = Classifier.build(Design(backbone="resnet18", classes=("a", "b"), image_size=16)).double()
    model.train()(torch.rand(4, 3, 16, 16))
    model.masks = {"network.layer1.0.conv1.weight": torch.rand(64, 64, 3, 3) > 0.5}
    model.apply_masks()
    model.save(tmp_path)
    again = Classifier.load(tmp_path)
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert state["network.bn1.running_mean"].dtype == torch.float64
    assert state["network.bn1.num_batches_tracked"] == 1
    assert torch.equal(again.masks["network.layer1.0.conv1.weight"], model.masks["network.layer1.0.conv1.weight"])
    image = torch.rand(2, 3, 16, 16)
    assert torch.equal(again.eval()(image), model.eval()(image))


def test_the_document_says_what_is_inside(model: Classifier, folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    kept = int(model.masks["network.conv2.weight"].sum())
    assert document["masks"]["network.conv2.weight"] == {"kept": kept, "total": 64 * 32 * 9}
    assert document["cuts"] == []
    assert document["schema"] == 1
    assert document["design"]["classes"] == ["no", "yes", "maybe"]
    assert document["versions"]["torch"] == torch.__version__
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_tied_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "tied.py"
    path.write_text(
        "from torch import nn\n"
        "def make(classes):\n"
        "    layers = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, classes)\n"
        "    net = nn.Sequential(nn.Flatten(), *layers)\n"
        "    net[3].weight = net[1].weight\n"
        "    return net\n"
    )
    model = Classifier.build(DESIGN.model_copy(update={"backbone": f"{path}:make"}))
    assert list(prunable(model)) == ["network.1.weight", "network.4.weight"]
    model.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model", factory=f"{path}:make")
    assert torch.equal(again.get_parameter("network.1.weight"), model.get_parameter("network.1.weight"))
    assert again.get_parameter("network.3.weight") is again.get_parameter("network.1.weight")


def test_a_factory_runs_only_when_it_is_named_again(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = f"from torch import nn\nopen({str(ran)!r}, 'w').close()\n"
    source += "def make(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    path = tmp_path / "mine.py"
    path.write_text(source)
    name = f"{path}:make"
    Classifier.build(DESIGN.model_copy(update={"backbone": name})).save(tmp_path / "model")
    ran.unlink()
    with pytest.raises(ModelError, match="code is only run when you name it yourself"):
        Classifier.load(tmp_path / "model")
    assert not ran.exists()
    assert Classifier.load(tmp_path / "model", factory=name).notices == ()
    path.write_text(source + "# changed\n")
    (notice,) = Classifier.load(tmp_path / "model", factory=name).notices
    assert "has changed" in notice.what
    with pytest.raises(ModelError, match="'resnet18' cannot stand for"):
        Classifier.load(tmp_path / "model", factory="resnet18")


def test_a_named_backbone_cannot_become_a_factory(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"is a 'simple_cnn', which 'mine.py:make' cannot stand for"):
        Classifier.load(folder, factory="mine.py:make")


def test_one_flipped_bit_is_noticed(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.safetensors: is not the file that model.json was written with"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("model.json", "holds no finished model"), ("model.safetensors", "is missing, though model.json is there")],
)
def test_a_missing_file(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "column 'schema'"),
        ({"cuts": [{"layer": "conv1"}]}, "column 'cuts.0.channels'"),
        ({"cuts": [{"layer": "network.conv1", "channels": [0]}]},
         "tells of 1 channels cut from 'network.conv1', but the weights hold 32 of 32"),
        ({"cuts": [{"layer": "network.fc1", "channels": [0]}]}, "'network.fc1', which is no convolution"),
        ({"cuts": [{"layer": "nothing", "channels": [0]}]}, "'nothing', which is no convolution"),
        ({"design": {"backbone": "simple_cnn"}}, r"column 'design.classes'"),
        ({"masks": {}}, "do not hold the same masks: network.conv2.weight, network.fc2.weight"),
        ({"masks": {"network.conv2.weight": {"kept": 1, "total": 2}, "network.fc2.weight": {"kept": 1, "total": 384}}},
         r"(?s)conv2.weight' of the wrong size.*fc2.weight' does not keep the 1 weights"),
    ],
)  # fmt: skip
def test_a_document_that_was_meddled_with(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        Classifier.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00"])
def test_a_document_that_is_no_document(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model.json"):
        Classifier.load(folder)


def test_a_malicious_backbone_name_in_the_document_runs_nothing(folder: Path) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    for name in ("os.py:system", "hf-hub:someone/net", "../../x"):
        document["design"]["backbone"] = name
        path.write_text(json.dumps(document))
        with pytest.raises(ModelError, match=r"only run when you name it yourself|there is no backbone"):
            Classifier.load(folder)


def test_tensors_that_do_not_fit_are_all_listed(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["network.conv9.weight"] = tensors.pop("network.conv1.weight")
    tensors["network.fc1.bias"] = torch.zeros(5)
    tensors["network.conv3.bias"] = torch.zeros(128, dtype=torch.int64)
    _rewrite(folder, tensors)
    with pytest.raises(ModelError) as caught:
        Classifier.load(folder)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "lacks tensor 'network.conv1.weight' of shape (32, 1, 3, 3)" in text
    assert "unexpected tensor 'network.conv9.weight'" in text
    assert "'network.fc1.bias' has shape (5,), expected (128,)" in text
    assert "'network.conv3.bias' is of type torch.int64" in text


def test_a_mask_of_nothing_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["mask:network.gone"] = tensors.pop("mask:network.fc2.weight")
    _rewrite(folder, tensors)
    document = json.loads((folder / "model.json").read_text())
    document["masks"]["network.gone"] = document["masks"].pop("network.fc2.weight")
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"mask of 'network.gone', which is no parameter"):
        Classifier.load(folder)


def test_not_a_safetensors_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04 something else")
    document = json.loads((folder / "model.json").read_text())
    document["sha256"] = files.sha256(folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        Classifier.load(folder)


def test_an_interrupted_second_save_is_noticed(
    model: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        next(model.parameters()).add_(1)
    monkeypatch.setattr(files, "write_json", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(folder)
    with pytest.raises(ModelError, match="interrupted write"):
        Classifier.load(folder)


def _interrupted(_: Path, __: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_leaves_the_old_model(model: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Classifier.load(folder).state_dict()

    def full(_: dict[str, Tensor], path: Path, metadata: None) -> None:
        assert metadata is None
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(DataError, match="the disk is full"):
        model.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    after = Classifier.load(folder).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_the_number_that_safetensors_hides_in_its_message_is_found(model: Classifier, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            model.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(model: Classifier, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        model.save(tmp_path / "model")

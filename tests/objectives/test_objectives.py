"""What every training objective promises, over all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.objectives.conftest import built, folder, with_unknown

from equiprune.errors import ModelError, UsageError
from equiprune.files import read_json_lines
from equiprune.models.classifier import Classifier, Trained
from equiprune.models.design import Design
from equiprune.models.reshaping import find_stages
from equiprune.objectives import OBJECTIVES, FairAdaBN, MultiExit, own, tune
from equiprune.predicting import exit_logits, predict
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

SETTINGS = TrainingSettings(epochs=3, batch_size=48, learning_rate=2e-3, augment="none")
ADVERSARIAL = ("advconf", "advrev", "gradient_reversal")
WITH_PENALTY = ("advconf", "advrev", "gradient_reversal", "hsic", "mfd", "fairadabn", "group_dro")


def same(one: Classifier, other: Classifier) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def data(kind: str, lesion_data: tuple[Cohort, Pixels], findings: Cohort) -> tuple[Cohort, Pixels]:
    cohort, pixels = lesion_data
    return {"classes": cohort, "findings": findings, "unknown": with_unknown(cohort)}[kind], pixels


@pytest.mark.parametrize("kind", ["classes", "findings", "unknown"])
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_it_trains_saves_loads_and_resumes_to_the_same_bits(
    name: str, kind: str, factory: str, lesion_data: tuple[Cohort, Pixels], findings: Cohort, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cohort, pixels = data(kind, lesion_data, findings)
    start = built(factory, cohort)
    whole = OBJECTIVES[name]()(start, cohort, Training(pixels, SETTINGS, folder=folder(tmp_path / "whole")))
    records = read_json_lines(tmp_path / "whole" / "log.jsonl")
    assert min(record["loss"] for record in records[1:]) < records[0]["loss"] or name in ("advrev", "advconf")
    assert ("penalty" in records[0]) == (name in WITH_PENALTY)
    # Killed while the second epoch ends, and begun again.
    stopped = Training(pixels, SETTINGS, folder=folder(tmp_path / "broken"))
    calls = []

    def killed(*given: Any) -> Any:  # noqa: ANN401
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return point(*given)

    from equiprune.audit import point
    from equiprune.training import loop

    monkeypatch.setattr(loop, "point", killed)
    with pytest.raises(KeyboardInterrupt):
        OBJECTIVES[name]()(start, cohort, stopped)
    monkeypatch.undo()
    assert len(read_json_lines(tmp_path / "broken" / "log.jsonl")) == 1
    resumed = OBJECTIVES[name]()(start, cohort, stopped)
    assert same(whole, resumed)
    assert whole.trained == Trained(method=name, settings=OBJECTIVES[name]().model_dump())
    assert own(whole) == OBJECTIVES[name]()
    whole.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model", factory=factory)
    assert again.trained == whole.trained
    assert again.design == whole.design
    test = cohort.subset("test")
    assert (predict(again, test, pixels).score == predict(whole, test, pixels).score).all()
    tuned = tune(again, cohort, Training(pixels, SETTINGS.model_copy(update={"epochs": 1})))
    assert tuned.trained == whole.trained


@pytest.mark.parametrize("name", [name for name in WITH_PENALTY if name not in ADVERSARIAL])
def test_its_penalty_falls(name: str, factory: str, lesion_data: tuple[Cohort, Pixels], tmp_path: Path) -> None:
    """From a plainly trained model on, with much weight on it, the penalty ends below where it began."""
    cohort, pixels = lesion_data
    settings = TrainingSettings(epochs=8, batch_size=72, learning_rate=2e-3, augment="none")
    start = OBJECTIVES["vanilla"]()(built(factory, cohort), cohort, Training(pixels, settings))
    strong: dict[str, dict[str, Any]] = {
        "hsic": {"weight": 200.0}, "mfd": {"alpha": 20.0}, "fairadabn": {"alpha": 20.0},
        "group_dro": {"rate": 0.1},
    }  # fmt: skip
    OBJECTIVES[name](**strong[name])(start, cohort, Training(pixels, settings, folder=tmp_path))
    penalties = [record["penalty"] for record in read_json_lines(tmp_path / "log.jsonl")]
    assert penalties[-1] < 0.9 * max(penalties[:2])


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_its_adversary_is_told_less_than_one_that_is_not_fought(
    name: str, factory: str, lesion_data: tuple[Cohort, Pixels], tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    settings = TrainingSettings(epochs=8, batch_size=72, learning_rate=2e-3, augment="none")
    weak: dict[str, Any] = {"strength": 0.0} if name == "gradient_reversal" else {"alpha": 0.0}
    guess = {}
    for kind, given in (("fought", {}), ("watched", weak)):
        training = Training(pixels, settings, folder=folder(tmp_path / kind))
        OBJECTIVES[name](**given)(built(factory, cohort), cohort, training)
        guess[kind] = -read_json_lines(tmp_path / kind / "log.jsonl")[-1]["penalty"]
    assert guess["fought"] > guess["watched"]


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_group_may_be_missing_from_a_batch_and_a_class_have_one_image(
    name: str, factory: str, lesion_data: tuple[Cohort, Pixels]
) -> None:
    cohort, pixels = lesion_data
    train = np.flatnonzero(cohort.split == "train")
    rare = train[cohort.label[train] == 2]
    few = train[cohort.group[train] == 1]
    gone = np.concatenate([rare[1:], np.setdiff1d(few, rare)[2:]])  # two images of a group are left in all of training
    kept = cohort.take(np.setdiff1d(np.arange(len(cohort)), gone))
    settings = TrainingSettings(epochs=1, batch_size=16, learning_rate=1e-3, augment="none")
    made = OBJECTIVES[name]()(built(factory, kept), kept, Training(pixels, settings))
    assert all(tensor.isfinite().all() for tensor in made.state_dict().values() if tensor.is_floating_point())


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_loss_that_diverges_names_the_step(name: str, factory: str, lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data
    broken = built(factory, cohort)
    with torch.no_grad():
        inner: Any = broken.network
        inner.fc.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"the loss is nan in epoch 1, step 1"):
        OBJECTIVES[name]()(broken, cohort, Training(pixels, SETTINGS))


def test_a_model_that_needs_the_group_says_so_and_answers_without(
    factory: str, lesion_data: tuple[Cohort, Pixels], tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    made = FairAdaBN()(built(factory, cohort), cohort, Training(pixels, SETTINGS))
    assert made.design.form.needs_group
    made.save(tmp_path)
    assert '"needs_group": true' in (tmp_path / "model.json").read_text()
    test = cohort.subset("test")
    every = [exit_logits(made, replace(test, group=np.full(len(test), g)), pixels)[0] for g in (0, 1, -1)]
    assert not torch.equal(every[0], every[1])
    torch.testing.assert_close(every[2], (every[0] + every[1]) / 2)
    mixed = replace(test, group=np.arange(len(test)) % 3 - 1)
    found = exit_logits(made, mixed, pixels)[0]
    expected = torch.stack([every[int(g)][row] for row, g in enumerate(mixed.group)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    others = replace(cohort, groups=("old", "young"))
    with pytest.raises(ModelError, match="the model was made for the groups dark, light"):
        FairAdaBN()(made, others, Training(pixels, SETTINGS))


def test_without_batch_norm_norms_by_group_are_refused(
    lesion_data: tuple[Cohort, Pixels], small_net: Classifier
) -> None:
    cohort, pixels = lesion_data
    for refused in (
        lambda: FairAdaBN().check(small_net, cohort),
        lambda: FairAdaBN()(small_net, cohort, Training(pixels)),
    ):
        with pytest.raises(ModelError, match="need batch norm, and this network has none"):
            refused()


def test_exits_stand_where_stages_end_and_their_confidence_is_chosen_on_validation(
    factory: str, lesion_data: tuple[Cohort, Pixels]
) -> None:
    cohort, pixels = lesion_data
    start = built(factory, cohort)
    assert find_stages(start) == ("stage1",)
    assert find_stages(Classifier.build(Design(backbone="resnet18", classes=("a", "b"), image_size=64))) == (
        "layer1", "layer2", "layer3",
    )  # fmt: skip
    made = MultiExit(exits=("stage1", "stage2"), confidence=0.5)(start, cohort, Training(pixels, SETTINGS))
    assert made.design.form.weights == pytest.approx((1 / 3, 2 / 3, 1.0))
    test = cohort.subset("test")
    exits = exit_logits(made, test, pixels)
    scores = predict(made, test, pixels).score
    for row in range(len(test)):
        sure = [float(logits[row].softmax(0).max()) for logits in exits]
        leaves = next((number for number in (0, 1) if sure[number] >= 0.5), 2)
        assert scores[row] == pytest.approx(exits[leaves][row].softmax(0).numpy())
    with pytest.raises(UsageError, match="multi_exit cannot follow multi_exit"):
        MultiExit()(made, cohort, Training(pixels, SETTINGS))
    with pytest.raises(UsageError, match=r"no layer 'stage9' for an exit. Did you mean 'stage"):
        MultiExit(exits=("stage9",)).check(start, cohort)
    with pytest.raises(ModelError, match="'fc' gives no maps"):
        MultiExit(exits=("fc",)).check(start, cohort)
    chosen = MultiExit()(start, cohort, Training(pixels, SETTINGS)).design.form.confidence
    assert chosen is None or 0.3 <= chosen < 1


def test_a_network_without_a_linear_head_is_refused_by_what_needs_one(lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image).mean((2, 3))  # type: ignore[no-any-return]

    model = Classifier(Pooled(), Design(backbone="simple_cnn", classes=cohort.classes, image_size=32))
    for name in ("hsic", "mfd", "advconf", "gradient_reversal", "domain_independent"):
        with pytest.raises(ModelError, match=r"the last layer of this network, 'conv' \(Conv2d\), is no linear one"):
            OBJECTIVES[name]()(model, cohort, Training(pixels, SETTINGS))


def test_a_model_of_an_unknown_objective_is_told(small_net: Classifier) -> None:
    small_net.trained = Trained(method="hscic", settings={})
    with pytest.raises(ModelError, match=r"with 'hscic', which this version does not know. Did you mean 'hsic'"):
        own(small_net)

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equiprune.audit import point
from equiprune.data.cohort import Cohort
from equiprune.data.pixels import Pixels
from equiprune.entanglement import channel_scores
from equiprune.errors import Interrupted, UsageError
from equiprune.files import read_json_lines
from equiprune.methods import SCP, FairPrune, FairPruneChannels, MagnitudeChannels, RandomChannels
from equiprune.methods.channels import by_channel
from equiprune.models.classifier import Classifier
from equiprune.models.design import Design
from equiprune.objectives import Vanilla
from equiprune.predicting import predict
from equiprune.pruning.channel_loop import prune_channels
from equiprune.pruning.channels import Channels, channel_sets
from equiprune.pruning.saliency import difference, sampled, second_order
from equiprune.training.loop import Training
from equiprune.training.settings import TrainingSettings

Lesions = tuple[Cohort, Pixels]
SETTINGS = TrainingSettings(epochs=4, batch_size=32, learning_rate=2e-3, augment="none")


def inner(model: Classifier) -> Any:  # noqa: ANN401 - any network
    return model.network


@pytest.fixture(scope="module")
def trained(lesion_data: Lesions) -> Classifier:
    cohort, pixels = lesion_data
    net = Classifier.build(Design(backbone="simple_cnn", classes=cohort.classes, image_size=32), seed=0)
    return Vanilla()(net, cohort, Training(pixels, SETTINGS))


def by_number(_model: Classifier, sets: Sequence[Channels], _iteration: int) -> dict[str, Tensor]:
    """The first channels are the lowest."""
    return {found.layer: torch.arange(found.count, dtype=torch.float64) for found in sets}


def test_a_share_of_the_first_number_of_channels_leaves_each_time(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    schedule = RandomChannels(layer="all", step=0.1, iterations=3, tune=0)
    smaller = prune_channels(trained, cohort, Training(pixels, folder=tmp_path), schedule, by_number)
    *records, ending = read_json_lines(tmp_path / "log.jsonl")
    assert [record["channels"]["conv2"] for record in records] == [64, 58, 52, 46]
    assert [record["channels"]["conv1"] for record in records] == [32, 29, 26, 23]
    assert [record["cut"].get("conv1") for record in records] == [None, [0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert ending["kept_iteration"] == 3
    assert inner(smaller).conv1.out_channels == 23
    assert torch.equal(inner(smaller).conv1.weight, inner(trained).conv1.weight[9:])
    assert records[3]["parameters"] == smaller.facts().parameters
    assert len(records[3]["scores"]["conv3"]) == 128 - 3 * 13
    figures = point(predict(smaller, cohort.subset("validation"), pixels))
    assert records[3]["f1"] == pytest.approx(figures.f1)
    assert 0 < records[0]["floor"]["eopp1"] < 0.5
    assert 0 <= records[0]["p_value"]["eopp1"] <= 1


def test_the_smaller_model_is_trained_on_at_a_tenth_of_the_rate(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    schedule = RandomChannels(layer="last", step=0.25, iterations=1, tune=2)
    smaller = prune_channels(trained, cohort, Training(pixels, SETTINGS, folder=tmp_path), schedule, by_number)
    record = read_json_lines(tmp_path / "log.jsonl")[1]
    assert [epoch["learning_rate"] for epoch in record["tuning"]] == pytest.approx([2e-4, 2e-4])
    assert not torch.equal(inner(smaller).fc2.weight, inner(trained).fc2.weight)
    assert inner(trained).conv3.out_channels == 128


def test_interrupted_in_the_second_iteration_it_ends_in_the_same_bits(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    schedule = RandomChannels(layer="all", step=0.1, iterations=3, tune=1)
    whole = prune_channels(trained, cohort, Training(pixels, SETTINGS), schedule, by_number)

    def stopping(model: Classifier, sets: Sequence[Channels], iteration: int) -> dict[str, Tensor]:
        if iteration == 2:
            raise Interrupted("stopped")
        return by_number(model, sets, iteration)

    training = Training(pixels, SETTINGS, folder=tmp_path)
    with pytest.raises(Interrupted):
        prune_channels(trained, cohort, training, schedule, stopping)
    assert len(read_json_lines(tmp_path / "log.jsonl")) == 2
    again = prune_channels(trained, cohort, training, schedule, by_number)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert again.cuts == whole.cuts
    # Killed after its last record, before the step was told complete: the same again.
    once_more = prune_channels(trained, cohort, training, schedule, by_number)
    assert torch.equal(inner(once_more).fc2.weight, inner(whole).fc2.weight)


@pytest.mark.parametrize(
    ("settings", "stopped", "iterations"),
    [
        ({"budget": 0.0, "gain": None}, "the accuracy budget was spent", 1),
        ({"gain": 2.0}, "the gap on validation did not shrink by enough", 1),
        ({"target": 1.0}, "the target gap was reached on validation", 0),
        ({"gain": None, "budget": None}, "the last iteration was done", 2),
    ],
)
def test_when_it_stops(
    lesion_data: Lesions, trained: Classifier, settings: dict[str, float | None], stopped: str, iterations: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    cohort, pixels = lesion_data
    schedule = RandomChannels(layer="all", step=0.45, iterations=2, tune=0, **settings)
    prune_channels(trained, cohort, Training(pixels, folder=tmp_path), schedule, by_number)
    *records, ending = read_json_lines(tmp_path / "log.jsonl")
    assert (ending["stopped"], len(records) - 1) == (stopped, iterations)


def test_a_layer_is_never_emptied_and_wrong_layers_are_named(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    with pytest.raises(UsageError, match=r"2 iterations of 64 would leave layer 'conv3' of 128 channels without any"):
        SCP(step=0.5, iterations=2)(trained, cohort, Training(pixels))
    with pytest.raises(UsageError, match=r"no layer 'conv33'. Did you mean 'conv3'"):
        SCP(layer="conv33")(trained, cohort, Training(pixels))


def test_scp_scores_the_training_images_of_every_group(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    """With one batch of all rows the recorded score is Eq. 1 on the features of the train split."""
    cohort, pixels = lesion_data
    method = SCP(layer="conv2", step=0.1, iterations=1, tune=0, batch=1000, keep="last", gain=None, budget=None)
    smaller = method(trained, cohort, Training(pixels, folder=tmp_path))
    first, second, _ = read_json_lines(tmp_path / "log.jsonl")
    train = cohort.subset("train")
    images = torch.from_numpy(pixels.array[pixels.rows(train.image)]).permute(0, 3, 1, 2)
    net = trained.clone().eval().network
    with torch.no_grad():
        x = (images / 255 - trained.mean) / trained.std
        features = torch.relu(net.conv2(net.pool1(net.relu1(net.conv1(x)))))  # type: ignore[operator]
    expected = channel_scores(features, train.group.tolist())
    torch.testing.assert_close(torch.tensor(first["scores"]["conv2"]), expected, rtol=1e-4, atol=1e-5)
    lowest = torch.argsort(expected)[:6].tolist()
    assert sorted(lowest) == second["cut"]["conv2"]
    assert inner(smaller).conv2.out_channels == 58


def test_the_published_score_and_other_taps_give_other_channels(
    lesion_data: Lesions, trained: Classifier, tmp_path: Path
) -> None:
    cohort, pixels = lesion_data
    scores = {}
    for number, settings in enumerate(({}, {"score": "published"}, {"tap": "conv"}, {"temperature": 0.1})):
        folder = tmp_path / str(number)
        folder.mkdir()
        method = SCP(iterations=1, tune=0, step=0.1, samples=40, batch=16, **settings)  # type: ignore[arg-type]
        method(trained, cohort, Training(pixels, folder=folder))
        scores[number] = read_json_lines(folder / "log.jsonl")[0]["scores"]["conv3"]
    assert all(scores[0] != scores[number] for number in (1, 2, 3))


def test_structured_fairprune_sums_the_papers_score_over_a_channel(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    training = Training(pixels)
    everyone = sampled(cohort.subset("train"), 10_000, 0, 0, by_group=True)
    saliency = second_order(trained, everyone, training, groups=cohort.groups, biases=False)
    score = difference({group: dict(values) for group, values in saliency.items()}, "dark", 0.4)
    found = by_channel(trained, channel_sets(trained), score)
    for name in ("conv1", "conv2", "conv3"):
        weight = f"network.{name}.weight"
        for channel in (0, 5):
            expected = sum(score[weight][channel].double().flatten().tolist())
            assert float(found[name][channel]) == pytest.approx(expected)


def test_channels_that_enter_one_sum_are_scored_together() -> None:
    net = Classifier.build(Design(backbone="resnet18", classes=("a", "b"), image_size=32))
    values = {name: value.detach().abs() for name, value in net.named_parameters()}
    last = channel_sets(net)[-1]
    found = by_channel(net, [last], values)[last.layer]
    parts = [values[f"network.{name}.weight"][7].sum() for name in last.layers]
    assert len(parts) == 3
    assert float(found[7]) == pytest.approx(float(sum(parts)), rel=1e-5)


def test_magnitude_takes_the_smallest_and_random_draws_by_seed(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    smaller = MagnitudeChannels(layer="conv3", step=0.5, iterations=1, tune=0)(trained, cohort, Training(pixels))
    norm = inner(trained).conv3.weight.detach().abs().flatten(1).sum(1)
    kept = torch.argsort(norm, stable=True)[64:].sort().values
    assert torch.equal(inner(smaller).conv3.weight, inner(trained).conv3.weight[kept])
    drawn = []
    for settings, seed in (({}, 0), ({}, 0), ({}, 1), ({"draw": 1}, 0)):
        method = RandomChannels(layer="conv3", step=0.5, iterations=1, tune=0, **settings)
        drawn.append(method(trained, cohort, Training(pixels, seed=seed)).cuts[0].channels)
    assert drawn[0] == drawn[1]
    assert drawn[0] not in drawn[2:]


def test_channels_follow_weights_and_weights_follow_channels(lesion_data: Lesions, trained: Classifier) -> None:
    cohort, pixels = lesion_data
    weights = FairPrune(ratio=0.2, step=0.1, keep="last", budget=None, samples=40)
    channels = SCP(step=0.1, iterations=1, tune=1, keep="last", budget=None, gain=None, samples=40, batch=16)
    structured = FairPruneChannels(step=0.1, iterations=1, tune=0, keep="last", budget=None, gain=None, samples=40)
    training = Training(pixels, SETTINGS)
    model = trained
    for method in (weights, channels, weights, structured):
        model = method(model, cohort, training)
        for name, kept in model.masks.items():
            weight = model.get_parameter(name)
            assert kept.shape == weight.shape
            assert not weight[~kept].any()
    assert model.facts().zeros > 0
    assert len(model.cuts) == 4  # one of the last layer, three of all

"""Every loss against a slow twin in float64, written down from its formula."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objectives.conftest import built
from torch import Tensor

from equiprune.data.loader import Batch
from equiprune.methods.group_thresholds import offsets
from equiprune.models.classifier import Classifier
from equiprune.models.reshaping import find_head
from equiprune.objectives import AdvConf, AdvRev, DomainIndependent, GradientReversal, GroupDRO
from equiprune.objectives.cells import by_group, cells
from equiprune.objectives.fairadabn import parity
from equiprune.objectives.hsic import hsic
from equiprune.objectives.mfd import mmd
from equiprune.objectives.reweighting import weights
from equiprune.training.loop import Training
from equiprune.training.losses import task_loss

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels

NAN = float("nan")


def explicit_hsic(features: Tensor, group: list[int], rows: list[int], scale: float) -> float:
    """Song et al. (2012), Eq. 5, by sums over all ordered triples and quadruples' margins, one entry at a time."""
    m = len(rows)
    if m < 4:
        return 0.0
    k = {(i, j): math.exp(-float((features[i] - features[j]).square().sum()) / (2 * scale)) for i in rows for j in rows}
    l = {(i, j): float(group[i] == group[j]) for i in rows for j in rows}  # noqa: E741 - as in the paper
    pairs = [(i, j) for i in rows for j in rows if i != j]
    trace = sum(k[i, j] * l[i, j] for i, j in pairs)
    every = sum(k[pair] for pair in pairs) * sum(l[pair] for pair in pairs)
    middle = sum(k[i, j] * l[j, q] for i in rows for j in rows for q in rows if i != j and j != q)
    return (trace + every / ((m - 1) * (m - 2)) - 2 * middle / (m - 2)) / (m * (m - 3))


def mean_distance(features: Tensor) -> float:
    n = len(features)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return sum(float((features[i] - features[j]).square().sum()) for i, j in pairs) / len(pairs)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 14), groups=st.integers(2, 3))
def test_hsic_is_the_unbiased_estimator(seed: int, n: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    features = torch.tensor(rng.normal(size=(n, 3)))
    label = torch.tensor(rng.integers(0, 2, n))
    group = torch.tensor(rng.integers(-1, groups, n))
    found = hsic(features, by_group(group, groups), cells(label, 2) * (group >= 0))
    for k in range(2):
        rows = [i for i in range(n) if label[i] == k and group[i] >= 0]
        expected = explicit_hsic(features, group.tolist(), rows, mean_distance(features))
        assert float(found[k]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_hsic_is_about_0_without_and_above_with_dependence() -> None:
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(400) % 2
    noise = torch.randn(400, 4, generator=generator)
    every = torch.ones(1, 400)
    assert abs(float(hsic(noise, by_group(group, 2), every))) < 2e-3
    assert float(hsic(noise + 2 * group[:, None], by_group(group, 2), every)) > 0.05


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 12))
def test_mmd_by_a_double_loop(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    teacher, student = torch.tensor(rng.normal(size=(n, 3))), torch.tensor(rng.normal(size=(n, 3)))
    label, group = rng.integers(0, 2, n), rng.integers(-1, 2, n)
    found = mmd(teacher, student, cells(torch.tensor(label), 2), by_group(torch.tensor(group), 2))
    scale = sum(float((s - t).square().sum()) for s in student for t in teacher) / n**2

    def kernel(x: Tensor, y: Tensor) -> float:
        return math.exp(-float((x - y).square().sum()) / (2 * scale))

    def mean(left: list[Tensor], right: list[Tensor]) -> float:
        return sum(kernel(x, y) for x in left for y in right) / (len(left) * len(right))

    for k, a in itertools.product(range(2), range(2)):
        first = [teacher[i] for i in range(n) if label[i] == k]
        second = [student[i] for i in range(n) if label[i] == k and group[i] == a]
        if not first or not second:
            assert float(found[k, a]) == 0
            continue
        expected = mean(first, first) + mean(second, second) - 2 * mean(first, second)
        assert float(found[k, a]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert float(found[k, a]) >= -1e-12


def test_two_classes_and_one_finding_have_the_same_cells() -> None:
    label = torch.tensor([0, 1, 1, 0])
    assert torch.equal(cells(label, 2), cells(label[:, None].float(), 1))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 10), groups=st.integers(2, 4))
def test_parity_by_hand_and_its_gradient(seed: int, n: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(n, 3)), requires_grad=True)
    group = rng.integers(-1, groups, n)
    probability = logits.softmax(1)
    found = parity(probability, torch.tensor(group), groups)
    means = [probability[torch.tensor(group == a)].mean(0) for a in range(groups) if (group == a).any()]
    apart = [(p - q).abs().mean().item() for p, q in itertools.combinations(means, 2)]
    assert (found).item() == pytest.approx(sum(apart) / len(apart) if apart else 0.0)
    found.backward()
    assert logits.grad is not None
    assert bool(logits.grad.any()) == ((found).item() > 0)  # the published loss, of decisions, has none


def batch_of(cohort: Cohort, pixels: Pixels, rows: int = 24, group: list[int] | None = None) -> Batch:
    from equiprune.data.loader import batches

    found: Batch = next(iter(batches(cohort.subset("train").take(np.arange(rows)), pixels, batch_size=rows)))
    return found if group is None else found._replace(group=torch.tensor(group))


def doubled(factory: str, cohort: Cohort) -> Classifier:
    return built(factory, cohort).double().eval()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_advrevs_gradients_by_hand(
    factory: str, lesion_data: tuple[Cohort, Pixels], findings: Cohort, task: str
) -> None:
    cohort = lesion_data[0] if task == "multiclass" else findings
    pixels = lesion_data[1]
    model = doubled(factory, cohort)
    batch = batch_of(cohort, pixels)
    loss: Any = AdvRev(alpha=0.7).loss(model, cohort, Training(pixels))
    loss.double()
    value = loss(model, batch)
    value.backward()
    logits = model(batch.image)
    task_value = task_loss(logits, batch.label)
    guess = torch.nn.functional.cross_entropy(loss.adversary(logits), batch.group)
    assert (value).item() == pytest.approx((task_value + guess).item())
    for name, parameter in model.named_parameters():
        g_y = torch.autograd.grad(task_value, parameter, retain_graph=True)[0].flatten()
        g_a = torch.autograd.grad(guess, parameter, retain_graph=True)[0].flatten()
        unit = g_a / g_a.norm() if g_a.norm().item() else g_a
        expected = g_y - 0.7 * g_a - (g_y @ unit) * unit
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.flatten(), expected, rtol=1e-9, atol=1e-12, msg=name)
    for parameter in loss.adversary.parameters():
        torch.testing.assert_close(parameter.grad, torch.autograd.grad(guess, parameter, retain_graph=True)[0])


def test_reversal_passes_on_and_turns_the_gradient(factory: str, lesion_data: tuple[Cohort, Pixels]) -> None:
    cohort, pixels = lesion_data
    model, batch = doubled(factory, cohort), batch_of(cohort, pixels)
    loss: Any = GradientReversal(strength=0.8).loss(model, cohort, Training(pixels))
    loss.double()
    loss.progress = 0.3
    strength = 0.8 * (2 / (1 + math.exp(-3)) - 1)
    value = loss(model, batch)
    value.backward()
    head = model.network.get_submodule(find_head(model))
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _layer, args: seen.append(args[0]))
    logits = model(batch.image)
    hook.remove()
    guess = torch.nn.functional.cross_entropy(loss.adversary(seen[0]), batch.group)
    task_value = task_loss(logits, batch.label)
    assert (value).item() == pytest.approx((task_value + guess).item(), rel=1e-9)
    inner: Any = model.network
    own, other = (torch.autograd.grad(part, inner.stem[0].weight, retain_graph=True)[0] for part in (task_value, guess))
    torch.testing.assert_close(inner.stem[0].weight.grad, own - strength * other, rtol=1e-9, atol=1e-12)


def test_confusion_leaves_the_adversary_alone_and_the_guess_the_model(
    factory: str, lesion_data: tuple[Cohort, Pixels]
) -> None:
    cohort, pixels = lesion_data
    model, batch = doubled(factory, cohort), batch_of(cohort, pixels)
    loss: Any = AdvConf(alpha=0.5).loss(model, cohort, Training(pixels))
    loss.double()
    loss(model, batch).backward()
    head = model.network.get_submodule(find_head(model))
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _layer, args: seen.append(args[0]))
    logits = model(batch.image)
    hook.remove()
    q = loss.adversary(seen[0]).softmax(1)
    confusion = -sum(math.log(1) + q[:, d].log().mean() for d in range(2)) / 2
    guess = torch.nn.functional.cross_entropy(loss.adversary(seen[0]), batch.group)
    inner: Any = model.network
    expected = torch.autograd.grad(
        task_loss(logits, batch.label) + 0.5 * confusion, inner.stem[0].weight, retain_graph=True
    )
    torch.testing.assert_close(inner.stem[0].weight.grad, expected[0], rtol=1e-9, atol=1e-12)
    for parameter in loss.adversary.parameters():
        own = torch.autograd.grad(guess, parameter, retain_graph=True)[0]
        torch.testing.assert_close(parameter.grad, own, rtol=1e-9, atol=1e-12)
    assert (loss.penalty).item() == pytest.approx((confusion).item(), rel=1e-9)


def test_each_image_is_trained_by_its_groups_block_and_asked_by_the_sum(
    factory: str, lesion_data: tuple[Cohort, Pixels]
) -> None:
    cohort, pixels = lesion_data
    from equiprune.models.reshaping import reshape

    model = doubled(factory, cohort)
    objective = DomainIndependent()
    reshape(model, objective.form(model, cohort))
    inner: Any = model.network
    torch.nn.init.normal_(inner.fc.weight)
    batch = batch_of(cohort, pixels, 6, [0, 1, -1, 1, 0, -1])
    seen: list[Tensor] = []
    hook = inner.fc.register_forward_hook(lambda _layer, _args, out: seen.append(out))
    logits = model(batch.image)
    hook.remove()
    classes = len(cohort.classes)
    torch.testing.assert_close(logits, seen[0][:, :classes] + seen[0][:, classes:])
    each = []
    for row, group in enumerate(batch.group.tolist()):
        z = logits[row] if group < 0 else seen[0][row, group * classes : (group + 1) * classes]
        each.append(-z.log_softmax(0)[batch.label[row]])
    value = objective.loss(model, cohort, Training(pixels))(model, batch)
    assert (value).item() == pytest.approx(torch.stack(each).mean().item())


@pytest.mark.parametrize("over", ["group", "class_group"])
def test_group_dro_step_by_step(factory: str, lesion_data: tuple[Cohort, Pixels], over: Any) -> None:  # noqa: ANN401
    cohort, pixels = lesion_data
    model = doubled(factory, cohort)
    loss: Any = GroupDRO(rate=0.5, over=over).loss(model, cohort, Training(pixels))
    classes = len(cohort.classes)
    keys = (
        [(k, a) for k in range(classes) for a in range(2)] if over == "class_group" else [(None, a) for a in range(2)]
    )
    q = dict.fromkeys(keys, 1 / len(keys))
    for rows in (12, 7):
        batch = batch_of(cohort, pixels, rows, ([0, 1, -1] * 5)[:rows])
        value = loss(model, batch)
        with torch.no_grad():
            each = torch.nn.functional.cross_entropy(model(batch.image), batch.label, reduction="none")
        mean = {}
        for k, a in keys:
            of = (batch.group == a) & ((batch.label == k) if k is not None else torch.ones_like(batch.group).bool())
            if of.any():
                mean[k, a] = float(each[of].mean())
                q[k, a] *= math.exp(0.5 * mean[k, a])
        q = {key: share / sum(q.values()) for key, share in q.items()}
        known = float((batch.group >= 0).double().mean())
        expected = known * sum(q[key] * mean[key] for key in mean) + float(each[batch.group < 0].sum()) / rows
        assert (value).item() == pytest.approx(expected, rel=1e-9)
        assert loss.q.tolist() == pytest.approx(list(q.values()), rel=1e-9)


def test_weights_make_every_cell_count_alike(lesion_data: tuple[Cohort, Pixels], findings: Cohort) -> None:
    train = lesion_data[0].subset("train")
    table = weights(train, "class_group", cap=1e9)
    counts = {(k, a): int(((train.label == k) & (train.group == a)).sum()) for k in range(3) for a in range(2)}
    sums = [float(table[1, k, a]) * count for (k, a), count in counts.items() if count]
    assert sums == pytest.approx([sums[0]] * len(sums))
    capped = weights(train, "class_group", cap=2.0)
    assert float(capped[1].max() / capped[1][capped[1] > 0].min()) <= 2.0 + 1e-9
    by_group_alone = weights(train, "group", cap=1e9)
    assert float(by_group_alone[1, 0, 0]) * int((train.group == 0).sum()) == pytest.approx(
        float(by_group_alone[1, 0, 1]) * int((train.group == 1).sum())
    )
    several = weights(findings.subset("train"), "class_group", cap=1e9)
    part = findings.subset("train")
    cell = [((part.label[:, 1] == value) & (part.group == a)).sum() for value in (0, 1) for a in (0, 1)]
    totals = [float(several[value, 1, a]) * cell[2 * value + a] for value in (0, 1) for a in (0, 1)]
    assert totals == pytest.approx([totals[0]] * 4)


@pytest.mark.parametrize("classes", [1, 2])
def test_thresholds_give_every_group_the_same_rate(classes: int) -> None:
    """One finding, and two classes: the true positive rate of each group becomes that of all rows."""
    rng = np.random.default_rng(0)
    n = 4000
    group = torch.tensor(rng.integers(0, 2, n))
    has = torch.tensor(rng.integers(0, 2, n))
    score = torch.tensor(rng.normal(size=n)) + 1.5 * has - 0.8 * group * has
    logits = score[:, None] if classes == 1 else torch.stack([torch.zeros(n), score], 1).double()
    label = has[:, None].double() if classes == 1 else has
    found = offsets(logits, label, group, 2, least=10)[-1]
    moved = logits + found[group]
    called = moved[:, 0] > 0 if classes == 1 else moved.argmax(1) == 1
    plain = score > 0
    rates = [float(called[(has == 1) & (group == a)].double().mean()) for a in (0, 1)]
    assert rates == pytest.approx([float(plain[has == 1].double().mean())] * 2, abs=1e-3)
    assert float(offsets(logits, label, group, 2, least=10_000)[-1].abs().max()) == 0


def test_thresholds_of_several_classes_bring_the_rates_together() -> None:
    rng = np.random.default_rng(1)
    n = 6000
    label, group = torch.tensor(rng.integers(0, 3, n)), torch.tensor(rng.integers(0, 2, n))
    logits = torch.tensor(rng.normal(size=(n, 3)))
    logits[torch.arange(n), label] += 1.0
    logits[:, 0] -= 0.8 * group

    def gap(given: Tensor) -> float:
        called = given.argmax(1)
        rate = [[float((called == k)[(label == k) & (group == a)].double().mean()) for k in range(3)] for a in (0, 1)]
        return float(np.abs(np.subtract(rate[0], rate[1])).mean())

    assert gap(logits + offsets(logits, label, group, 2, least=10)[-1][group]) < 0.2 * gap(logits)

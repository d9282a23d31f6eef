"""What features tell of the group beyond the label: against scipy's minimum and explicit sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from equiprune.data.cohort import Cohort
from equiprune.pruning.attribute_probe import RIDGE, halves, told


def drawn(n: int, channels: int, groups: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of which channel 0 tells the group and channel 1 the class; classes; groups."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(3, size=n), rng.integers(groups, size=n)
    features = rng.normal(size=(n, channels))
    features[:, 0] += 1.5 * group
    features[:, 1] += 3.0 * label
    return torch.from_numpy(features), torch.from_numpy(label), torch.from_numpy(group)


def cross_entropy(logits: np.ndarray, group: np.ndarray) -> float:
    total: float = 0.0
    for row, own in zip(logits, group, strict=True):
        total += float(np.log(np.exp(row - row.max()).sum()) + row.max() - row[own])
    return float(total / len(group))


@pytest.mark.parametrize("groups", [2, 3])
def test_it_is_what_a_slow_twin_finds(groups: int) -> None:
    features, label, group = drawn(120, 4, groups)
    half = torch.arange(120) % 2
    found = told(features, label, 3, group, groups, half)
    channel, prior, loss = np.zeros(4), 0.0, 0.0
    for fold in (0, 1):
        fit, ask = (half != fold).numpy(), (half == fold).numpy()
        f, y, a = features.numpy(), label.numpy(), group.numpy()
        mean = np.stack([f[fit & (y == k)].mean(0) for k in range(3)])
        rest = f - mean[y]
        rest = rest / np.sqrt((rest[fit] ** 2).mean(0))

        def total(flat: np.ndarray, used: np.ndarray, where: np.ndarray, y: np.ndarray = y, a: np.ndarray = a) -> float:
            many = used.shape[1]
            weight, bias = flat[: many * groups].reshape(many, groups), flat[many * groups :].reshape(3, groups)
            ridge = many / where.sum() * (weight**2).sum() + RIDGE * (bias**2).sum()
            return float(cross_entropy(used[where] @ weight + bias[y[where]], a[where]) + 0.5 * ridge)

        best = minimize(total, np.zeros(7 * groups), (rest, fit), tol=1e-10).x
        alone = minimize(total, np.zeros(3 * groups), (rest[:, :0], fit), tol=1e-10).x.reshape(3, groups)
        weight, bias = best[: 4 * groups].reshape(4, groups), best[4 * groups :].reshape(3, groups)
        own = cross_entropy(rest[ask] @ weight + bias[y[ask]], a[ask])
        prior += 0.5 * cross_entropy(alone[y[ask]], a[ask])
        loss += 0.5 * own
        for k in range(4):
            silent = rest.copy()
            silent[:, k] = 0
            channel[k] += 0.5 * (cross_entropy(silent[ask] @ weight + bias[y[ask]], a[ask]) - own)
    assert found.channel.numpy() == pytest.approx(channel, abs=1e-4)
    assert found.prior == pytest.approx(prior, abs=1e-4)
    assert found.loss == pytest.approx(loss, abs=1e-4)
    assert found.gain > 0.1
    assert int(found.channel.argmax()) == 0
    assert abs(float(found.channel[1])) < 0.1 * float(found.channel[0])


def test_what_the_label_tells_is_no_gain() -> None:
    """The group goes with the label, and features with the label alone."""
    rng = np.random.default_rng(1)
    label = rng.integers(2, size=2000)
    group = (rng.random(2000) < np.where(label == 1, 0.9, 0.1)).astype(np.int64)
    features = torch.from_numpy(rng.normal(size=(2000, 6)) + label[:, None])
    half = torch.arange(2000) % 2
    given = told(features, torch.from_numpy(label), 2, torch.from_numpy(group), 2, half)
    blind = told(features, torch.zeros(2000, dtype=torch.long), 1, torch.from_numpy(group), 2, half)
    assert blind.gain > 0.1
    assert given.gain < 0.005


def test_of_noise_it_finds_nothing() -> None:
    gains = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        features, group = torch.from_numpy(rng.normal(size=(200, 64))), torch.from_numpy(rng.integers(2, size=200))
        gains.append(told(features, torch.zeros(200, dtype=torch.long), 1, group, 2, torch.arange(200) % 2).gain)
    assert np.mean(gains) < 0.01


def test_scale_and_order_of_channels_do_not_matter_and_unknown_groups_are_left_out() -> None:
    features, label, group = drawn(300, 5, 2)
    half = torch.arange(300) // 2 % 2
    found = told(features, label, 3, group, 2, half)
    order = torch.tensor([3, 0, 4, 1, 2])
    scale = torch.tensor([1e-3, 1.0, 1e3, 7.0, 1e-6], dtype=torch.float64)
    other = told((features * scale)[:, order], label, 3, group, 2, half)
    torch.testing.assert_close(other.channel, found.channel[order], rtol=1e-3, atol=1e-6)
    more = torch.cat([features, torch.full((50, 5), 100.0, dtype=torch.float64)])
    unknown = told(
        more,
        torch.cat([label, label[:50]]),
        3,
        torch.cat([group, torch.full((50,), -1)]),
        2,
        torch.cat([half, half[:50]]),
    )
    torch.testing.assert_close(unknown.channel, found.channel)


def test_two_classes_and_one_finding_tell_the_same() -> None:
    features, label, group = drawn(400, 4, 2)
    finding = (label == 2).long()
    half = torch.arange(400) // 2 % 2
    one = told(features, finding, 2, group, 2, half)
    other = told(features, finding[:, None].float(), 1, group, 2, half)
    torch.testing.assert_close(one.channel, other.channel, rtol=1e-2, atol=1e-4)
    hidden = finding[:, None].float()
    hidden[::7] = torch.nan
    assert told(features, hidden, 1, group, 2, half).gain == pytest.approx(other.gain, abs=0.05)


def test_a_dead_channel_and_a_class_of_one_half_are_no_trouble() -> None:
    features, label, group = drawn(40, 4, 2)
    features[:, 3] = 2.5
    label[:] = 0
    label[0] = 1  # in one half alone
    found = told(features, label, 3, group, 2, torch.arange(40) % 2)
    assert found.channel.isfinite().all()
    assert float(found.channel[3].abs()) < 1e-12


def test_halves_keep_patients_together() -> None:
    unit = np.array([f"p{number // 3}" for number in range(60)])
    rows = np.arange(60)
    cohort = Cohort(Path(), rows.astype(str), rows % 2, ("a", "b"), rows % 2, ("f", "m"), "sex", unit, None, rows, "")
    half = halves(cohort, (0, 1)).numpy()
    assert all(len(set(half[unit == one])) == 1 for one in set(unit))
    assert 20 <= half.sum() <= 40
    assert set(
        halves(
            Cohort(Path(), rows.astype(str), rows % 2, ("a", "b"), rows % 2, ("f", "m"), "sex", None, None, rows, ""),
            (0,),
        ).tolist()
    ) == {0, 1}

from __future__ import annotations

import csv
import errno
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from equiprune.data import synthetic
from equiprune.data.lesion import LOOKS, Look, Skin, draw
from equiprune.data.synthetic import CLASSES, COLUMNS, SyntheticSettings, picture, population, prevalence, synthesize
from equiprune.errors import DataError, UsageError

SMALL = SyntheticSettings(images=12, size=24)


def rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_manifest_and_the_images_match(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = synthesize(tmp_path / "set", SMALL, progress=lambda done, total: told.append((done, total)))
    assert manifest == tmp_path / "set" / "manifest.csv"
    table = rows(manifest)
    assert tuple(table[0]) == COLUMNS
    images = sorted(p.relative_to(manifest.parent).as_posix() for p in (manifest.parent / "images").iterdir())
    assert images == [row["image"] for row in table]
    assert told == [(done, 12) for done in range(1, 13)]
    for row in table:
        with Image.open(manifest.parent / row["image"]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (24, 24), "RGB")
            assert np.asarray(image).std() > 5
        assert row["label"] in CLASSES[:5]
        assert row["skin_tone"] in ("light", "dark")
        assert row["sex"] in ("female", "male")
        assert 18 <= int(row["age"]) <= 90
    assert not list(tmp_path.rglob("tmp-*"))


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = tree(synthesize(tmp_path / "a", SMALL).parent)
    assert tree(synthesize(tmp_path / "b", SMALL).parent) == first
    other = tree(synthesize(tmp_path / "c", replace(SMALL, seed=1)).parent)
    assert all(other[name] != first[name] for name in first)


def test_an_image_does_not_depend_on_how_many_are_drawn_or_in_which_order() -> None:
    few, many = population(SMALL), population(replace(SMALL, images=40))
    assert many[:12] == few
    backwards = [picture(case, SMALL) for case in reversed(many[:12])][::-1]
    for one, two in zip(few, backwards, strict=True):
        assert np.array_equal(picture(one, replace(SMALL, images=40)), two)


def test_a_patient_has_one_to_four_images_and_one_of_everything_else() -> None:
    patients = defaultdict(list)
    for case in population(SyntheticSettings(images=2000)):
        patients[case.patient].append(case)
    numbers = [len(cases) for cases in patients.values()][:-1]  # the last may be cut short
    assert set(numbers) == {1, 2, 3, 4}
    same = total = 0
    for cases in patients.values():
        assert len({(c.group, c.sex, c.age, c.melanin, c.blood) for c in cases}) == 1
        same += sum(c.label == cases[0].label for c in cases[1:])
        total += len(cases) - 1
    assert 0.6 < same / total < 0.9


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_the_prevalence_is_as_stated(difficulty: float) -> None:
    settings = SyntheticSettings(images=12_000, difficulty=difficulty)
    cases = population(settings)
    groups = np.array([case.group for case in cases])
    labels = np.array([case.label for case in cases])
    assert np.mean(groups) == pytest.approx(0.3, abs=0.02)
    for group in (0, 1):
        found = np.bincount(labels[groups == group], minlength=5) / np.sum(groups == group)
        assert found == pytest.approx(prevalence(settings, group), abs=0.025)
    apart = np.abs(prevalence(settings, 0) - prevalence(settings, 1)).sum()
    assert apart == 0 if difficulty == 0 else apart > 0.2


def test_at_difficulty_zero_the_group_reaches_nothing() -> None:
    settings = replace(SMALL, difficulty=0.0)
    turned = replace(settings, shares=(0.01, 0.99))
    pairs = list(zip(population(settings), population(turned), strict=True))
    assert any(one.group != two.group for one, two in pairs)
    for one, two in pairs:
        assert replace(one, group=two.group) == two
        assert np.array_equal(picture(one, settings), picture(two, turned))
    hard = replace(settings, difficulty=0.3)
    dark = [replace(case, group=1) for case in population(hard)]
    assert all(not np.array_equal(picture(replace(c, group=0), hard), picture(c, hard)) for c in dark)


def statistics(settings: SyntheticSettings) -> tuple[np.ndarray, np.ndarray]:
    cases = population(settings)
    images = np.stack([picture(case, settings) for case in cases]).astype(np.float64)
    middle = settings.size // 4
    centre = images[:, middle:-middle, middle:-middle]
    features = np.concatenate([images.mean((1, 2)), centre.mean((1, 2)), centre.std((1, 2))], axis=1)
    ages = np.array([[case.age, case.sex == "male"] for case in cases])
    return np.concatenate([features, ages], axis=1), np.array([case.group for case in cases])


def test_groups_are_exchangeable_at_zero_and_not_at_one() -> None:
    def smallest(difficulty: float) -> float:
        # one image a patient, so that rows are independent: the first of each
        settings = SyntheticSettings(images=500, size=24, difficulty=difficulty, seed=3)
        features, groups = statistics(settings)
        patients = np.array([case.patient for case in population(settings)])
        _, first = np.unique(patients, return_index=True)
        features, groups = features[first], groups[first]
        tested = stats.permutation_test(
            (features[groups == 0], features[groups == 1]),
            lambda x, y, axis: np.abs(np.mean(x, axis=axis) - np.mean(y, axis=axis)),
            n_resamples=400,
            alternative="greater",
            axis=0,
            rng=np.random.default_rng(0),
        )
        return float(np.min(tested.pvalue) * features.shape[1])  # Bonferroni

    assert smallest(0.0) > 0.05
    assert smallest(1.0) < 0.05


def evidence(settings: SyntheticSettings, group: int, each: int = 40) -> tuple[float, float]:
    """How far the classes lie apart against their spread, and how often the nearest centroid is the right one.

    Everything but the group is held equal: the same cases, as many of each class.
    """
    many = replace(settings, images=each * 5)
    cases = [replace(case, group=group, label=i % 5) for i, case in enumerate(population(many))]
    pixels = np.stack([picture(case, many) for case in cases]).astype(np.float64)
    edge, middle = settings.size // 8, settings.size // 4
    depth = np.log1p(pixels[:, edge:-edge, edge:-edge]).reshape(len(cases), -1, 3)
    colours = np.quantile(depth, (0.02, 0.1, 0.3, 0.5), axis=1) - np.quantile(depth, 0.9, axis=1)
    rough = np.log(np.abs(np.diff(pixels[:, middle:-middle], axis=2)).mean((1, 2)))
    features = np.concatenate([*colours, rough], axis=1)
    by_class = features.reshape(each, 5, -1)  # labels go round
    centroids = by_class.mean(0)
    apart = centroids.var(0) / by_class.var(0).mean(0)
    distance = np.square((features[:, None] - centroids) / features.std(0)).sum(2)
    right = distance.argmin(1) == np.arange(len(cases)) % 5
    return float(apart.mean()), float(right.mean())


def test_the_class_is_harder_to_see_in_the_dark_group_as_difficulty_rises() -> None:
    settings = SyntheticSettings(size=24)
    dark = [evidence(replace(settings, difficulty=d), 1) for d in (0.0, 0.5, 1.0)]
    light = [evidence(replace(settings, difficulty=d), 0) for d in (0.0, 1.0)]
    assert light[0] == light[1] == dark[0]
    apart, right = zip(*dark, strict=True)
    assert 0.9 * apart[0] > apart[1] > apart[2] / 0.9
    assert right[0] > right[2] + 0.05
    assert right[0] > 0.5  # chance is 0.2


def test_a_begun_set_is_finished_and_a_finished_one_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tree(synthesize(tmp_path / "whole", SMALL).parent)
    save, out = synthetic._save, tmp_path / "set"

    def stops(folder: Path, case: synthetic.Case, settings: SyntheticSettings) -> None:
        if case.number == 5:
            raise KeyboardInterrupt
        save(folder, case, settings)

    monkeypatch.setattr(synthetic, "_save", stops)
    with pytest.raises(KeyboardInterrupt):
        synthesize(out, SMALL)
    assert not (out / "manifest.csv").exists()
    monkeypatch.undo()
    assert tree(synthesize(out, SMALL).parent) == whole

    (out / "images" / "000003.jpg").unlink()
    drawn: list[int] = []
    assert tree(synthesize(out, SMALL, progress=lambda done, _: drawn.append(done)).parent) == whole
    assert drawn == [12]
    synthesize(out, SMALL, progress=lambda done, _: drawn.append(done))
    assert drawn == [12]


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_image: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(DataError, match="disk is full"):
            synthesize(tmp_path / "set", SMALL)
    assert list(tree(tmp_path / "set")) == ["synthetic.json"]
    assert len(tree(synthesize(tmp_path / "set", SMALL).parent)) == 14


def test_foreign_folders_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        synthesize(tmp_path, SMALL)
    (tmp_path / "synthetic.json").write_text("not json")
    with pytest.raises(UsageError, match="other settings"):
        synthesize(tmp_path, SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "synthetic.json"]
    with pytest.raises(UsageError, match="is a file"):
        synthesize(tmp_path / "notes.txt", SMALL)
    out = synthesize(tmp_path / "set", SMALL).parent
    before = tree(out)
    with pytest.raises(UsageError, match="other settings"):
        synthesize(out, replace(SMALL, difficulty=0.1))
    assert tree(out) == before
    stamp = json.loads((out / "synthetic.json").read_text())
    assert stamp["images"] == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 0),
        ("size", 8),
        ("classes", 1),
        ("classes", 7),
        ("difficulty", -0.1),
        ("difficulty", float("nan")),
        ("seed", -1),
        ("shares", (1.0, 0.0)),
        ("shares", (0.5, 0.4)),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        SyntheticSettings(images=0, size=1, difficulty=3)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("size", [16, 33, 128])
@pytest.mark.parametrize("name", CLASSES)
def test_every_look_is_drawn_at_every_size(name: str, size: int) -> None:
    image = draw(LOOKS[name], Skin(0.2, 0.5), size, np.random.default_rng(0))
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.std() > 5


def test_every_trait_is_seen() -> None:
    plain = Look(*[0.3] * len(Look._fields))
    before = draw(plain, Skin(0.1, 0.3), 48, np.random.default_rng(1)).astype(float)
    for trait in Look._fields:
        after = draw(plain._replace(**{trait: 0.9}), Skin(0.1, 0.3), 48, np.random.default_rng(1))
        assert np.abs(after - before).max() > 15, trait


def test_darker_skin_is_darker_and_less_contrast_is_less() -> None:
    def shown(skin: Skin) -> tuple[float, float]:
        image = draw(LOOKS["nevus"], skin, 48, np.random.default_rng(2)).astype(float)
        return float(np.median(image)), float(image.std())

    pale, dark = shown(Skin(0.0, 0.3)), shown(Skin(0.8, 0.3))
    assert dark[0] < pale[0] - 40
    assert dark[1] < pale[1]
    assert shown(Skin(0.0, 0.3, contrast=0.3))[1] < pale[1]

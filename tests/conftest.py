from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from equiprune.data.cohort import Cohort
    from equiprune.data.pixels import Pixels
    from equiprune.models.classifier import Classifier

# One thread is faster than two on small tensors, and makes runs bit-equal.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


# Files of a few long tests. One worker does a whole file, so these begin first: at the end one would be waited for.
LONG = (
    "test_recipes",
    "test_torchrun",
    "test_sweep",
    "test_sweep_postgres",
    "test_examples",
    "test_exporting",
    "test_run",
    "test_sweep_trouble",
    "test_sweep_trials",
    "test_sinks",
    "test_browser",
    "test_full_disk",
    "test_paired",
    "test_channels",
    "test_pairs",
    "test_processes",
    "test_estimators",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of all others stays."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real research images beside the project; never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the research data sets that may not be shipped with the project are not here")
    return folder


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a small synthetic set: 240 images of 32 px, two skin tones."""
    from equiprune.data.synthetic import SyntheticSettings, synthesize

    return synthesize(tmp_path_factory.mktemp("lesions") / "set", SyntheticSettings(images=240, size=32, classes=3))


@pytest.fixture(scope="session")
def lesion_data(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Pixels]:
    """The synthetic set as a cohort with splits, and its pixels."""
    from equiprune.data.manifest import read_manifest
    from equiprune.data.pixels import open_pixels
    from equiprune.data.settings import DataSettings
    from equiprune.data.splits import draw_splits

    settings = DataSettings(
        manifest=str(lesions), label="label", attribute=("skin_tone",), unit="patient_id", image_size=32
    )
    cohort, pixels = open_pixels(read_manifest(settings), settings, tmp_path_factory.mktemp("cache"))
    return cohort.with_split(draw_splits(cohort, settings.fractions, seed=0)), pixels


@pytest.fixture
def no_detectable_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest gap that a test set would show takes half of an audit's time: for tests that do not look at it."""
    from equiprune import records

    monkeypatch.setattr(records.Sheet, "_detectable", lambda *_given: float("nan"))


@pytest.fixture
def small_net(lesion_data: tuple[Cohort, Pixels]) -> Classifier:
    """An untrained SimpleCNN for the synthetic set; the same weights every time."""
    from equiprune.models.classifier import Classifier
    from equiprune.models.design import Design

    cohort, _ = lesion_data
    return Classifier.build(Design(backbone="simple_cnn", classes=cohort.classes, image_size=32), seed=0)

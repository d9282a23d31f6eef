"""The study beside a sweep, and those who join by its storage alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from equiprune.errors import UsageError
from equiprune.grid import Grid
from equiprune.study import folder_of
from equiprune.sweep import Sweep
from tests.test_sweep_trials import written


@pytest.fixture
def begun(lesions: Path, tmp_path: Path) -> tuple[Sweep, Grid]:
    sweep, grid = Sweep(tmp_path / "sweep"), Grid.read(written(tmp_path, lesions), {})
    sweep.begin(grid, {}, 1)
    return sweep, grid


def test_joining_by_a_storage(begun: tuple[Sweep, Grid], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/many.db"
    with pytest.raises(UsageError, match="holds no sweeps") as caught:
        folder_of(url)
    assert "Begin the sweep first" in str(caught.value)
    own = Sweep(begun[0].path, url)
    own.study()
    assert folder_of(url) == own.path
    own.path.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="not to be seen from here"):
        folder_of(url)
    moved = Sweep(tmp_path / "moved", url)
    moved.study()
    assert folder_of(url) == moved.path
    other = Sweep(tmp_path / "other", url)
    other.begin(begun[1], {}, 1)
    other.study()
    with pytest.raises(UsageError, match="holds 2 sweeps") as caught:
        folder_of(url)
    assert "--join DIR --storage URL" in str(caught.value)
    with pytest.raises(UsageError, match="the storage cannot be reached"):
        folder_of("postgresql+psycopg2://nobody:secret@127.0.0.1:1/none")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import optuna; optuna.storages.run_grpc_proxy_server("
        f"optuna.storages.RDBStorage('sqlite:///{tmp_path}/behind.db'), host='127.0.0.1', port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    yield f"grpc://127.0.0.1:{port}"
    server.kill()
    server.wait()


def test_a_study_behind_optunas_proxy(begun: tuple[Sweep, Grid], proxy: str, tmp_path: Path) -> None:
    own = Sweep(begun[0].path, proxy)
    assert own.study().get_trials() == []
    assert (tmp_path / "behind.db").is_file()
    assert folder_of(proxy) == own.path


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.study.PATIENCE", 0.2)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:1: the storage cannot be reached"):
        folder_of("grpc://127.0.0.1:1")
    with pytest.raises(UsageError, match="the storage cannot be reached"):
        folder_of("grpc://nowhere")

"""Two workers of a sweep share one study in a real PostgreSQL, which the test starts."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from equiprune.grid import Grid
from equiprune.sweep import Sweep
from tests.test_sweep import recipe

USER = "postgres"


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return None if elsewhere is None else Path(elsewhere).parent


def _as_user(*command: str | Path) -> list[str]:
    """The server refuses to be run by root."""
    root = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    return [*root, *map(str, command)]


@pytest.fixture
def server() -> Iterator[str]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed here")
    folder = Path("/tmp") / f"equiprune-postgres-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        subprocess.run(
            _as_user(programs / "initdb", "--pgdata", folder / "data", "--auth", "trust", "--username", "sweep"),
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
        control = (programs / "pg_ctl", "--pgdata", folder / "data", "--wait", "--log", folder / "log")
        subprocess.run(_as_user(*control, "--options", options, "start"), check=True, capture_output=True, cwd="/")
        try:
            yield f"postgresql+psycopg2://sweep@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(_as_user(*control, "--mode", "immediate", "stop"), check=True, capture_output=True, cwd="/")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
def test_two_workers_share_one_study(server: str, lesions: Path, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", server)
    sweep.begin(Grid.read(recipe(tmp_path, lesions), {}), {})
    command = [sys.executable, "-m", "equiprune", "sweep", "--join", str(sweep.path), "--storage", server]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    names = [trial.user_attrs["point"] for trial in sweep.study().get_trials()]
    assert sorted(names) == [folder.name for folder in sweep.points()]
    assert all(folder.result.is_file() for folder in sweep.points())
    assert not (sweep.path / "study.db").exists()

"""The Slurm script, with Slurm's own programs replaced by ones that write down how they were called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "sweep.sbatch"


@pytest.mark.parametrize(("task", "code", "called"), [
    ("3", 0, ["srun equiprune sweep --join {out}"]),
    ("0", 0, ["srun equiprune sweep r.toml --out {out}"]),
    ("0", 3, ["srun equiprune sweep r.toml --out {out}"]),
    ("3", 6, ["srun equiprune sweep --join {out}", "scontrol requeue 77_3"]),
])  # fmt: skip
def test_the_first_task_begins_the_others_join_and_a_stopped_one_is_queued_again(
    tmp_path: Path, task: str, code: int, called: list[str]
) -> None:
    for name, ending in (("srun", code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\nexit {ending}\n')
        program.chmod(0o755)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_JOB_ID": "77"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", SCRIPT, "r.toml", tmp_path / "sweep"], env=environment)
    assert done.returncode == code
    assert (tmp_path / "calls").read_text().splitlines() == [line.format(out=tmp_path / "sweep") for line in called]

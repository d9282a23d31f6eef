"""Seconds and peak memory of converting and checking a set as large as CheXpert, beside pandas reading the table.

The claim: a manifest of 223,414 rows is read and checked (11 findings, sex, patient, every image's path) in
under 5 seconds and 500 MB. The tables are drawn here: 14 findings in CheXpert's spelling, one image a study.

The images are empty files that are made first, one a folder as in CheXpert, since each path is looked up
on disk. With --no-images none is made: then rows are kept although their image is missing.

Run: python benchmarks/manifest.py [--rows 223414] [--no-images]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 223_414
HELD_OUT = 234
PER_PATIENT = 3.45
SETTINGS = "settings.json"


def draw(folder: Path, rows: int, *, images: bool) -> Path:
    """The tables of CheXpert, drawn, and with them the folders of its images; returns the folder."""
    from equiprune.data.sources.radiology import CHEXPERT_FINDINGS

    rng = np.random.default_rng(0)
    raw = folder / "CheXpert-v1.0-small"
    raw.mkdir()
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]
    for part, many, first in (("train", rows - HELD_OUT, 1), ("valid", HELD_OUT, 64_541)):
        patient = first + np.sort(rng.integers(0, max(1, int(many / PER_PATIENT)), many))
        sex = np.array(["Male", "Female"])[patient % 2]
        age = rng.integers(18, 90, many)
        findings = rng.choice(["1.0", "0.0", "-1.0", ""], (many, len(CHEXPERT_FINDINGS)), p=[0.15, 0.1, 0.05, 0.7])
        paths = [f"{part}/patient{one:05}/study{place}/view1_frontal.jpg" for place, one in enumerate(patient.tolist())]
        with (raw / f"{part}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            for path, *row in zip(paths, sex.tolist(), age.tolist(), findings.tolist(), strict=True):
                writer.writerow([f"{raw.name}/{path}", *row[:2], "Frontal", "AP", *row[2]])
        for path in paths if images else ():
            (raw / path).parent.mkdir(parents=True)
            (raw / path).touch()
    return raw


def measure(job: str, folder: Path) -> dict[str, Any]:
    """One job in this process: its seconds, and its peak memory with what the imports take."""
    raw = folder / "CheXpert-v1.0-small"
    if job == "convert":
        from equiprune.data.sources import SOURCES, Wishes, convert_source

        start = time.perf_counter()
        done = convert_source(SOURCES["chexpert"], raw, raw / "m.csv", Wishes(keep_missing=True))
        seconds, rows = time.perf_counter() - start, done.rows
        (folder / SETTINGS).write_text(done.settings.model_dump_json(), encoding="utf-8")
    elif job == "read and check":
        from equiprune.data.manifest import read_manifest
        from equiprune.data.settings import DataSettings

        settings = DataSettings.model_validate_json((folder / SETTINGS).read_text(encoding="utf-8"))
        start = time.perf_counter()
        rows = len(read_manifest(settings))
        seconds = time.perf_counter() - start
    else:
        import pandas as pd

        start = time.perf_counter()
        rows = len(pd.read_csv(raw / "m.csv"))
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows": rows, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Prints the table, or one job's figures as JSON where `--job` asks for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--no-images", action="store_true")
    parser.add_argument("--job")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.job:
        print(json.dumps(measure(given.job, given.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        draw(Path(folder), given.rows, images=not given.no_images)
        made = "no image files" if given.no_images else "an empty file for each image, in a folder of its own"
        print(f"{platform.machine()}, Python {platform.python_version()}; {given.rows:,} rows, {made}")
        print(f"(drawn in {time.perf_counter() - start:.0f} s)")
        print(f"{'':20} {'seconds':>8} {'peak MiB':>9} {'rows':>9}")
        for job in ("convert", "read and check", "pandas.read_csv"):
            found = _apart(job, folder)
            print(f"{job:20} {found['seconds']:8.1f} {found['peak']:9.0f} {found['rows']:9,}")


def _apart(job: str, folder: str) -> dict[str, Any]:
    """The job in a process of its own, so that its peak is its own."""
    command = [sys.executable, __file__, "--job", job, "--folder", folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()

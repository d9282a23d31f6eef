from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread is faster than two on small tensors, and makes runs bit-equal.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real research images beside the project; never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the research data sets that may not be shipped with the project are not here")
    return folder

"""What several points of a sweep have in common while weights leave: the way to a larger share passes all smaller ones.

FairPrune to 35 % in steps of 5 % is, up to there, FairPrune to 10 %. So the one that goes further leaves its iterations
for the others, and points that differ in nothing but β share the second derivative of the model they begin with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn

from equiprune.files import read_json_lines, write_text
from equiprune.models.storage import write_tensors
from equiprune.pruning.saliency import NAME as SALIENCY
from equiprune.training.log import NAME as LOG

LEFT = "left.safetensors"
STOPPING = frozenset({"ratio", "target", "budget", "keep", "gap"})  # settings that say how far, not which way


def track_key(model: nn.Module, settings: Mapping[str, Any], seed: int) -> str:
    """A name for the way weights leave a model: by everything but when it stops.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> one, other = ({"beta": 0.2, "ratio": ratio} for ratio in (0.1, 0.3))
        >>> track_key(net, one, 0) == track_key(net, other, 0)
        True
    """
    found = hashlib.sha256()
    way = {name: value for name, value in settings.items() if name not in STOPPING}
    found.update(json.dumps([way, seed], sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return found.hexdigest()


class Track:
    """The iterations that others have left under a name.

    Args:
        shared: the folder that the points share.
        key: see `track_key`.
    """

    def __init__(self, shared: Path, key: str) -> None:
        self.path = shared / key

    def taken(self, folder: Path, file: str, upto: int) -> None:
        """Puts the iterations that are there, up to one, into a step's folder as if it had been interrupted after them.

        Args:
            folder: of the step; nothing is done where it has a log already.
            file: what its record of when each weight left is called.
            upto: the last iteration that is on the way.
        """
        records = read_json_lines(self.path / LOG)
        if (folder / LOG).is_file() or not records:
            return
        with self._lock():
            left = load_file(self.path / LEFT)
            if (self.path / SALIENCY).is_file():
                shutil.copyfile(self.path / SALIENCY, folder / SALIENCY)
        for values in left.values():
            values[values > upto] = 0
        write_tensors(folder / file, left)
        _write(folder / LOG, records[: upto + 1])

    def left(self, folder: Path, left: Mapping[str, Tensor], records: list[dict[str, Any]], upto: int) -> None:
        """Leaves iterations for others, where they go further than what is there."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if len(records[: upto + 1]) <= len(read_json_lines(self.path / LOG)):
                return
            kept = {name: values.clone() for name, values in left.items()}
            for values in kept.values():
                values[values > upto] = 0
            write_tensors(self.path / LEFT, kept)
            if (folder / SALIENCY).is_file():
                shutil.copyfile(folder / SALIENCY, self.path / SALIENCY)
            _write(self.path / LOG, records[: upto + 1])  # last: with it the rest is there

    def _lock(self) -> FileLock:
        return FileLock(self.path.with_suffix(".lock"))


def once(
    shared: Path | None, key: str, work: Callable[[], dict[str, dict[str, Tensor]]]
) -> dict[str, dict[str, Tensor]]:
    """What `work` gives, computed by the first who asks and read by the others.

    Args:
        shared: the folder that the points share; None computes.
        key: a name for everything it depends on.
        work: gives tensors by group and parameter.
    """
    if shared is None:
        return work()
    path = shared / f"{key}.safetensors"
    shared.mkdir(parents=True, exist_ok=True)
    with FileLock(shared / f"{key}.lock"):
        if not path.is_file():
            found = work()
            write_tensors(
                path, {f"{group}\n{name}": value for group, own in found.items() for name, value in own.items()}
            )
            return found
    read: dict[str, dict[str, Tensor]] = {}
    for name, value in load_file(path).items():
        group, _, parameter = name.partition("\n")
        read.setdefault(group, {})[parameter] = value
    return read


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))

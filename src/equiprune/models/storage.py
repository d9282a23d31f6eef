"""A classifier on disk: `model.safetensors` and, written last, `model.json`. No pickle.

model.safetensors   parameters and buffers by name; "mask:NAME" holds the mask of NAME, a bit a weight
model.json          design, counts of kept weights, channels cut, SHA-256 of model.safetensors, versions
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from equiprune import files
from equiprune.errors import ModelError, Problem
from equiprune.models.cuts import Cut
from equiprune.models.design import Design, Trained

WEIGHTS, DOCUMENT = "model.safetensors", "model.json"
MASK = "mask:"


class Kept(BaseModel):
    """How many of a parameter's weights are not held at zero."""

    model_config = ConfigDict(frozen=True)

    kept: int
    total: int


class Document(BaseModel):
    """What `model.json` says."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    design: Design
    masks: dict[str, Kept]
    cuts: tuple[Cut, ...] = ()
    trained: Trained | None = None
    needs_group: bool = False
    sha256: str
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a folder holds: the design, tensors by name, masks (True = kept) by parameter name, cuts, the objective."""

    design: Design
    tensors: dict[str, Tensor]
    masks: dict[str, Tensor]
    cuts: tuple[Cut, ...] = ()
    trained: Trained | None = None


def pair(path: Path) -> tuple[Path, Path]:
    """The file of weights and the document: of a folder, or of a file of weights with the document beside it.

    Example:
        >>> [file.name for file in pair(Path("fair.safetensors"))]
        ['fair.safetensors', 'fair.json']
    """
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".json")
    return path / WEIGHTS, path / DOCUMENT


def write(path: Path, saved: Saved) -> list[Path]:
    """Writes both files, each whole or not at all, and returns them.

    Args:
        path: a folder, or a file that ends in `.safetensors`; see `pair`.
        saved: what to write.

    Where an older model stands in the folder and the write is interrupted between the files, the
    hashes disagree and `read` says so.

    Raises:
        DataError: the disk is full.
        UsageError: the folder cannot be written to.
    """
    tensors = dict(saved.tensors)
    for name, kept in saved.masks.items():
        tensors[MASK + name] = torch.from_numpy(np.packbits(kept.cpu().numpy().ravel()))
    weights, place = pair(path)
    write_tensors(weights, tensors)
    document = Document(
        design=saved.design,
        masks={name: Kept(kept=int(kept.sum()), total=kept.numel()) for name, kept in saved.masks.items()},
        cuts=saved.cuts,
        trained=saved.trained,
        needs_group=saved.design.form.needs_group,
        sha256=files.sha256(weights),
        versions={"equiprune": version("equiprune"), "torch": torch.__version__},
    )
    files.write_json(place, document.model_dump(mode="json", by_alias=True))
    return [weights, place]


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory, as tied weights do.
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        own[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return own


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all.

    Raises:
        DataError: the disk is full.
        UsageError: the folder cannot be written to.
    """
    with files.replacing(path) as part:
        try:
            save_file(_own_memory(tensors), part, metadata=None if metadata is None else dict(metadata))
        except SafetensorError as error:
            # The library tells the system's error in its text alone.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error)) from error


def read(folder: Path) -> Saved:
    """Reads both files (see `pair`) and checks that they belong together.

    Raises:
        ModelError: a file is missing, damaged, or not the one that was written.
    """
    path, place = pair(folder)
    document = _document(place)
    if not path.is_file():
        raise ModelError(Problem(f"is missing, though {place.name} is there", file=str(path)))
    if files.sha256(path) != document.sha256:
        what = f"is not the file that {place.name} was written with: changed, damaged, or an interrupted write"
        raise ModelError(Problem(what, file=str(path), hint="Restore it, or make the model again"))
    tensors = read_safetensors(path)
    packed = {name.removeprefix(MASK): tensors.pop(name) for name in list(tensors) if name.startswith(MASK)}
    problems = _mask_problems(document, tensors, packed, str(path))
    if problems:
        raise ModelError(problems)
    masks = {name: _unpacked(bits, tensors[name]) for name, bits in packed.items()}
    return Saved(document.design, tensors, masks, document.cuts, document.trained)


def _document(path: Path) -> Document:
    if not path.is_file():
        what = "there is no such file, so this folder holds no finished model"
        raise ModelError(Problem(what, file=str(path)))
    try:
        return Document.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(
            Problem(details["msg"], file=str(path), column=".".join(map(str, details["loc"])) or None)
            for details in error.errors()
        ) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Raises:
        ModelError: it is not a whole safetensors file.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(Problem(f"is not a whole safetensors file ({error})", file=str(path))) from error


def _mask_problems(
    document: Document, tensors: Mapping[str, Tensor], packed: Mapping[str, Tensor], file: str
) -> list[Problem]:
    if set(packed) != set(document.masks):
        named = ", ".join(sorted(set(packed) ^ set(document.masks)))
        return [Problem(f"and {DOCUMENT} do not hold the same masks: {named}", file=file)]
    found = []
    for name, bits in packed.items():
        told = document.masks[name]
        if name not in tensors:
            found.append(Problem(f"holds a mask of {name!r}, which is no parameter", file=file))
        elif told.total != tensors[name].numel() or bits.shape != ((told.total + 7) // 8,):
            found.append(Problem(f"holds a mask of {name!r} of the wrong size", file=file))
        elif int(_unpacked(bits, tensors[name]).sum()) != told.kept:
            found.append(Problem(f"mask of {name!r} does not keep the {told.kept} weights told", file=file))
    return found


def _unpacked(bits: Tensor, like: Tensor) -> Tensor:
    flat = np.unpackbits(bits.numpy(), count=like.numel()).view(np.bool_)
    return torch.from_numpy(flat.reshape(tuple(like.shape)))

"""The points of a sweep: a recipe in which lists stand for several values."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from equiprune.errors import Problem, UsageError
from equiprune.methods import METHODS
from equiprune.recipe import ModelSettings, Recipe
from equiprune.training.settings import TrainingSettings

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Axis:
    """A setting with several values.

    Args:
        name: as people see it: `seed`, `model.backbone`, `training.epochs`, or `2.beta` for the second step.
        path: keys and places in the raw recipe.
        values: in the order written, none twice.
    """

    name: str
    path: tuple[str | int, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Grid:
    """A recipe with axes.

    Args:
        where: the file, for messages.
        folder: what paths in the recipe are relative to.
        raw: the recipe as it was read.
        axes: in the order of the recipe.

    Example:
        >>> raw = {"data": {"manifest": "m.csv", "label": "dx", "attribute": "sex"},
        ...        "step": [{"method": "vanilla"}, {"method": "fairprune", "beta": [0.2, 0.33]}]}
        >>> grid = Grid.of(raw, "r.toml", Path())
        >>> [axis.name for axis in grid.axes], len(list(grid.points()))
        (['2.beta'], 2)
    """

    where: str
    folder: Path
    raw: Mapping[str, Any]
    axes: tuple[Axis, ...]

    @classmethod
    def read(cls, path: Path, data: Mapping[str, Any]) -> Grid:
        """Reads a TOML recipe; `data` stands instead of what it says of the data.

        Raises:
            UsageError: see `of`; or the file is no TOML.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(Problem("there is no such file", file=str(path))) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(Problem(f"not a readable TOML file: {error}", file=str(path))) from None
        if data and isinstance(raw.get("data"), dict):
            raw["data"] = {**raw["data"], **data}
        return cls.of(raw, str(path), path.parent)

    @classmethod
    def of(cls, raw: Mapping[str, Any], where: str, folder: Path) -> Grid:
        """Finds the axes and checks every value of each.

        Raises:
            UsageError: a value does not fit, or stands twice on its axis; all of them at once.
        """
        axes = tuple(_axes(raw))
        twice = [axis for axis in axes if len({json.dumps(value) for value in axis.values}) < len(axis.values)]
        problems = [Problem("a value stands twice", file=where, column=axis.name) for axis in twice]
        empty = [Problem("a list without a value", file=where, column=axis.name) for axis in axes if not axis.values]
        if problems or empty:
            raise UsageError([*problems, *empty])
        grid = cls(where, folder.absolute(), raw, axes)  # so that all who work on a sweep name its files alike
        first = {axis.name: axis.values[0] for axis in axes}
        found: dict[Problem, None] = {}
        for axis in axes or (Axis("", (), ()),):  # each value once, beside the first of all others
            for value in axis.values or (None,):
                try:
                    grid.recipe({**first, axis.name: value} if axis.name else first)
                except UsageError as error:
                    found |= dict.fromkeys(error.problems)
        if found:
            raise UsageError(found)
        return grid

    def points(self) -> Iterator[dict[str, Any]]:
        """The value of every axis, for all combinations; the last axis turns first."""
        for values in product(*(axis.values for axis in self.axes)):
            yield dict(zip((axis.name for axis in self.axes), values, strict=True))

    def recipe(self, choice: Mapping[str, Any]) -> Recipe:
        """The recipe of one point.

        Raises:
            UsageError: see `Recipe.parse`.
        """
        raw = copy.deepcopy(dict(self.raw))
        for axis in self.axes:
            place: Any = raw
            for key in axis.path[:-1]:
                place = place[key]
            place[axis.path[-1]] = choice[axis.name]
        return Recipe.parse(raw, self.where, folder=self.folder)

    def sha256(self) -> str:
        """Of the recipe with its lists."""
        return digest(self.raw)


def digest(value: object) -> str:
    """A name for plain values: the SHA-256 of their JSON.

    Example:
        >>> digest({"b": 2, "a": 1}) == digest({"a": 1, "b": 2})
        True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _axes(raw: Mapping[str, Any]) -> Iterator[Axis]:
    if isinstance(raw.get("seed"), list):
        yield Axis("seed", ("seed",), tuple(raw["seed"]))
    yield from _of_section("model", raw.get("model"), ("model",), ModelSettings.model_fields)
    yield from _of_section("training", raw.get("training"), ("training",), TrainingSettings.model_fields)
    steps = raw.get("step")
    for place, step in enumerate(steps if isinstance(steps, list) else ()):
        method = step.get("method") if isinstance(step, Mapping) else None
        own: Mapping[str, FieldInfo] = (
            METHODS[method].model_fields if isinstance(method, str) and method in METHODS else {}
        )
        yield from _of_section(str(place + 1), step, ("step", place), {**TrainingSettings.model_fields, **own})


def _of_section(
    name: str, section: object, path: tuple[str | int, ...], fields: Mapping[str, FieldInfo]
) -> Iterator[Axis]:
    for key, value in section.items() if isinstance(section, Mapping) else ():
        if key in fields and isinstance(value, list) and _is_axis(fields[key], value):
            yield Axis(f"{name}.{key}", (*path, key), tuple(value))


def _is_axis(field: FieldInfo, value: Sequence[object]) -> bool:
    """Whether a list stands for several values: where the setting is itself a list, one of lists does."""
    listed = any(get_origin(part) is tuple for part in (field.annotation, *get_args(field.annotation)))
    return not listed or (bool(value) and all(isinstance(one, list) for one in value))

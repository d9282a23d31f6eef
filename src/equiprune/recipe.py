"""The recipe: data, model and a list of methods, as a checked record read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from equiprune.data.settings import DataSettings
from equiprune.errors import Problem, UsageError, nearest
from equiprune.methods import METHODS, Method
from equiprune.objectives import AFTER_TRAINING, OBJECTIVES
from equiprune.published import TABLES
from equiprune.sections import checked, unknown_key
from equiprune.training.settings import TrainingSettings

FROM = "from"
SMOKE = "this is a smoke run on synthetic images: its figures mean nothing"


class ModelSettings(BaseModel):
    """The `[model]` section: which network, and which weights it starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = Field("resnet18", description="vgg11 vgg11_bn resnet18 resnet50 simple_cnn, or my_file.py:factory.")
    weights: str | None = Field(
        None, description="A weights file, a run, or a torchvision weights name such as IMAGENET1K_V1."
    )
    trained: bool = Field(
        False, description="The weights are a finished classifier for these classes: it is the baseline."
    )


class AuditSettings(BaseModel):
    """The `[audit]` section: how predictions are judged, in the loops and at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: str | None = Field(
        None,
        description="Findings or two classes: youden or sensitivity=0.9, chosen on validation, or a number; by default "
        "youden for findings, and the most probable class.",
    )

    @field_validator("threshold", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) else value


class Step(BaseModel):
    """One method of a recipe, the training settings that hold for it alone, and the step it starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: Method
    training: TrainingSettings
    start: int = Field(description="Number of the step whose model it gets; 0 is the model of the recipe.")


class Recipe(BaseModel):
    """Everything a run does, in order.

    Example:
        >>> recipe = Recipe.parse({
        ...     "data": {"manifest": "m.csv", "label": "dx", "attribute": "sex"},
        ...     "step": [{"method": "vanilla", "epochs": 3}, {"method": "fairprune", "beta": 0.2}],
        ... }, "recipe.toml")
        >>> recipe.step[0].training.epochs, recipe.step[1].method.beta
        (3, 0.2)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    data: DataSettings
    model: ModelSettings
    step: tuple[Step, ...]
    audit: AuditSettings = AuditSettings()
    published: str | None = Field(None, description="A published table that the report sets the result beside.")
    smoke: bool | None = Field(None, description="Synthetic images and small settings: the figures mean nothing.")

    @classmethod
    def read(cls, path: Path, data: Mapping[str, Any] = MappingProxyType({})) -> Self:
        """Reads a TOML recipe; paths in it are relative to its folder.

        Args:
            path: the file.
            data: what is to stand in its `[data]` section instead.

        Raises:
            UsageError: with every wrong key and value, what is allowed and the nearest spelling.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(Problem("there is no such file", file=str(path))) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(Problem(f"not a readable TOML file: {error}", file=str(path))) from None
        if data:
            own = raw.get("data", {})
            # One column of classes stands for columns of findings, and the other way round.
            dropped = {"label", "labels"} if {"label", "labels"} & data.keys() else set()
            raw["data"] = {**{key: value for key, value in own.items() if key not in dropped}, **data}
        return cls.parse(raw, str(path), folder=path.parent)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str, folder: Path = Path()) -> Self:
        """Checks a recipe given as nested dicts; `where` is what messages call it."""
        problems: list[Problem] = []
        allowed = ("seed", "published", "smoke", "data", "model", "training", "audit", "step")
        problems += [unknown_key(key, allowed, where) for key in raw if key not in allowed]
        problems += _misfits(raw, where)
        data = checked(DataSettings, raw.get("data"), f"{where} [data]", problems)
        model = checked(ModelSettings, raw.get("model", {}), f"{where} [model]", problems)
        audit = checked(AuditSettings, raw.get("audit", {}), f"{where} [audit]", problems)
        shared = checked(TrainingSettings, raw.get("training", {}), f"{where} [training]", problems)
        steps = _steps(raw.get("step"), shared or TrainingSettings(), where, problems)
        if model is not None and not (model.trained or problems):
            problems += _untrained(steps, where)
        if model is not None and model.trained and model.weights is None:
            problems.append(Problem("trained = true needs weights", file=f"{where} [model]"))
        if problems or data is None or model is None or audit is None:
            raise UsageError(problems)
        data = data.model_copy(update={"manifest": str(folder / data.manifest)})
        return cls(
            seed=raw.get("seed", 0),
            data=data,
            model=_rooted(model, folder),
            step=tuple(steps),
            audit=audit,
            published=raw.get("published"),
            smoke=raw.get("smoke"),
        )


def _misfits(raw: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """What is wrong with the keys above all sections."""
    seed, table = raw.get("seed", 0), raw.get("published")
    if type(seed) is not int or seed < 0:
        hint = "A list of seeds makes a sweep: equiprune sweep" if isinstance(seed, list) else None
        yield Problem("expected a whole number, 0 or more", file=where, column="seed", hint=hint)
    if table is not None and table not in TABLES:
        hint = nearest(str(table), TABLES)
        yield Problem(f"there is no published table {table!r}", file=where, column="published", hint=hint)
    if not isinstance(raw.get("smoke"), bool | None):
        yield Problem("expected true or false", file=where, column="smoke")


def _untrained(steps: Sequence[Step], where: str) -> Iterator[Problem]:
    starters = [name for name in OBJECTIVES if name not in AFTER_TRAINING]
    hint = f"Put one of {', '.join(starters)} before it, or set trained = true under [model] with weights"
    for number, step in enumerate(steps, start=1):
        if step.start == 0 and step.name not in starters:
            yield Problem(f"{step.name} needs a trained model", file=f"{where} [[step]] {number}", hint=hint)


def _rooted(model: ModelSettings, folder: Path) -> ModelSettings:
    update = {}
    if model.weights is not None and (folder / model.weights).exists():
        update["weights"] = str(folder / model.weights)
    if ".py:" in model.backbone:
        update["backbone"] = str(folder / model.backbone)
    return model.model_copy(update=update)


def _steps(raw: object, shared: TrainingSettings, where: str, problems: list[Problem]) -> list[Step]:
    if not isinstance(raw, list) or not raw:
        problems.append(Problem("a recipe needs at least one [[step]]", file=where, column="step"))
        return []
    names = [step.get("method") if isinstance(step, Mapping) else None for step in raw]
    found = (
        _step(step, names[:number], shared, f"{where} [[step]] {number + 1}", problems)
        for number, step in enumerate(raw)
    )
    return [step for step in found if step is not None]


def _step(
    raw: object, before: Sequence[object], shared: TrainingSettings, where: str, problems: list[Problem]
) -> Step | None:
    if not isinstance(raw, Mapping):
        problems.append(Problem("expected a [[step]] table", file=where))
        return None
    name = raw.get("method")
    if not isinstance(name, str) or name not in METHODS:
        hint = nearest(str(name), METHODS) if name is not None else nearest("", METHODS)
        problems.append(Problem(f"there is no method {name!r}", file=where, column="method", hint=hint))
        return None
    own, common = METHODS[name].model_fields, TrainingSettings.model_fields
    rest = {key: value for key, value in raw.items() if key not in ("method", FROM)}
    problems += [
        _misplaced(key, where) or unknown_key(key, (*own, *common, FROM), where)
        for key in rest
        if key not in own and key not in common
    ]
    method = checked(METHODS[name], {k: v for k, v in rest.items() if k in own}, where, problems)
    override = {key: value for key, value in rest.items() if key in common}
    training = checked(TrainingSettings, {**shared.model_dump(), **override}, where, problems)
    start = _start(raw.get(FROM, len(before)), before, where, problems)
    if method is None or training is None or start is None:
        return None
    return Step(name=name, method=method, training=training, start=start)


def _misplaced(key: str, where: str) -> Problem | None:
    """A setting of another section."""
    for section, record in (("data", DataSettings), ("model", ModelSettings), ("audit", AuditSettings)):
        if key in record.model_fields:
            option = f"--{key.replace('_', '-')}"
            hint = f"It stands under [{section}]; on the command line it is {option}"
            return Problem("this is no setting of a step", file=where, column=key, hint=hint)
    return None


def _start(given: object, before: Sequence[object], where: str, problems: list[Problem]) -> int | None:
    """The step a step starts from, named by its number or, where no other has it, by its method."""
    if type(given) is int and 0 <= given <= len(before):
        return given
    if isinstance(given, str) and before.count(given) == 1:
        return before.index(given) + 1
    what = f"{given!r} is no earlier step" if before.count(given) < 2 else f"several earlier steps are {given!r}"
    steps = ", ".join(f"{number} ({name})" for number, name in enumerate(before, start=1))
    hint = f"Give its number: 0 for the model of the recipe{', ' if steps else ''}{steps}"
    problems.append(Problem(what, file=where, column=FROM, hint=hint))
    return None


def settings_from(pairs: Iterable[str]) -> dict[str, Any]:
    """`--set beta=0.33` on the command line, read as a TOML value or else as text.

    Raises:
        UsageError: there is no `=`.

    Example:
        >>> settings_from(["beta=0.33", "keep=last"])
        {'beta': 0.33, 'keep': 'last'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise UsageError(Problem(f"--set {pair!r} is not KEY=VALUE", hint="For example --set beta=0.33"))
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found

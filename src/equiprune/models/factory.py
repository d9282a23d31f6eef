"""A network made by a function in a file of the user's: `"my_file.py:factory"`.

This runs the user's code. It is only ever done because the user named the file in this very call,
never because a saved model or recipe from elsewhere says so.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from equiprune.errors import ModelError, Problem, nearest
from equiprune.files import sha256


def split(backbone: str) -> tuple[Path, str] | None:
    """File and function of a factory, None where the backbone is a name.

    Example:
        >>> split("nets/mine.py:make")[1]
        'make'
        >>> split("resnet18") is None
        True
    """
    file, colon, function = backbone.rpartition(":")
    return (Path(file), function) if colon and file.endswith(".py") else None


def source_sha256(backbone: str) -> str | None:
    """SHA-256 of the factory's file (not of what it imports), None where the backbone is a name.

    Raises:
        ModelError: the file is missing.
    """
    found = split(backbone)
    return None if found is None else sha256(_present(found[0]))


def made(path: Path, function: str, offered: Mapping[str, int]) -> nn.Module:
    """Calls the factory with those of the offered arguments that its signature names.

    The file's own folder can be imported from while it runs, as for a script.

    Raises:
        ModelError: the file or function is missing, fails, asks for more than is offered, or
            returns something else than an `nn.Module`.
    """
    with _importable(_present(path).parent):
        factory = _function(_executed(path, function), path, function)
        arguments = _accepted(factory, offered, path, function)
        try:
            network = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise _failed(error, path, function) from error
    if not isinstance(network, nn.Module):
        what = f"returned {type(network).__name__}, expected a torch.nn.Module"
        raise ModelError(Problem(what, file=f"{path}:{function}"))
    return network


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(Problem("there is no such file", file=str(path), hint='A factory is "file.py:function"'))
    return path


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _executed(path: Path, function: str) -> ModuleType:
    # Compiled from the source and never from a cached .pyc: what runs is what was hashed.
    module = ModuleType(f"equiprune_factory_{sha256(path)[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise _failed(error, path, function) from error
    return module


def _function(module: ModuleType, path: Path, function: str) -> Callable[..., Any]:
    found: Callable[..., Any] | None = getattr(module, function, None)
    if found is None or not callable(found):
        choices = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        what = f"has no function {function!r}"
        raise ModelError(Problem(what, file=str(path), hint=nearest(function, choices) if choices else None))
    return found


def _accepted(factory: Callable[..., Any], offered: Mapping[str, int], path: Path, function: str) -> dict[str, int]:
    wanted = inspect.signature(factory).parameters
    by_name = {n for n, p in wanted.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    arguments = {name: value for name, value in offered.items() if name in by_name}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    lacking = [
        name for name, p in wanted.items() if p.default is p.empty and p.kind not in variable and name not in arguments
    ]
    if lacking:
        what = f"asks for {', '.join(map(repr, lacking))}, which cannot be given"
        hint = f"Give it a default; offered are {', '.join(offered)}"
        raise ModelError(Problem(what, file=f"{path}:{function}", hint=hint))
    return arguments


def _failed(error: BaseException, path: Path, function: str) -> ModelError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    row = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    what = f"failed with {type(error).__name__}: {error}"
    return ModelError(Problem(what, file=f"{path}:{function}", row=row))

"""The same work over and over, as simulations do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from jaxtyping import config

Made = TypeVar("Made")


def repeated(work: Callable[[int], Made], times: int) -> list[Made]:
    """What `work(0)`, `work(1)` and so on give.

    The first is done with the shapes of all arrays checked, as in every test. The others have arrays of the same kinds
    and are done without: the checks take two thirds of the time of a small audit, and would find nothing new.
    """
    made = [work(0)]
    with unchecked():
        made += [work(number) for number in range(1, times)]
    return made


@contextmanager
def unchecked() -> Iterator[None]:
    """No shapes are checked inside; for what has been done before with arrays of the same kinds."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)

"""What a person at a terminal sees while something runs; a log file gets plain lines instead."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left on a terminal, nothing elsewhere.

    Args:
        what: a few words in front of the bar.

    Yields:
        A function to be told how many items are done, and how many there are.

    Example:
        >>> with bar("decoding") as progress:
        ...     progress(1, 2)
        ...     progress(2, 2)
    """
    if _silenced or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def say(text: str) -> None:
    """One line for the person or the log, on standard error: standard output is for results."""
    if not _silenced:
        print(text, file=sys.stderr, flush=True)


_silenced: list[bool] = []


@contextmanager
def silenced() -> Iterator[None]:
    """Nothing is said, as long as the context lasts: another process says the same."""
    _silenced.append(True)
    try:
        yield
    finally:
        _silenced.pop()

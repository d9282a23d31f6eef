"""All the figures of a page, by the part they stand in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from equiprune.report import by_score, channels, figures, layers
from equiprune.report.class_gaps import class_gaps
from equiprune.report.confusion import confusion
from equiprune.report.content import Page, StepPage
from equiprune.report.draw import Spec
from equiprune.report.explorer import explorer
from equiprune.report.marks import Explorer
from equiprune.report.over_axis import over_axes
from equiprune.report.saliency import saliency
from equiprune.report.swept import swept

EXPLORER = "explorer"


@dataclass(frozen=True)
class Plates:
    """Figures by part; the explorer is None where there is one model."""

    explorer: Explorer | None
    swept: tuple[figures.Figure, ...]
    comparison: tuple[figures.Figure, ...]
    scores: tuple[figures.Figure, ...]
    classes: tuple[figures.Figure, ...]
    pruned: tuple[figures.Figure, ...]
    saliency: tuple[figures.Figure, ...]
    trained: tuple[figures.Figure, ...]

    def specs(self) -> dict[str, Spec]:
        """Every drawing by the id of its panel, in the order of the page."""
        parts = (self.swept, self.comparison, self.scores, self.classes, self.pruned, self.saliency, self.trained)
        found = {panel.id: panel.spec for part in parts for figure in part for panel in figure.panels}
        return found if self.explorer is None else {EXPLORER: self.explorer.spec, **found}


def plates(page: Page) -> Plates:
    """Draws all that the page's content allows."""
    return Plates(
        explorer=explorer(page) if page.sweep is None else swept(page, page.sweep),
        swept=() if page.sweep is None else over_axes(page.sweep),
        comparison=(figures.per_group(page), figures.gaps(page)),
        scores=_there(by_score.roc(page), by_score.calibration(page)),
        classes=_there(class_gaps(page), confusion(page)),
        pruned=(
            *_each(page, figures.iterations),
            *_there(channels.fate_together(page)),
            *_each(page, channels.scores),
            *_each(page, layers.by_layer),
        ),
        saliency=_each(page, saliency),
        trained=_each(page, figures.training),
    )


def _there(*found: figures.Figure | None) -> tuple[figures.Figure, ...]:
    return tuple(figure for figure in found if figure is not None)


def _each(page: Page, make: Callable[[StepPage, int], figures.Figure | None]) -> tuple[figures.Figure, ...]:
    return _there(*(make(step, index) for index, step in enumerate(page.steps)))

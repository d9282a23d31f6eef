"""What tables of chest radiographs share: the findings of the CheXpert labeler, views, ages that mean missing."""

from __future__ import annotations

from collections.abc import Callable

from equiprune.data.sources.spellings import AGES, FINDINGS, OLDEST, age_in_radiology, finding
from equiprune.data.sources.tables import Official

CHEXPERT_FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""In the order of the official tables."""

SUGGESTED = tuple(
    name for name in CHEXPERT_FINDINGS if name not in ("No Finding", "Pleural Other", "Support Devices")
)  # fmt: skip
"""The eleven that a comparison of debiasing methods on CheXpert used."""

FRONTAL = "frontal"
NOT_FRONTAL = "not frontal"


BLANKS = {
    "unknown": "a blank finding (one the report does not mention) stays blank: not known, left out of loss and "
    "figures; many works count it as 0 (--blanks zeros)",
    "zeros": "a blank finding (one the report does not mention) is written as 0, as many works count it",
}
"""What is told with every conversion of a set with the labeler's findings, by what is done."""


def findings_of(table: Official, blanks: str) -> dict[str, list[str]]:
    """All findings of a table as 1, 0, -1 and, where they stay unknown, blank; others are noted as problems."""
    found = {name: table.read(name, finding, FINDINGS) for name in CHEXPERT_FINDINGS}
    return found if blanks == "unknown" else {name: [cell or "0" for cell in cells] for name, cells in found.items()}


def ages_of(table: Official) -> list[str]:
    """The ages of a table, blank where what is written means missing."""
    return table.read("age", age_in_radiology, AGES)


def age_notice(written: list[str], meant: list[str]) -> tuple[str, ...]:
    """A notice on how many ages were taken for missing."""
    lost = sum(1 for cell, years in zip(written, meant, strict=True) if cell and not years)
    return (f"{lost:,} ages of 0 or above {OLDEST} mean missing, and are blank",) if lost else ()


def one_of(*names: str) -> Callable[[str], str | None]:
    """The reader of cells that are one of a few names.

    Example:
        >>> one_of("PA", "AP")("AP"), one_of("PA", "AP")("LL")
        ('AP', None)
    """
    return lambda cell: cell if cell in names else None

"""Public data sets in the layout their makers published: one file a set, and the conversion to a manifest."""

from __future__ import annotations

from types import MappingProxyType

from equiprune.data.sources.chexpert import CHEXPERT
from equiprune.data.sources.conversion import Converted, convert_source
from equiprune.data.sources.ddi import DDI
from equiprune.data.sources.fitzpatrick17k import FITZPATRICK17K
from equiprune.data.sources.ham10000 import HAM10000
from equiprune.data.sources.isic2019 import ISIC2019
from equiprune.data.sources.mimic_cxr import MIMIC_CXR
from equiprune.data.sources.nih_cxr14 import NIH_CXR14
from equiprune.data.sources.pad_ufes_20 import PAD_UFES_20
from equiprune.data.sources.source import Source, Wishes
from equiprune.errors import Problem, UsageError, nearest

SOURCES = MappingProxyType({
    "fitzpatrick17k": FITZPATRICK17K,
    "isic2019": ISIC2019,
    "ham10000": HAM10000,
    "chexpert": CHEXPERT,
    "nih-cxr14": NIH_CXR14,
    "pad-ufes-20": PAD_UFES_20,
    "mimic-cxr": MIMIC_CXR,
    "ddi": DDI,
})  # fmt: skip
"""Every set that can be converted, by the name that the command takes."""


def source_named(name: str) -> Source:
    """The source of a name.

    Raises:
        UsageError: there is none.

    Example:
        >>> source_named("chexpert").unit
        'patient_id'
    """
    if name not in SOURCES:
        raise UsageError(Problem(f"there is no source {name!r}", hint=nearest(name, SOURCES)))
    return SOURCES[name]


__all__ = ["SOURCES", "Converted", "Source", "Wishes", "convert_source", "source_named"]

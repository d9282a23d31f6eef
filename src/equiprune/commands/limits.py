"""`--fail-on "eopp1>0.1"`: a limit on a figure of an audit, for use in a pipeline."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from equiprune.audit import Audit
from equiprune.errors import Problem, UsageError, nearest

SIGNS = MappingProxyType({">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le})
FORM = re.compile(r"\s*(?:(overall|gaps|worst_group)\.)?(\w+)(?:\.(\w+))?\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
FIELDS = ("value", "low", "high", "floor", "floor_high", "p_value", "detectable", "ratio", "deviation")
GAPS = ("eopp0", "eopp1", "eodd", "tpr", "fpr", "ppv", "fnr", "selection_rate", "f1", "auroc")
"""Names that mean the gap where no section is named; any other name means the overall figure."""


@dataclass(frozen=True)
class Limit:
    """A figure, one of its fields, a sign and a number.

    Example:
        >>> str(Limit.parse("eopp1.low > 0")), str(Limit.parse("overall.f1<0.6"))
        ('eopp1.low > 0', 'overall.f1 < 0.6')
    """

    section: str
    figure: str
    field: str
    sign: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a limit.

        Raises:
            UsageError: it is not of the form [SECTION.]FIGURE[.FIELD] SIGN NUMBER.
        """
        found = FORM.fullmatch(text)
        problem = Problem(f"--fail-on {text!r} is not a limit", hint='For example "eopp1>0.1" or "eopp1.low>0"')
        if found is None:
            raise UsageError(problem)
        section, figure, field, sign, number = found.groups()
        if section is None and figure in GAPS and field in (None, "value") and sign.startswith("<"):
            hint = f"Write gaps.{figure} if a small gap is to fail"
            if figure in ("f1", "auroc"):
                hint = f"Write overall.{figure} for the figure, or gaps.{figure} for its gap"
            raise UsageError(
                Problem(f"--fail-on {text!r}: {figure} alone means the gap between groups, and 0 is fair", hint=hint)
            )
        try:
            value = float(number)
        except ValueError:
            raise UsageError(problem) from None
        if field is not None and field not in FIELDS:
            raise UsageError(Problem(f"--fail-on {text!r}: there is no field {field!r}", hint=nearest(field, FIELDS)))
        return cls(section or ("gaps" if figure in GAPS else "overall"), figure, field or "value", sign, value)

    def value(self, audit: Audit) -> float | None:
        """The audit's figure; None where it is not estimable.

        Raises:
            UsageError: the audit has no such figure, or the figure no such field.
        """
        content = audit.to_dict()
        figures = content[self.section]
        if self.figure not in figures:
            hint = nearest(self.figure, {**content["overall"], **content["gaps"]})
            raise UsageError(Problem(f"--fail-on: there is no figure {self.figure!r}", hint=hint))
        if self.field not in figures[self.figure]:
            hint = nearest(self.field, figures[self.figure])
            raise UsageError(Problem(f"--fail-on: {self.section}.{self.figure} has no {self.field!r}", hint=hint))
        found: float | None = figures[self.figure][self.field]
        return found

    def exceeded(self, audit: Audit) -> bool:
        """Whether the audit's figure is beyond the limit; a figure that is not estimable is not.

        Raises:
            UsageError: see `value`.
        """
        value = self.value(audit)
        compare: Callable[[float, float], bool] = SIGNS[self.sign]
        return value is not None and compare(value, self.number)

    def gap(self, audit: Audit) -> str | None:
        """What the limit cannot see: the figure is not estimable, or classes are left out of it."""
        if self.value(audit) is None:
            return "the figure is not estimable"
        skipped = audit.gaps[self.figure].classes_skipped if self.section == "gaps" else 0
        told = "1 class is" if skipped == 1 else f"{skipped} classes are"
        return f"{told} left out, having no rows in a group" if skipped else None

    def told(self, audit: Audit) -> str:
        """The limit, and the figure that exceeded it."""
        return f"the limit {self} is exceeded: it is {self.value(audit):.4g}"

    def __str__(self) -> str:
        plain = self.section == "gaps" and self.figure in GAPS
        name = self.figure if plain else f"{self.section}.{self.figure}"
        return f"{name}{'' if self.field == 'value' else '.' + self.field} {self.sign} {self.number:g}"

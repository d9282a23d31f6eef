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
FORM = re.compile(r"\s*(\w+)(?:\.(\w+))?\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
FIELDS = ("value", "low", "high", "floor", "p_value")


@dataclass(frozen=True)
class Limit:
    """A figure (a gap or an overall metric), one of its fields, a sign and a number.

    Example:
        >>> str(Limit.parse("eopp1.low > 0"))
        'eopp1.low > 0'
    """

    figure: str
    field: str
    sign: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a limit.

        Raises:
            UsageError: it is not of the form FIGURE[.FIELD] SIGN NUMBER.
        """
        found = FORM.fullmatch(text)
        problem = Problem(f"--fail-on {text!r} is not a limit", hint='For example "eopp1>0.1" or "eopp1.low>0"')
        if found is None:
            raise UsageError(problem)
        figure, field, sign, number = found.groups()
        try:
            value = float(number)
        except ValueError:
            raise UsageError(problem) from None
        if field is not None and field not in FIELDS:
            raise UsageError(Problem(f"--fail-on {text!r}: there is no field {field!r}", hint=nearest(field, FIELDS)))
        return cls(figure, field or "value", sign, value)

    def passed(self, audit: Audit) -> bool:
        """Whether the audit's figure is beyond the limit; a figure that is not estimable is not.

        Raises:
            UsageError: the audit has no such figure.
        """
        content = audit.to_dict()
        figures = {**content["overall"], **content["gaps"]}
        if self.figure not in figures:
            hint = nearest(self.figure, figures)
            raise UsageError(Problem(f"--fail-on: there is no figure {self.figure!r}", hint=hint))
        value = figures[self.figure].get(self.field)
        compare: Callable[[float, float], bool] = SIGNS[self.sign]
        return value is not None and compare(value, self.number)

    def told(self, audit: Audit) -> str:
        """The limit, and the figure that passed it."""
        content = audit.to_dict()
        return f"{self}: it is {({**content['overall'], **content['gaps']})[self.figure][self.field]:.4g}"

    def __str__(self) -> str:
        return f"{self.figure}{'' if self.field == 'value' else '.' + self.field} {self.sign} {self.number:g}"

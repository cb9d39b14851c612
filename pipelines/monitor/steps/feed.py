"""Whether what a model is sent is what it was made for: a broken feed is not drift, and nothing is learned from it.

Standard library only. Judged are the schema (as many values as the model has features, each a number), the range, and
whether features that vary in the training data still do.
"""

import dataclasses as dc
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .logged import Row
from .reference import Reference

MOST_BAD = 0.01
"""The largest share of rows that may be bad; they are left out."""
MOST_CONSTANT = 0.5
"""The largest share of the training data's varying features that may be the same in every row."""
FEWEST_FOR_CONSTANT = 20
"""Rows from which on it is judged whether features vary."""


@dc.dataclass(frozen=True, kw_only=True)
class Feed:
    """What was found. good: the rows that can be used. reason: why the feed is refused; None where it is not."""

    rows: int
    good: Sequence[Row]
    reason: str | None


def judged(rows: Sequence[Row], reference: Reference, span: tuple[float, float] | None) -> Feed:
    """Judge rows. span: the smallest and largest value that the feed may have; None: those of the training data."""
    low, high = span or reference.span
    bad: Counter[str] = Counter()
    good = []
    for row in rows:
        wrong = _wrong(row.values, len(reference.columns), low, high)
        if wrong is None:
            good.append(row)
        else:
            bad[wrong] += 1
    reason = None
    if bad.total() > MOST_BAD * len(rows):
        (worst, count), *_ = bad.most_common(1)
        reason = f"{count} of {len(rows)} rows: {worst}"
    elif len(good) >= FEWEST_FOR_CONSTANT:
        reason = _constant(good, reference)
    return Feed(rows=len(rows), good=good, reason=reason)


def _wrong(values: Sequence[Any], features: int, low: float, high: float) -> str | None:
    """What is wrong with a row, in words that are the same for rows with the same fault."""
    if len(values) != features:
        return f"{len(values)} values; accepted: {features}"
    if any(value is None for value in values):
        return "a value is missing; accepted: a number for every feature"
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "a value is no number; accepted: a number for every feature"
    if not all(math.isfinite(value) and low <= value <= high for value in values):
        return f"a value is out of range; accepted: {low:g} to {high:g}"
    return None


def _constant(rows: Sequence[Row], reference: Reference) -> str | None:
    first = rows[0].values
    still = {i for i in reference.varying if all(row.values[i] == first[i] for row in rows)}
    if len(still) <= MOST_CONSTANT * len(reference.varying):
        return None
    return (
        f"{len(still)} features are the same in all {len(rows)} rows; accepted: up to {MOST_CONSTANT:.0%} of the "
        f"{len(reference.varying)} that vary in the training data"
    )

"""Quantities as Kubernetes writes them (apimachinery, resource.Quantity)."""

import re
from fractions import Fraction

_QUANTITY = re.compile(r"([0-9]+|[0-9]*\.[0-9]+)(?:[eE]([0-9]+)|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)
_UNITS = {letter: Fraction(1, 1000**power) for power, letter in enumerate("mun", 1)} | {"": Fraction(1)}
_UNITS |= {letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)}
_UNITS |= {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)}


def amount(quantity: object) -> Fraction:
    """The amount, in cores, bytes or pieces. Raises ValueError for what is no quantity, or a negative one."""
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        raise ValueError(f"quantity {quantity!r}; accepted: a number, with an exponent or one of {' '.join(_UNITS)}")
    number, exponent, unit = found.groups()
    return Fraction(number) * (Fraction(10) ** int(exponent) if exponent else _UNITS[unit or ""])

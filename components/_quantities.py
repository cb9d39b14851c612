"""Quantities in the one form in which Kubernetes' own programs write them (apimachinery, resource.Quantity).

Kueue writes its objects back; in another form they would seem to have been changed by it.
"""


def count(units: int) -> str:
    """Whole things: devices, cores."""
    return _shortest(units, 1000, ("", "k", "M"))


def millicores(milli: int) -> str:
    """Thousandths of a core."""
    return _shortest(milli, 1000, ("m", "", "k", "M"))


def mebibytes(mebi: int) -> str:
    """Memory."""
    return _shortest(mebi, 1024, ("Mi", "Gi", "Ti", "Pi"))


def _shortest(number: int, base: int, suffixes: tuple[str, ...]) -> str:
    if number == 0:
        return "0"
    step = 0
    while number % base == 0 and step < len(suffixes) - 1:
        number //= base
        step += 1
    return f"{number}{suffixes[step]}"

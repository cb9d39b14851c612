"""The data set that the reference pipeline learns from: hand-written digits, as scikit-learn ships them.

8 x 8 pixels of 0 to 16 an image, and the digit that it shows; 1,797 images, 174 to 183 of each digit.
"""

import csv
from pathlib import Path
from typing import Any

COLUMNS = (*(f"pixel_{row}_{column}" for row in range(8) for column in range(8)), "digit")
BRIGHTEST = 16
DIGITS = tuple(range(10))


def write(target: Path) -> None:
    """Write scikit-learn's own copy as CSV: the header, then a line an image; the same bytes wherever it is done."""
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bundle = load_digits()
    with target.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for pixels, digit in zip(bundle.data, bundle.target, strict=True):
            lines.writerow([*(int(pixel) for pixel in pixels), int(digit)])


def split(source: Path, *, seed: int, holdout: float) -> tuple[Any, Any, Any, Any]:
    """Pixels and digits to train on, then pixels and digits held out: arrays of (images, 64) and (images,).

    The same file, seed and share held out give the same split, each digit in it with its share.
    """
    import numpy as np  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    table = np.loadtxt(source, delimiter=",", skiprows=1, dtype=np.float64)
    pixels, digits = table[:, :-1], table[:, -1].astype(np.int64)
    train, held, train_digits, held_digits = train_test_split(
        pixels, digits, test_size=holdout, random_state=seed, stratify=digits
    )
    return train, train_digits, held, held_digits

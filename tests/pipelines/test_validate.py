"""What the validation step lets through, and what it says to the rest."""

import csv
import io
from pathlib import Path

import pytest

from pipelines.reference.steps import digits, validate
from pipelines.reference.steps.ending import Refused

Rows = list[list[str]]


@pytest.fixture
def rows() -> Rows:
    """Return a data set of 1,000 rows, 100 of each digit."""
    return [list(digits.COLUMNS)] + [[*["0", "16"] * 32, str(number % 10)] for number in range(1000)]


def written(folder: Path, rows: Rows) -> Path:
    """Write rows as a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    file = folder / "data.csv"
    file.write_text(text.getvalue())
    return file


def refusal(file: Path) -> str:
    """What the step says to a data set that it refuses."""
    with pytest.raises(Refused) as refused:
        validate.judged(file)
    return str(refused.value)


def test_a_good_data_set_passes(tmp_path: Path, rows: Rows) -> None:
    """Rows and how many of each digit are counted."""
    report = validate.judged(written(tmp_path, rows))
    assert report == {"rows": 1000, "digits": {str(digit): 100 for digit in range(10)}}


@pytest.mark.parametrize("value", ["17", "-1", "1.5", "", "x", "٣", "007", "1e1"])
def test_a_value_out_of_range_is_refused(tmp_path: Path, rows: Rows, value: str) -> None:
    """The line, the column, the value and what is accepted are named."""
    rows[99][1] = value
    said = refusal(written(tmp_path, rows))
    assert said == f"data: line 100, pixel_0_1: {value!r}; accepted: a whole number from 0 to 16"


def test_a_digit_out_of_range_is_refused(tmp_path: Path, rows: Rows) -> None:
    """The last column is the digit, 0 to 9."""
    rows[5][-1] = "10"
    assert refusal(written(tmp_path, rows)) == "data: line 6, digit: '10'; accepted: a whole number from 0 to 9"


def test_a_row_of_another_length_is_refused(tmp_path: Path, rows: Rows) -> None:
    """A row that lacks a value is named by its line."""
    rows[7].pop()
    assert refusal(written(tmp_path, rows)) == "data: line 8 has 64 values; accepted: 65"


def test_other_columns_are_refused(tmp_path: Path, rows: Rows) -> None:
    """The header must be exactly that of the data set."""
    rows[0][0] = "pixel"
    assert refusal(written(tmp_path, rows)).startswith(
        "data: 65 columns, pixel, pixel_0_1, pixel_0_2, ...; accepted: 65"
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Nothing is no data set."""
    assert refusal(written(tmp_path, [])).startswith("data: an empty file; accepted: 65 columns")


def test_too_few_rows_are_refused(tmp_path: Path, rows: Rows) -> None:
    """A share of the data set is not learned from."""
    assert refusal(written(tmp_path, rows[:-1])) == "data: 999 rows; accepted: 1000 or more"


def test_a_digit_that_is_rare_is_refused(tmp_path: Path, rows: Rows) -> None:
    """Each digit has at least half of an even share."""
    for row in rows[1:600]:
        row[-1] = row[-1].replace("3", "4")
    assert refusal(written(tmp_path, rows)) == (
        "data: 40 of 1000 rows show a 3; accepted: 50 to 200, 0.5 to 2 times an even share"
    )


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused by that reason."""
    file = tmp_path / "data.csv"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(file).startswith("data: not a CSV file: ")

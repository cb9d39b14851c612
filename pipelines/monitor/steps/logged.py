"""Requests that a model was sent, as the request log keeps them, and the labels that came later.

A line of requests/MODEL/YYYY/MM/DD/*.jsonl is one request with its answer, both in the Open Inference Protocol (V2):
{"id", "time", "model", "version", "request", "response"}. A line of labels/MODEL/*.jsonl is {"id", "label"}, where the
label of a request of several rows is a list.
"""

import dataclasses as dc
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_ROWS = 20_000
"""Rows that are looked at, the newest: a window of more is judged by those."""


@dc.dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a request. values: as they were sent, whatever they are. predicted: None where no answer says."""

    id: str
    time: dt.datetime
    values: Sequence[Any]
    predicted: str | None
    label: str | None = None


def prefixes(model: str, begin: dt.datetime, end: dt.datetime) -> list[str]:
    """Where the requests of a window are: a prefix a day."""
    days = (end.date() - begin.date()).days + 1
    return [f"requests/{model}/{begin.date() + dt.timedelta(days=day):%Y/%m/%d}/" for day in range(days)]


def rows(
    lines: Iterable[str], labels: Mapping[str, Sequence[str]], *, version: str, begin: dt.datetime, end: dt.datetime
) -> list[Row]:
    """The rows of requests of a window that a version answered, oldest first; of an id that is there twice, the first.

    What is no request at all counts as a row without values: a log that cannot be read is a broken feed.
    """
    seen: set[str] = set()
    found: list[Row] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            moment = dt.datetime.fromisoformat(document["time"])
            name, of = str(document["id"]), str(document["version"])
        except (ValueError, KeyError, TypeError):
            found.append(Row(id="", time=begin, values=(), predicted=None))
            continue
        if of != version or name in seen or not begin <= moment < end:
            continue
        seen.add(name)
        sent, said = table(document.get("request")), predictions(document.get("response"))
        of_request = labels.get(name, ())
        found += [
            Row(
                id=name,
                time=moment,
                values=values,
                predicted=said[index] if len(said) == len(sent) else None,
                label=of_request[index] if len(of_request) == len(sent) else None,
            )
            for index, values in enumerate(sent)
        ]
    return sorted(found, key=lambda row: row.time)[-MOST_ROWS:]


def table(request: Any) -> list[Sequence[Any]]:  # noqa: ANN401 - any JSON document
    """The rows of a V2 request: of its one tensor (rows, features), or of one tensor a feature; one empty row else."""
    try:
        inputs = request["inputs"]
        if len(inputs) == 1:
            return _matrix(inputs[0])
        columns = [_flat(each["data"]) for each in inputs]
        return [list(row) for row in zip(*columns, strict=True)] or [()]
    except (KeyError, TypeError, ValueError, IndexError):
        return [()]


def _matrix(tensor: Mapping[str, Any]) -> list[Sequence[Any]]:
    data = tensor["data"]
    if data and isinstance(data[0], list):
        return list(data)
    count = int(tensor["shape"][0])
    wide, rest = divmod(len(data), count)
    if rest:
        raise ValueError("data do not fill the shape")
    return [data[index * wide : (index + 1) * wide] for index in range(count)]


def _flat(data: Sequence[Any]) -> list[Any]:
    return [value for each in data for value in (each if isinstance(each, list) else [each])]


def predictions(response: Any) -> list[str]:  # noqa: ANN401 - any JSON document
    """What a V2 response's first tensor says, a class a row; none where it is no answer."""
    try:
        return [canonical(value) for value in _flat(response["outputs"][0]["data"])]
    except (KeyError, TypeError, IndexError):
        return []


def labels(lines: Iterable[str]) -> dict[str, list[str]]:
    """Request to the labels of its rows; the last line of an id counts, and what is no label is left out."""
    found: dict[str, list[str]] = {}
    for line in lines:
        try:
            document = json.loads(line)
            label = document["label"]
            found[str(document["id"])] = [canonical(each) for each in (label if isinstance(label, list) else [label])]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def canonical(value: Any) -> str:  # noqa: ANN401 - a class as JSON has it
    """A class as text: 3, 3.0 and "3" are one."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

"""Whether a stack's state is what the release in force says: what an `up` of that release would change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra import versions
from infra.errors import CouldNotRun
from infra.release import record, releases, running

Say = Callable[[str], None]


def items(root: Path, environment: str, on: str | None, say: Say) -> list[dict[str, Any]]:
    """An item a resource that differs; none where nothing was ever promoted there."""
    ran = record.runs(record.read(root, environment))
    if ran is None:
        return []
    version = versions.at(root, releases.read(root, ran.id).commit, say)
    status, document = running.run(version, "preview", environment, on=on, say=say)
    if status:
        raise CouldNotRun(f"drift {environment}: {document.get('error')}")
    return [
        {
            "object": each["resource"],
            "field": ", ".join(each["properties"] or ()),
            "released": ran.id,
            "change": f"the state lacks it: an up of {ran.id} would have it {each['change']}",
        }
        for each in document["items"]
        if "change" in each
    ]

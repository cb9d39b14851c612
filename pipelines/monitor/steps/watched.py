"""What the namespace's ConfigMaps say of a model: `models`, what is deployed; `retraining`, how it is watched."""

import dataclasses as dc
import json
from pathlib import Path
from typing import Any

from pipelines.reference.steps.ending import Refused

FOLDER = Path("/etc/kiban")
"""Where workflows mount them: models/MODEL, retraining/MODEL, and holds/MODEL where somebody made one."""


@dc.dataclass(frozen=True, kw_only=True)
class Watched:
    """A model in service.

    environment: whose it is. target: whose entry in stacks/models.yaml a proposal changes.
    settings: as components/retraining_loop.py's Watch has them, by field. hold: why nothing may be retrained; or empty.
    """

    team: str
    name: str
    version: str
    uri: str
    digest: str
    environment: str
    target: str
    settings: dict[str, Any]
    hold: str

    @property
    def registered(self) -> str:
        """The name of its registered model in MLflow."""
        return f"{self.team}-{self.name}"

    @property
    def span(self) -> tuple[float, float] | None:
        """The smallest and largest value that its feed may have; None: those of its training data."""
        given = self.settings["feed_range"]
        return (given[0], given[1]) if given else None


def read(model: str, folder: Path = FOLDER) -> Watched:
    """What is said of a model. Raises Refused where no model of that name is watched."""
    known = sorted(file.name for file in folder.glob("retraining/[!.]*"))  # those with a dot are the volume's own
    if model not in known:
        raise Refused(f"model {model!r} is not watched here; accepted: {', '.join(known) or 'none'}")
    deployed = json.loads((folder / "models" / model).read_text())
    settings = json.loads((folder / "retraining" / model).read_text())
    held = folder / "holds" / model
    hold = settings["hold"] or (held.read_text().strip() or "no reason given" if held.is_file() else "")
    return Watched(**deployed, settings=settings, hold=hold)

"""Who may run an `up`: by what the cluster remembers, and by what the checkout consists of."""

import json
import shutil
from pathlib import Path

import pytest

import stacks
from infra.clusters import Cluster
from infra.errors import BadInput, RunFailed
from infra.release import guard, marker
from infra.release.contents import applied_in
from infra.release.guard import refuse_unpromoted
from infra.release.marker import Marker
from stacks._schema import Environment
from tests.checkout import copy_to
from tests.release.place import HASH, ONE

HERE = Cluster(name="c", kubeconfig=Path("kubeconfig"), context="c", uid="u")
PROD, DEV, LOCAL = (stacks.load(name) for name in ("prod", "dev", "local"))


class Remembers:
    """kubectl on a cluster that has this ConfigMap, as JSON; empty: none."""

    said = ""

    def __init__(self, kubeconfig: Path, context: str) -> None:
        assert (kubeconfig, context) == (HERE.kubeconfig, HERE.context)

    def run(self, *words: str) -> str:
        """Answer the one question there is."""
        assert words[:3] == ("get", "configmap", marker.NAME)
        return self.said


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "Kubectl", Remembers)
    monkeypatch.setattr(Remembers, "said", "")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout."""
    return copy_to(tmp_path_factory.mktemp("checkout") / "root").root


def remember(monkeypatch: pytest.MonkeyPatch, found: Marker | dict[str, str]) -> None:
    """Have the cluster remember a marker, or have these data in its place."""
    data = found if isinstance(found, dict) else {name: str(value) for name, value in vars(found).items()}
    monkeypatch.setattr(Remembers, "said", json.dumps({"data": data}))


def in_force(root: Path, environment: Environment) -> Marker:
    """Return the marker of a promotion of what the checkout has."""
    return Marker(release=ONE.id, applied=applied_in(root, environment.name), number=2, head=HASH)


def test_an_environment_on_the_ladder_is_refused_before_its_first_promotion(root: Path) -> None:
    """It takes releases only."""
    with pytest.raises(BadInput, match=r"prod: it takes releases only \(stacks/ladder.yaml\), and none was promoted"):
        refuse_unpromoted(PROD, HERE, root)


def test_an_environment_on_no_rung_is_free(root: Path, tmp_path: Path) -> None:
    """Also one that could have a rung."""
    refuse_unpromoted(LOCAL, HERE, root)
    other = tmp_path / "stacks"
    shutil.copytree(root / "stacks", other)
    (other / "ladder.yaml").write_text("rungs: [{environment: dev, gates: {}}]\n")
    refuse_unpromoted(PROD, HERE, tmp_path)
    with pytest.raises(BadInput):
        refuse_unpromoted(DEV, HERE, tmp_path)


def test_what_is_in_force_is_let_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for nobody else's environment."""
    remember(monkeypatch, in_force(root, PROD))
    refuse_unpromoted(PROD, HERE, root)
    with pytest.raises(BadInput, match=f"dev: release {ONE.id} is in force, and this checkout is another"):
        refuse_unpromoted(DEV, HERE, root)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("stacks/prod.py", False),
        ("stacks/_schema.py", False),
        ("components/tenancy.py", False),
        ("infra/wiring.py", False),
        ("charts/digests.yaml", False),
        ("stacks/dev.py", True),
        ("docs/new.md", True),
        ("stacks/ladder.yaml", True),
    ],
)
def test_a_checkout_that_differs_in_what_is_applied_is_refused(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    said: bool,  # noqa: FBT001
) -> None:
    """Not in what another environment, the documents or the ladder say."""
    remember(monkeypatch, in_force(root, PROD))
    changed = root / file
    kept = changed.read_bytes() if changed.exists() else None
    changed.write_bytes((kept or b"") + b"\n# more\n")
    try:
        if said:
            refuse_unpromoted(PROD, HERE, root)
        else:
            with pytest.raises(BadInput, match=f"prod: release {ONE.id} is in force"):
                refuse_unpromoted(PROD, HERE, root)
    finally:
        changed.unlink() if kept is None else changed.write_bytes(kept)


def test_a_stand_in_is_held_to_a_release_once_it_has_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a cluster that Kiban makes takes what it is given."""
    standing = stacks.load("ci")
    named = Environment(**vars(standing) | {"name": "prod"})
    refuse_unpromoted(named, HERE, root)
    remember(monkeypatch, Marker(release=ONE.id, applied=HASH, number=2, head=HASH))
    with pytest.raises(BadInput, match="is in force"):
        refuse_unpromoted(named, HERE, root)


@pytest.mark.parametrize(
    "data",
    [
        {"release": ONE.id},
        {"release": ONE.id, "applied": HASH, "number": "two", "head": HASH},
    ],
)
def test_a_marker_that_was_edited_lets_nobody_in(
    root: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, str]
) -> None:
    """It is said where it is, and what it has to have."""
    remember(monkeypatch, data)
    said = "ConfigMap kiban-promotion of kube-system is not as a promotion wrote it"
    with pytest.raises(RunFailed, match=said):
        refuse_unpromoted(PROD, HERE, root)
    monkeypatch.setattr(Remembers, "said", json.dumps({"metadata": {}}))
    with pytest.raises(RunFailed, match=said):
        refuse_unpromoted(PROD, HERE, root)

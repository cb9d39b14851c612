"""Passwords and keys of an environment: which it needs, how they come from one secret, and how one is replaced.

The stack's encrypted configuration holds one generated secret, the seed. A credential is an HMAC of its name under the
seed, so a new team needs no new secret, a state that was lost gives no new password to an old volume, and however many
there are, one is encrypted: each costs a process of half a second. What the user gives (an external database's
password) is encrypted under its own name. The rest of the configuration is plain: how often a credential was replaced,
and which of a team's two object-store accounts is handed to its pods.

Nothing here prints a value. How Pulumi is asked is said in infra/engine/session.py.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pulumi

from components._metadata import KUBEFLOW_OWNER
from components._object_store import SLOTS as SLOT_NAMES
from components.metadata_store import ExternalDatabase, ExternalObjectStore
from infra.errors import BadInput
from stacks._schema import Environment

Say = Callable[[str], None]

SEED = "credentials-seed"
GIVEN = "credential-"
"""What the key of a value that the user gave begins with; the credential's name follows."""
GENERATIONS = "credential-generations"
SLOTS = "object-store-slots"

POSTGRES = "postgres"
MYSQL = "mysql"
OBJECT_STORE = "object-store"
OBJECT_STORE_BACKUP = "object-store-backup"
MLFLOW_ADMIN = "mlflow-admin"
MLFLOW_SESSION = "mlflow-session"
_BYTES = 32


class Configuration(Protocol):
    """A stack's configuration, as infra/engine/session.py keeps it."""

    def configuration(self) -> Mapping[str, Any]:
        """The keys of this project, and their values; a secret's is ciphertext."""

    def configure(self, key: str, value: str, *, secret: bool = False) -> None:
        """Set a key, or a property of one (`slots.vision`)."""

    @property
    def committed(self) -> str | None:
        """The configuration's file where it belongs to the checkout, relative to it."""

    @property
    def command(self) -> str:
        """What the user types behind a verb to mean the stack."""


def object_store(team: str, slot: str) -> str:
    """The credential of one of a team's two accounts in the object store."""
    return f"{OBJECT_STORE}-{team}-{slot}"


def mlflow(team: str) -> str:
    """The credential of a team's MLflow user."""
    return f"mlflow-{team}"


def needed(environment: Environment) -> tuple[str, ...]:
    """The names of the credentials that an environment's parts take."""
    alerts = environment.monitoring.credentials if environment.monitoring else ()
    metadata = environment.metadata
    if metadata is None:
        return alerts
    root = () if isinstance(metadata.object_store, ExternalObjectStore) else (OBJECT_STORE,)
    kfp = (MYSQL,) if metadata.mysql is not None else ()
    platform = (POSTGRES, *kfp, *root, OBJECT_STORE_BACKUP, MLFLOW_ADMIN, MLFLOW_SESSION)
    owners = tuple(name for owner in _owners(environment) for name in (*_keys(owner), mlflow(owner)))
    return platform + owners + alerts


def outside(environment: Environment) -> tuple[str, ...]:
    """Of the needed names those that something outside knows, so that the user has to give them."""
    found = [one.credential for one in environment.monitoring.receivers] if environment.monitoring else []
    metadata = environment.metadata
    if metadata is None:
        return tuple(found)
    databases = {POSTGRES: metadata.postgres, MYSQL: metadata.mysql}
    found += [name for name, database in databases.items() if isinstance(database, ExternalDatabase)]
    if isinstance(metadata.object_store, ExternalObjectStore):
        found += [OBJECT_STORE_BACKUP, *(key for owner in _owners(environment) for key in _keys(owner))]
    return tuple(found)


def _owners(environment: Environment) -> tuple[str, ...]:
    """Who has a bucket: the teams, and Kubeflow Pipelines."""
    kfp = (KUBEFLOW_OWNER,) if environment.metadata and environment.metadata.mysql else ()
    return (*(team.name for team in environment.teams), *kfp)


def _keys(owner: str) -> tuple[str, ...]:
    return tuple(object_store(owner, slot) for slot in SLOT_NAMES)


def derive(seed: str, environment: str, name: str, generation: int) -> str:
    """A credential: 43 characters of base64url, which no URL, shell or SQL string has to escape.

    It tells nothing about the seed, nor about another credential (HMAC-SHA-256).
    """
    message = "\0".join(("kiban credential v1", environment, name, str(generation)))
    digest = hmac.new(seed.encode(), message.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def read(environment: Environment) -> dict[str, pulumi.Output[str]]:
    """In the program: every credential that the environment needs, as a secret.

    A preview of a stack that has no seed yet gets placeholders: it shows what `up` would make, and changes no file.
    Raises pulumi.RunError elsewhere.
    """
    names = needed(environment)
    config = pulumi.Config()
    kept = config.get_secret(SEED)
    if names and kept is None and not pulumi.runtime.is_dry_run():
        raise pulumi.RunError(
            f"{environment.name}: its stack has no credentials; run `kiban credentials generate {environment.name}`"
        )
    seed: pulumi.Output[str] = kept or pulumi.Output.secret("of a preview")
    generations = config.get_object(GENERATIONS) or {}
    given = {name: config.get_secret(f"{GIVEN}{name}") for name in names}
    for name in outside(environment):
        if given[name] is None:
            raise pulumi.RunError(_not_given(environment.name, name))

    def one(name: str) -> pulumi.Output[str]:
        generation = int(generations.get(name, 1))
        return given[name] or seed.apply(lambda known: derive(known, environment.name, name, generation))

    return {name: one(name) for name in names}


def _not_given(command: str, name: str) -> str:
    return f"{command}: credential {name!r} is not Kiban's to generate; run `kiban credentials set {command} {name}`"


def slots(environment: Environment) -> dict[str, str]:
    """In the program: which of its two accounts each team's pods are handed. Raises pulumi.RunError for another."""
    kept = pulumi.Config().get_object(SLOTS) or {}
    for team, slot in kept.items():
        if slot not in SLOT_NAMES:
            raise pulumi.RunError(f"kiban:{SLOTS}: {team}={slot!r}; accepted: {', '.join(SLOT_NAMES)}")
    return {team.name: kept.get(team.name, SLOT_NAMES[0]) for team in environment.teams}


def ensure(
    stack: Configuration, environment: Environment, *, asked: bool, in_use: Callable[[], bool], say: Say
) -> bool:
    """Give the stack a seed if its environment needs one and it has none; return whether it did.

    asked: by the user, who can commit the file that changes. Unasked, a stack whose configuration is committed is
    refused: a seed that a job of continuous integration made would be gone with its checkout.
    in_use: whether the cluster has databases of this environment already, which know passwords of another seed.
    Raises BadInput where it has: the configuration was lost, and new credentials would not open them. Also where a
    credential of something outside was not given.
    """
    if not needed(environment):
        return False
    kept = stack.configuration()
    for name in outside(environment):
        if f"{GIVEN}{name}" not in kept:
            raise BadInput(_not_given(stack.command, name))
    if SEED in kept:
        return False
    if in_use():
        raise BadInput(
            f"{stack.command}: its configuration has no kiban:{SEED}, but the cluster has databases that were made "
            f"with one; bring back {stack.committed or 'the configuration file'} as it was"
        )
    if stack.committed and not asked:
        raise BadInput(
            f"{stack.command}: its stack has no credentials yet; run `kiban credentials generate {stack.command}` and "
            f"commit {stack.committed}"
        )
    stack.configure(SEED, secrets.token_urlsafe(_BYTES), secret=True)
    _changed(stack, "generated the credentials", say)
    return True


def items(stack: Configuration, environment: Environment) -> list[dict[str, Any]]:
    """An item a credential: where it comes from, how often it was replaced, whether pods are handed it. No values."""
    kept = stack.configuration()
    generations = kept.get(GENERATIONS, {})
    chosen = kept.get(SLOTS, {})
    spare = {
        object_store(team.name, slot)
        for team in environment.teams
        for slot in SLOT_NAMES
        if slot != chosen.get(team.name, SLOT_NAMES[0])
    }

    def source(name: str) -> str:
        if f"{GIVEN}{name}" in kept:
            return "given"
        return "generated" if SEED in kept and name not in outside(environment) else "missing"

    return [
        {
            "credential": name,
            "source": source(name),
            "generation": int(generations.get(name, 1)),
            "handed_out": name not in spare,
        }
        for name in needed(environment)
    ]


def rotate_team(stack: Configuration, environment: Environment, team: str, *, say: Say) -> dict[str, Any]:
    """Renew the object-store key that the team's pods do not have, and choose it for them from the next `up` on.

    A key of an external store is renewed there and given with `credentials set`; here it is only chosen.
    """
    teams = [each.name for each in environment.teams] if needed(environment) else []
    if team not in teams:
        raise BadInput(f"team {team!r}; accepted: {', '.join(teams) or 'none'}")
    kept = stack.configuration()
    chosen = kept.get(SLOTS, {}).get(team, SLOT_NAMES[0])
    spare = next(slot for slot in SLOT_NAMES if slot != chosen)
    name = object_store(team, spare)
    if f"{GIVEN}{name}" in kept:
        item = {"credential": name, "source": "given"}
    elif name in outside(environment):
        raise BadInput(_not_given(stack.command, name))
    else:
        item = _renew(stack, name)  # before it is chosen: cut off in between, the pods keep the one that they have
    stack.configure(f"{SLOTS}.{team}", spare)
    _changed(stack, f"chose {name} for team {team}", say)
    say(
        f"`kiban up {stack.command}` hands it out; pods that run keep {object_store(team, chosen)}, "
        "which stays valid until the next rotation"
    )
    return item


def rotate(stack: Configuration, environment: Environment, name: str, *, say: Say) -> dict[str, Any]:
    """Renew one credential from the next `up` on, which restarts what has it. Raises BadInput for a given one."""
    for team in environment.teams:
        if name in _keys(team.name):
            raise BadInput(
                f"credential {name!r}: pods may hold it; run `kiban credentials rotate {stack.command} "
                f"--team {team.name}`"
            )
    accepted = [each for each in needed(environment) if not any(each in _keys(t.name) for t in environment.teams)]
    if name not in accepted:
        raise BadInput(f"credential {name!r}; accepted: {', '.join(accepted) or 'none'}")
    if f"{GIVEN}{name}" in stack.configuration() or name in outside(environment):
        raise BadInput(
            f"credential {name!r}: it was given; run `kiban credentials set {stack.command} {name}` with the new value"
        )
    item = _renew(stack, name)
    _changed(stack, f"renewed {name}", say)
    return item


def give(stack: Configuration, environment: Environment, name: str, value: str, *, say: Say) -> dict[str, Any]:
    """Take a value from the user for a credential that something outside knows: an external database's password."""
    if name not in needed(environment):
        raise BadInput(f"credential {name!r}; accepted: {', '.join(needed(environment)) or 'none'}")
    if not re.fullmatch(r"[^\s\0]+", value):
        raise BadInput(f"credential {name!r}: a value of {len(value)} characters; accepted: some, without white space")
    stack.configure(f"{GIVEN}{name}", value, secret=True)
    _changed(stack, f"took the value of {name}", say)
    return {"credential": name, "source": "given"}


def _renew(stack: Configuration, name: str) -> dict[str, Any]:
    """Count the credential up; before the first time it is at 1."""
    generation = int(stack.configuration().get(GENERATIONS, {}).get(name, 1)) + 1
    stack.configure(f"{GENERATIONS}.{name}", str(generation))
    return {"credential": name, "source": "generated", "generation": generation}


def _changed(stack: Configuration, done: str, say: Say) -> None:
    commit = f"; {stack.committed} changed: commit it" if stack.committed else ""
    say(f"{stack.command}: {done}{commit}")

"""PULUMI_HOME as Kiban lays it out: plugins and commands as links to the tools, no logs; and a stack's passphrase.

Which home, and what else pulumi is told, is said in infra/target.py.
"""

import importlib.metadata
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.errors import BadInput

PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
# Pulumi keeps a verbose log of every run in a folder of this name, and spends two fifths of the engine's time on it.
# Where it cannot make the folder it goes without.
_NO_LOGS = "A file, so that Pulumi keeps no logs here. To see all that it does: pulumi --logtostderr -v=9\n"


def lay_out(home: Path, tools: Mapping[str, Path], user: Mapping[str, str]) -> None:
    """Give pulumi its plugins, each under the name and version that it looks for, and the shell its two commands."""
    plugins = {
        f"language-python-v{importlib.metadata.version('pulumi')}/pulumi-language-python": language_host(user),
        f"resource-kubernetes-v{importlib.metadata.version('pulumi-kubernetes')}/pulumi-resource-kubernetes": tools[
            "pulumi-resource-kubernetes"
        ],
    }
    links = {f"plugins/{name}": path for name, path in plugins.items()}
    links |= {f"bin/{name}": tools[name] for name in ("pulumi", "kubectl")}
    for name, path in links.items():
        link = home / name
        if link.is_symlink() and link.readlink() == path:
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        draft = link.with_name(f"{link.name}.{secrets.token_hex(8)}")
        draft.symlink_to(path)
        draft.replace(link)
    write(home / "logs", _NO_LOGS)


def language_host(user: Mapping[str, str]) -> Path:
    """The official Python language host if it is on PATH, else Kiban's own, beside the running Python.

    Pulumi itself prefers one that lies beside its own binary, where the official archive has it.
    """
    own = Path(sys.executable).with_name("pulumi-language-python")
    for folder in user.get("PATH", "").split(os.pathsep):
        found = shutil.which(own.name, path=folder)
        if found and not _is_script(Path(found)):  # a script is Kiban's, of this or another checkout
            return Path(found)
    return own


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def write(path: Path, text: str) -> None:
    """Have the file say this, at no moment something half."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.write_text(text)
    draft.replace(path)


def make_passphrase(file: Path, *, needed_by: Path) -> None:
    """Write a new passphrase, readable by the user alone, unless there is one. Safe for two processes at once.

    Raises BadInput if the stack's configuration `needed_by` was made with a passphrase that is not here.
    """
    if file.exists():
        return
    if needed_by.exists():
        raise BadInput(
            f"{needed_by}: made with a passphrase of yours; set {PASSPHRASE[0]} or {PASSPHRASE[1]} as it was then"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_urlsafe(32))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        file.hardlink_to(draft)
    except FileExistsError:  # another process was first
        pass
    finally:
        draft.unlink()

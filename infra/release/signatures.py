"""SSH signatures of files, by the ssh-keygen that is there: who signed, and whether that key counted at that time.

A signature of FILE is FILE.sig (`ssh-keygen -Y sign`); who may sign is a list in OpenSSH's format ALLOWED SIGNERS
(ssh-keygen(1)). Times in it that do not end in Z are taken for UTC, so that every machine reads the same.
"""

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

from infra.errors import BadInput, CouldNotRun
from infra.release import canonical

RELEASE, APPROVAL, RECORD = "kiban-release", "kiban-approval", "kiban-record"
"""What a signature is for: one that was made for another purpose does not count."""
_NOT_NOW = re.compile(r"^[^\n]*:\d+: (key (?:has expired|is not yet valid|is not permitted)[^\n]*)", re.MULTILINE)
_CHANGED, _OTHER = "incorrect signature", "namespace does not match"
_KEY = re.compile(r"SHA256:\S+")


class BadSignature(ValueError):
    """A file is not validly signed; the message is why, in one line."""


def sign(file: Path, key: Path, namespace: str) -> Path:
    """Sign a file and return the signature's, which takes an older one's place.

    key: a private key, or the public one of a key that the agent has. Raises BadInput where it cannot sign.
    """
    done = _ssh_keygen("sign", "-q", "-f", str(key), "-n", namespace, data=file.read_bytes())
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else "ssh-keygen cannot sign with it"
        raise BadInput(f"--key {key}: {why}; accepted: an SSH key; {file.name} was not signed")
    signature = signature_of(file)
    canonical.put(signature, done.stdout)
    return signature


def signature_of(file: Path) -> Path:
    """Where a file's signature is."""
    return file.with_name(f"{file.name}.sig")


def signer(file: Path, signers: Path, namespace: str, at: dt.datetime) -> str:
    """The principal who has validly signed a file, of those whose keys the list allows at that time (with a zone).

    Raises BadSignature where there is none.
    """
    signature = signature_of(file)
    if not signature.is_file():
        raise BadSignature(f"{file.name}: there is no signature")
    if not signers.is_file():
        raise BadSignature(f"{signature.name}: nobody may sign: there is no {signers.name}")
    data = file.read_bytes()
    key = _key(signature, namespace, data)
    when = f"-Overify-time={at.astimezone(dt.UTC):%Y%m%d%H%M%S}"
    lists = ("-s", str(signature), "-f", str(signers), when)
    listed = _ssh_keygen("find-principals", *lists)
    said = listed.stderr
    for principal in listed.stdout.decode().splitlines():
        if re.search(r"[*?!]", principal):
            raise BadSignature(f"{signature.name}: {signers.name} has {principal!r}; accepted: a name, not a pattern")
        verified = _ssh_keygen("verify", *lists, "-I", principal, "-n", namespace, data=data)
        if verified.returncode == 0:
            return principal
        said += verified.stderr
    why = _NOT_NOW.search(said.decode(errors="replace"))
    raise BadSignature(f"{signature.name}: {why[1] if why else f'key {key} is not in {signers.name}'}")


def _key(signature: Path, namespace: str, data: bytes) -> str:
    """The fingerprint of the key by which the data are signed, whoever's it is. Raises BadSignature."""
    done = _ssh_keygen("check-novalidate", "-n", namespace, "-s", str(signature), data=data)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode == 0 and (key := _KEY.search(said)):
        return key[0]
    if _CHANGED in said:
        raise BadSignature(f"{signature.name}: the file was changed after it was signed")
    if _OTHER in said:
        raise BadSignature(f"{signature.name}: signed for another purpose than {namespace}")
    raise BadSignature(f"{signature.name}: no SSH signature")


def _ssh_keygen(verb: str, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", verb, *words],  # noqa: S607 - whichever there is
            input=data,
            env={**os.environ, "TZ": "UTC"},
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise CouldNotRun("ssh-keygen is not installed; signatures are made and verified by OpenSSH") from None

"""Who has signed a file, asked of the real ssh-keygen, and every reason for which a signature does not count."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import BadInput, CouldNotRun
from infra.release import signatures
from infra.release.signatures import APPROVAL, RELEASE, BadSignature
from tests.release.bundle import allow, key

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def ann(tmp_path: Path) -> Path:
    """Ann's key."""
    return key(tmp_path / "keys", "ann")


@pytest.fixture
def file(tmp_path: Path, ann: Path) -> Path:
    """A file that Ann has signed as a release."""
    made = tmp_path / "a.json"
    made.write_text("{}\n")
    assert signatures.sign(made, ann, RELEASE) == tmp_path / "a.json.sig"
    return made


@pytest.fixture
def signers(tmp_path: Path) -> Path:
    """A list of those who may sign that has Bob alone."""
    made = tmp_path / "signers"
    allow(made, "bob@example.org", key(tmp_path / "keys", "bob"))
    return made


def test_who_has_signed_is_found(file: Path, signers: Path, ann: Path) -> None:
    """By the name that the list gives the key, whichever the order."""
    allow(signers, "ann@example.org", ann, f'namespaces="{RELEASE},{APPROVAL}",valid-after="20260101Z"')
    assert signatures.signer(file, signers, RELEASE, AT) == "ann@example.org"


@pytest.mark.parametrize("before", ["20260601120000", "20260601120000Z"])
def test_a_key_counts_until_it_expires(
    file: Path, signers: Path, ann: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the second, in UTC, wherever the machine is and whichever zone is asked in."""
    monkeypatch.setenv("TZ", "EST5")
    allow(signers, "ann@example.org", ann, f'valid-before="{before}"')
    zone = dt.timezone(dt.timedelta(hours=9))
    just = (AT - dt.timedelta(seconds=1)).astimezone(zone)
    assert signatures.signer(file, signers, RELEASE, just) == "ann@example.org"
    with pytest.raises(BadSignature, match=r"^a\.json\.sig: key has expired: verify time 2026-06-01T12:00:01 > "):
        signatures.signer(file, signers, RELEASE, AT + dt.timedelta(seconds=1))


def test_a_key_that_expired_counts_where_another_line_has_it(file: Path, signers: Path, ann: Path) -> None:
    """Who renews a key's time may leave the old line."""
    allow(signers, "ann@example.org", ann, 'valid-before="20200101Z"')
    allow(signers, "ann.smith@example.org", ann)
    assert signatures.signer(file, signers, RELEASE, AT) == "ann.smith@example.org"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ('valid-after="20300101Z"', "key is not yet valid"),
        (f'namespaces="{APPROVAL}"', f'key is not permitted for use in signature namespace "{RELEASE}"'),
    ],
)
def test_a_key_that_may_not_sign_this_now_is_refused(
    file: Path, signers: Path, ann: Path, options: str, why: str
) -> None:
    """The list says what a key is for, and when."""
    allow(signers, "ann@example.org", ann, options)
    with pytest.raises(BadSignature, match=why):
        signatures.signer(file, signers, RELEASE, AT)


def test_a_pattern_is_nobodys_name(file: Path, signers: Path, ann: Path) -> None:
    """It would be anybody's."""
    allow(signers, "*@example.org", ann)
    with pytest.raises(BadSignature, match=r"'\*@example\.org'; accepted: a name, not a pattern"):
        signatures.signer(file, signers, RELEASE, AT)


def test_a_key_that_is_not_listed_is_refused(file: Path, signers: Path) -> None:
    """It is named by its fingerprint. A list that nobody can read allows nobody."""
    with pytest.raises(BadSignature, match=r"key SHA256:\S+ is not in signers"):
        signatures.signer(file, signers, RELEASE, AT)
    signers.write_text("ann@example.org\n")
    with pytest.raises(BadSignature, match="is not in signers"):
        signatures.signer(file, signers, RELEASE, AT)
    signers.unlink()
    with pytest.raises(BadSignature, match="nobody may sign: there is no signers"):
        signatures.signer(file, signers, RELEASE, AT)


def _cut_short(signature: Path) -> None:
    signature.write_bytes(signature.read_bytes()[:-60])


def _one_digit(signature: Path) -> None:
    lines = signature.read_text().splitlines()
    lines[-2] = lines[-2][:-5] + ("A" if lines[-2][-5] != "A" else "B") + lines[-2][-4:]
    signature.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_cut_short, r"a\.json\.sig: no SSH signature"),
        (lambda signature: signature.write_bytes(b""), "no SSH signature"),
        (_one_digit, "changed after it was signed"),
        (lambda signature: signature.with_suffix("").write_text("{ }\n"), "the file was changed after it was signed"),
        (lambda signature: signature.unlink(), r"a\.json: there is no signature"),
    ],
)
def test_what_was_spoilt_is_found(
    file: Path, signers: Path, ann: Path, spoil: Callable[[Path], object], why: str
) -> None:
    """The signature, or what it is of."""
    allow(signers, "ann@example.org", ann)
    spoil(signatures.signature_of(file))
    with pytest.raises(BadSignature, match=why):
        signatures.signer(file, signers, RELEASE, AT)


def test_a_signature_counts_for_its_purpose_alone(file: Path, signers: Path, ann: Path) -> None:
    """Else who has signed a release would have approved it."""
    allow(signers, "ann@example.org", ann)
    with pytest.raises(BadSignature, match=f"signed for another purpose than {APPROVAL}"):
        signatures.signer(file, signers, APPROVAL, AT)


def test_signing_again_takes_the_signatures_place(file: Path, signers: Path, tmp_path: Path) -> None:
    """A key that has expired is followed by a new one."""
    signatures.sign(file, tmp_path / "keys" / "bob", RELEASE)
    assert signatures.signer(file, signers, RELEASE, AT) == "bob@example.org"


@pytest.mark.parametrize("name", ["absent", "a.json"])
def test_what_cannot_sign_is_refused(file: Path, tmp_path: Path, name: str) -> None:
    """The signature that is there stays."""
    before = signatures.signature_of(file).read_bytes()
    with pytest.raises(BadInput, match=rf"--key .*{name}: .*; accepted: an SSH key; a\.json was not signed"):
        signatures.sign(file, tmp_path / name, RELEASE)
    assert signatures.signature_of(file).read_bytes() == before


def test_without_openssh_nothing_is_said_of_a_signature(
    file: Path, signers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that it counts nor that it does not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotRun, match="ssh-keygen is not installed"):
        signatures.signer(file, signers, RELEASE, AT)

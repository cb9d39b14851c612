"""Who is who in an embedded cluster: subjects, names, what may sign what, and who may read the keys."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.clusters.embedded import pki

SERVED_AT = ("198.19.0.2", "10.64.0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a cluster's certificates."""
    made = tmp_path_factory.mktemp("cluster") / "pki"
    pki.ensure(made, addresses=SERVED_AT)
    return made


def certificate(folder: Path, name: str) -> x509.Certificate:
    """Return a certificate by its file's name."""
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


@pytest.mark.parametrize(
    ("name", "user", "group"),
    [
        ("admin", "kiban-admin", ["system:masters"]),
        ("kube-controller-manager", "system:kube-controller-manager", []),
        ("kube-scheduler", "system:kube-scheduler", []),
        ("kwok", "kiban:kwok", []),
    ],
)
def test_each_client_is_its_own_user(folder: Path, name: str, user: str, group: list[str]) -> None:
    """A client's certificate names the user and group that Kubernetes expects, is for clients only, from the CA."""
    made = certificate(folder, name)
    assert [part.value for part in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    assert [part.value for part in made.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == group
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    made.verify_directly_issued_by(certificate(folder, "ca"))


def test_the_api_server_is_known_by_its_addresses(folder: Path) -> None:
    """The API server's certificate holds the link's address, the first ClusterIP and the Service's DNS names."""
    names = certificate(folder, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", *SERVED_AT}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_authorities_are_apart(folder: Path) -> None:
    """The front proxy and etcd have authorities of their own: a client of one is nobody to the others."""
    certificate(folder, "front-proxy").verify_directly_issued_by(certificate(folder, "front-proxy-ca"))
    certificate(folder, "etcd-client").verify_directly_issued_by(certificate(folder, "etcd-ca"))
    with pytest.raises(ValueError, match="Issuer"):
        certificate(folder, "front-proxy").verify_directly_issued_by(certificate(folder, "ca"))


def test_nobody_else_reads_them(folder: Path) -> None:
    """Every file is its owner's alone, in a folder that is too."""
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_what_is_there_is_kept_and_a_moved_address_is_signed_anew(folder: Path) -> None:
    """A second run changes no file; with another address the pairs that serve at it are made anew."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pki.ensure(folder, addresses=SERVED_AT)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    pki.ensure(folder, addresses=("198.19.0.6", "10.64.0.1"))
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {f"{name}.{kind}" for name in ("apiserver", "kubelet") for kind in ("crt", "key")}

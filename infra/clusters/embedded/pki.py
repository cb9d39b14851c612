"""The certificates of one embedded cluster: who is who. Keys are EC P-256 (fast to make), files mode 0600.

Everything lasts ten years: a throwaway cluster has no renewal. Nothing here is for a cluster that others reach.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.clusters import files

CLIENTS = {
    "admin": ("kiban-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kwok": ("kiban:kwok", None),
    "karpenter-kwok": ("kiban:karpenter", None),
    "kubelet-client": ("kiban:kube-apiserver-kubelet-client", None),
    "kube-proxy": ("system:kube-proxy", None),
    "kube-router": ("kiban:kube-router", None),
    "local-path": ("kiban:local-path", None),
    "simulated-provider": ("kiban:simulated-provider", None),
}
_KUBELET = ("system:node:host", "system:nodes")
_AUTHORITIES = {"ca": "kiban", "front-proxy-ca": "kiban-front-proxy", "etcd-ca": "kiban-etcd"}
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_VALID = dt.timedelta(days=3653)
_BACKDATED = dt.timedelta(days=1)  # a virtual machine's clock can be set back after the certificate was made


def ensure(folder: Path, *, addresses: Sequence[str]) -> None:
    """Make what is missing in `folder`; `addresses` are where the API server is reached."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, common in _AUTHORITIES.items():
        _make(folder, name, common, issuer=None)
    for name, (common, group) in CLIENTS.items():
        _make(folder, name, common, group=group, issuer="ca")
    common, group = _KUBELET
    _make(folder, "kubelet", common, group=group, issuer="ca", served_at=("host", *addresses))
    # its webhooks are served where it is a client, too
    _make(folder, "cluster-api", "kiban:cluster-api", issuer="ca", served_at=("127.0.0.1",))
    _make(folder, "front-proxy", "front-proxy-client", issuer="front-proxy-ca")
    _make(folder, "etcd-client", "kube-apiserver", issuer="etcd-ca")
    _make(folder, "etcd", "etcd", issuer="etcd-ca", served_at=("localhost", "127.0.0.1"))
    _make(folder, "apiserver", "kube-apiserver", issuer="ca", served_at=(*_NAMES, "localhost", "127.0.0.1", *addresses))
    if not (folder / "service-accounts.pub").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        files.replace(folder / "service-accounts.key", _private(key))
        files.replace(folder / "service-accounts.pub", _public(key))


def _make(
    folder: Path,
    name: str,
    common: str,
    *,
    issuer: str | None,
    group: str | None = None,
    served_at: Sequence[str] = (),
) -> None:
    """Write NAME.key and then NAME.crt, unless a certificate for the same names is there."""
    names = sorted(set(served_at))
    path = folder / f"{name}.crt"
    if path.exists() and _served_at(path) == names:
        return
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if group is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    subject = x509.Name(parts)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(_usage(authority=issuer is None), critical=True)
    )
    if issuer is None:
        builder, signer = builder.issuer_name(subject), key
    else:
        authority = x509.load_pem_x509_certificate((folder / f"{issuer}.crt").read_bytes())
        builder, signer = builder.issuer_name(authority.subject), _load(folder / f"{issuer}.key")
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if names:  # etcd is a client of its own peer address, too
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    files.replace(folder / f"{name}.key", _private(key))
    files.replace(path, builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _served_at(path: Path) -> list[str]:
    """The alternative names of a certificate, sorted."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted(str(name.value) for name in names)


def _load(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} is not an elliptic-curve key")
    return key


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    # PKCS#8 of EC keys is read by every component for TLS, and for service accounts too
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

"""A certificate authority of the sandbox's own, as Enterprise servers have one, and a server's certificate from it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = timedelta(days=30)  # no sandbox runs that long
AUTHORITY = "authority.pem"  # what clients are to trust: `SSL_CERT_FILE`


def server(directory: Path, host: str) -> ssl.SSLContext:
    """The context of a server at this address; the authority's certificate is beside its own in the directory."""
    authority, signer = _certificate("Telefonistka sandbox authority", None, None, ())
    names = (x509.IPAddress(ip_address(host)), x509.DNSName("localhost"))
    certificate, key = _certificate(host, authority, signer, names)
    (directory / AUTHORITY).write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    chain = directory / "server.pem"
    chain.touch(mode=0o600)
    chain.write_bytes(_private(key) + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return context


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey | None,
    names: tuple[x509.GeneralName, ...],
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and its key; without an issuer it is an authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    moment = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(minutes=5))
        .not_valid_after(moment + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signing = signer or key
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    return builder.add_extension(above, critical=False).sign(signing, hashes.SHA256()), key


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

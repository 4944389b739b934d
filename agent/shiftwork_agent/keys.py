"""The agent's key and certificate requests. Imported by `join` and run as a child of the daemon, never inside it."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shiftwork_agent import identity
from shiftwork_agent.identity import Identity
from shiftwork_agent.layout import Layout
from shiftwork_contract.errors import InvalidRequest, ShiftworkError
from shiftwork_contract.messages import Certificate

RENEW_AFTER = 2 / 3
"""Of a certificate's life."""


def new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def fingerprint(key_pem: bytes) -> str:
    """Hex SHA-256 of the public key in DER, as the coordinator shows it."""
    public = serialization.load_pem_private_key(key_pem, None).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def request(key_pem: bytes, name: str) -> str:
    """A CSR in PEM; the coordinator decides what the certificate says in the end."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def renewal_proof(key_pem: bytes, nonce: str, csr: str) -> str:
    """Our key's signature, in base64, over what the coordinator's pki.py makes of the same."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = key.sign(f"shiftwork renewal\n{nonce}\n{csr}".encode(), ec.ECDSA(hashes.SHA256()))
    return base64.b64encode(signed).decode()


def described(certificate_pem: bytes, key_pem: bytes, *, instance: str, name: str) -> Identity:
    """The identity that this certificate gives. Raises InvalidRequest when it is not for this key."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as err:
        raise InvalidRequest(f"cannot read the certificate that the coordinator sent: {err}") from err
    key = serialization.load_pem_private_key(key_pem, None)
    if certificate.public_key() != key.public_key():
        raise InvalidRequest("cannot use the certificate that the coordinator sent: it is for another key")
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    return Identity(instance, name, begins + RENEW_AFTER * (ends - begins), ends)


def install(layout: Layout, message: Certificate) -> None:
    """Raises InvalidRequest when the certificate is not for our key."""
    about = identity.load(layout)
    renewed = described(message.certificate.encode(), layout.key.read_bytes(), instance=about.instance, name=about.name)
    identity.save(layout, renewed, certificate=message.certificate.encode(), ca=message.ca.encode())


def main(arguments: list[str]) -> int:
    verb, layout = arguments[0], Layout(Path(arguments[1]))
    try:
        if verb == "request":
            sys.stdout.write(request(layout.key.read_bytes(), identity.load(layout).name))
        else:
            install(layout, msgspec.json.decode(sys.stdin.buffer.read(), type=Certificate))
    except ShiftworkError as err:
        sys.stderr.write(err.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

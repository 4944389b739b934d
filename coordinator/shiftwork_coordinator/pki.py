"""The embedded certificate authority: made by the first `serve`, its key never leaves the data directory."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.ports import Clock

CA_DAYS, SERVER_DAYS, AGENT_DAYS = 3650, 365, 30
SKEW = datetime.timedelta(minutes=5)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Issued(tuple[str, str]):
    """(certificate in PEM, serial in hex)."""

    @property
    def certificate(self) -> str:
        return self[0]

    @property
    def serial(self) -> str:
        return self[1]


class Shown(msgspec.Struct, frozen=True):
    """What a certificate of this CA says; `expires` in Unix time."""

    name: str
    serial: str
    expires: float


class Authority:
    """The CA in `directory`, made there when it is missing."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory, self._clock = directory, clock
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (directory / "ca.pem").exists():
            self._make()
        self.pem = (directory / "ca.pem").read_text()
        self._certificate = x509.load_pem_x509_certificate(self.pem.encode())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the certificate in DER; a join token ends with its first 32 digits."""
        return hashlib.sha256(self._certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def issue(self, csr: str, instance: str) -> Issued:
        """A client certificate of 30 days for the key in `csr`. Whatever name the CSR asks for is not used."""
        if not NAME.fullmatch(instance):
            raise InvalidRequest(
                f"cannot issue a certificate for {instance[:80]!r}: an instance name has 1 to 63 letters, digits,"
                " dots, underscores and hyphens, and begins with a letter or digit"
            )
        builder = self._builder(instance, _requested_key(csr), AGENT_DAYS)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._sign(builder.add_extension(usage, critical=False))

    def held(self, certificate: str, csr: str, nonce: str, signature: str) -> Shown | None:
        """The certificate's content, when this CA has signed it, `csr` is for the same key, and that key has signed
        both the nonce and the request. Its dates are not looked at."""
        try:
            found = x509.load_pem_x509_certificate(certificate.encode())
            found.verify_directly_issued_by(self._certificate)
            key = found.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or _requested_key(csr) != key:
                return None
            signed = base64.b64decode(signature, validate=True)
            key.verify(signed, renewal_proof(nonce, csr), ec.ECDSA(hashes.SHA256()))
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InvalidRequest):
            return None
        name = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return Shown(str(name), f"{found.serial_number:x}", found.not_valid_after_utc.timestamp())

    def server_context(self, names: Iterable[str]) -> ssl.SSLContext:
        """TLS 1.2 or later, client certificates of this CA asked for and not required."""
        certificate, key = self._server_files(sorted(set(names)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(cadata=self.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _server_files(self, names: list[str]) -> tuple[Path, Path]:
        """Made again at each start: it costs nothing, so it is never near its end nor names the wrong hosts."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("shiftwork coordinator", key.public_key(), SERVER_DAYS)
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        paths = self._directory / "server.pem", self._directory / "server.key"
        paths[0].write_text(self._sign(builder).certificate)
        _write_key(paths[1], key)
        return paths

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> Issued:
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return Issued((pem, f"{certificate.serial_number:x}"))

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Shiftwork CA")])
        now = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(self._directory / "ca.key", key)
        whole = self._directory / "ca.pem.new"  # a CA exists once ca.pem does, and then it is complete
        whole.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        whole.rename(self._directory / "ca.pem")


def renewal_proof(nonce: str, csr: str) -> bytes:
    """What the old key signs; the agent's keys.py has the same."""
    return f"shiftwork renewal\n{nonce}\n{csr}".encode()


def key_fingerprint(csr: str) -> str:
    """Hex SHA-256 of the public key in DER, for people to compare with what the host shows."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(_requested_key(csr).public_bytes(encoding, form)).hexdigest()


def _requested_key(csr: str) -> ec.EllipticCurvePublicKey:
    """The key that a certificate is asked for, proven to be the asker's."""
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key, sound = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as err:
        raise InvalidRequest(f"cannot read the certificate request: {err}") from err
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidRequest(
            "cannot use the certificate request: its key is not one of an elliptic curve, such as P-256"
        )
    if not sound:
        raise InvalidRequest("cannot use the certificate request: it is not signed by its own key")
    return key


def _usage(**allowed: bool) -> x509.KeyUsage:
    """Strict clients, such as Python from 3.13 on, want this and the key identifiers."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(pem)

"""The embedded CA: what it signs, what it refuses, and that strict clients trust it."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.pki import Authority

from .conftest import key_and_csr


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", SystemClock())


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def strict(authority: Authority) -> ssl.SSLContext:
    """As Python 3.13 makes its default context."""
    context = ssl.create_default_context(cadata=authority.pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_a_strict_client_trusts_the_server_and_is_known_to_it(authority: Authority, tmp_path: Path) -> None:
    key, csr = key_and_csr(tmp_path, "web-1")
    issued = authority.issue(csr, "web-1")
    path = tmp_path / "web-1.pem"
    path.write_text(issued.certificate)
    client = strict(authority)
    client.load_cert_chain(path, key)
    server = authority.server_context(["127.0.0.1"])
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    _, there = shake(client, server)
    shown = there.getpeercert() or {}
    assert shown["subject"] == ((("commonName", "web-1"),),)
    assert int(str(shown["serialNumber"]), 16) == int(issued.serial, 16)


def test_a_name_that_the_server_does_not_have_is_refused(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake(strict(authority), authority.server_context(["192.0.2.1", "example.org"]))


def test_tls_before_1_2_is_not_spoken(authority: Authority) -> None:
    assert authority.server_context(["127.0.0.1"]).minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_authority_outlives_the_process_and_keeps_its_key_to_itself(authority: Authority, tmp_path: Path) -> None:
    authority.server_context(["127.0.0.1"])
    assert Authority(tmp_path / "ca", SystemClock()).fingerprint == authority.fingerprint
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / "ca" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_the_name_in_the_request_is_not_used(authority: Authority, tmp_path: Path) -> None:
    _, csr = key_and_csr(tmp_path, "db-1")
    subject = x509.load_pem_x509_certificate(authority.issue(csr, "web-1").certificate.encode()).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["web-1"]


@pytest.mark.parametrize("name", ["", "-web", "web 1", "web/1", "../web", "w" * 64, "web\n"])
def test_names_that_could_be_mistaken_are_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    _, csr = key_and_csr(tmp_path, "web-1")
    with pytest.raises(InvalidRequest, match="instance name"):
        authority.issue(csr, name)


def test_what_is_no_usable_request_is_refused(authority: Authority, tmp_path: Path) -> None:
    _, csr = key_and_csr(tmp_path, "web-1")
    weak = rsa.generate_private_key(65537, 1024)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    short = builder.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    for given in ("", "no request", csr[:200], short):
        with pytest.raises(InvalidRequest, match="certificate request"):
            authority.issue(given, "web-1")


def test_a_request_signed_by_another_key_is_refused(authority: Authority, tmp_path: Path) -> None:
    _, csr = key_and_csr(tmp_path, "web-1")
    der = bytearray(x509.load_pem_x509_csr(csr.encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(InvalidRequest, match="certificate request"):
        authority.issue(forged, "web-1")

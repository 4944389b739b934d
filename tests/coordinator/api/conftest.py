"""The real application over TLS on loopback, with a client for each kind of caller."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shiftwork_coordinator import joining, tokens
from shiftwork_coordinator.api.server import Services, application
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.metrics import Metrics
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import GroupSettings
from shiftwork_coordinator.pki import Authority
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.store import Bundles, Lease, Outputs, Put, Store


def key_and_csr(directory: Path, name: str) -> tuple[Path, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    path = directory / f"{name}.key"
    encoding = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return path, csr.public_bytes(encoding).decode()


class Site:
    """One running API. `get` and the rest answer (status, decoded JSON)."""

    def __init__(self, services: Services, data: Path) -> None:
        self.services, self.data = services, data
        self.home = services.home
        self.url = ""
        self.operators: dict[str, str] = {}
        self.client: ssl.SSLContext | None = None
        self.stop: Callable[[], Awaitable[None]]

    async def operator(self, role: str) -> str:
        if role not in self.operators:
            asked = tokens.NewToken("operator", role=role)
            self.operators[role] = (await tokens.create(self.home.store, self.home.clock, asked, "test", ""))[1]
        return self.operators[role]

    async def application(self, *names: str) -> None:
        for name in names:
            await self.home.store.write(Put(Group(f"g-of-{name}", name, "some", GroupSettings())))

    async def join_token(self, **options: Any) -> str:
        asked = tokens.NewToken("agent", **options)
        fingerprint = self.services.authority.fingerprint
        return (await tokens.create(self.home.store, self.home.clock, asked, "test", fingerprint))[1]

    async def agent(self, name: str) -> ssl.SSLContext:
        """A joined instance's TLS context."""
        key, csr = key_and_csr(self.data, name)
        asked = joining.Join(await self.join_token(), name, csr)
        _, certificate = await joining.join(self.home.store, self.home.clock, self.services.authority, asked)
        return self.context(certificate, key)

    def context(self, certificate: str = "", key: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.services.authority.pem)
        if key is not None:
            path = key.with_suffix(".pem")
            path.write_text(certificate)
            context.load_cert_chain(path, key)
        return context

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, role: str = "", tls: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {await self.operator(role)}"} if role else {}
        headers |= options.pop("headers", {})
        connector = aiohttp.TCPConnector(ssl=tls or self.context())
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.url + path, headers=headers, **options) as answer,
        ):
            yield answer

    async def json(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.request(method, path, **options) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
async def web_app(site: Site) -> None:
    """The application `web` has a group, so that it takes revisions."""
    await site.application("web")


class IssuingClock(SystemClock):
    """The host's, and `later` seconds more: for certificates of another time than TLS lives in."""

    later = 0.0

    def now(self) -> float:
        return super().now() + self.later


@pytest.fixture
def issuing() -> IssuingClock:
    return IssuingClock()


@pytest.fixture
async def site(tmp_path: Path, database: Path, issuing: IssuingClock) -> AsyncIterator[Site]:
    clock = SystemClock()
    store = await Store.open(database)
    lease = await Lease.take(store, clock, "test")
    home = Coordinator(store, Outputs(tmp_path / "output"), clock, lease.epoch)
    await home.start()
    authority = Authority(tmp_path / "ca", issuing)
    bundles, packages = Bundles(tmp_path / "bundles"), Bundles(tmp_path / "packages")
    site = Site(Services(home, authority, bundles, packages, Metrics(), lease), tmp_path)
    runner = web.AppRunner(application(site.services), shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context(["127.0.0.1"]))
    await listening.start()
    site.stop = runner.cleanup
    site.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()
    await home.stop()
    await store.close()

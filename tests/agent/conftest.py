"""An agent in the test's own event loop, linked to a fake coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.daemon import Agent
from shiftwork_agent.identity import Credentials, Identity
from shiftwork_agent.layout import Layout
from shiftwork_agent.testing import FakeCoordinator, FakeInstaller
from shiftwork_contract.messages import Command, CommandEnded, RunCommand
from shiftwork_contract.revision import Revision


class TestClock(SystemClock):
    """The host's, and `later` seconds more; the wall clock was set by `set_by` seconds."""

    __test__ = False
    later = set_by = 0.0

    def wall(self) -> float:
        return super().wall() + self.later + self.set_by

    def uptime(self) -> float:
        return super().uptime() + self.later


class _Over(Exception):
    pass


class Bench:
    """A coordinator, and agents that are started and stopped on one state directory."""

    def __init__(self, root: Path, coordinator: FakeCoordinator) -> None:
        self.layout = Layout(root / "state")
        self.installer = FakeInstaller(root)
        self.coordinator = coordinator
        self.clock = TestClock()
        self.sequence = 0

    @contextlib.asynccontextmanager
    async def agent(self, **settings: Any) -> AsyncIterator[Agent]:
        self.layout.create()
        who = Credentials(Identity("i-1", "web-1", 2e9, 3e9), settings.pop("context", None))
        config = Config(**({"coordinators": (self.coordinator.url,)} | settings))
        hellos = len(self.coordinator.hellos)
        try:
            async with asyncio.TaskGroup() as tasks:
                agent = Agent(self.layout, config, who, self.clock, tasks, self.installer)
                await agent.start()
                await self.coordinator.linked(hellos + 1)
                yield agent
                await agent.stop()
                raise _Over
        except* _Over:
            pass

    def command(self, *events: str, revision: str = "r1", **fields: Any) -> Command:
        self.sequence = fields.pop("sequence", self.sequence + 1)
        values: dict[str, Any] = {
            "id": f"c-{self.sequence}",
            "deployment_id": "d-1",
            "group_id": "g-1",
            "application": "web",
            "group": "production",
            "sequence": self.sequence,
            "revision": Revision(revision, "coordinator:"),
            "events": events,
        }
        return Command(**(values | fields))

    async def send(self, command: Command) -> None:
        await self.coordinator.send(RunCommand(self.coordinator.epoch, command))

    async def run(self, command: Command) -> CommandEnded:
        await self.send(command)
        return await self.coordinator.expect(CommandEnded, command_id=command.id)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FakeCoordinator() as coordinator:
        yield Bench(tmp_path, coordinator)


@pytest.fixture
def free_port(unused_tcp_port_factory: Callable[[], int]) -> int:
    return unused_tcp_port_factory()


class Authority:
    """A coordinator's CA, and the two routes that joining needs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self._sign("Test CA", self._key.public_key(), ca=True)
        self.joins: list[dict[str, str]] = []
        self.asks: list[dict[str, str]] = []
        self.refusal: tuple[int, str] | None = None
        self.decision: tuple[int, str] = (202, "")

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.ca)).hexdigest()

    @property
    def token(self) -> str:
        return f"swj_tok1_s3cret_{self.fingerprint[:32]}"

    def _sign(self, name: str, key: ec.EllipticCurvePublicKey, *, ca: bool = False) -> str:
        began = datetime.fromtimestamp(SystemClock().wall(), UTC) - timedelta(minutes=5)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def server_context(self) -> ssl.SSLContext:
        """Shows a certificate of this CA, and wants one wherever a client has one."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._root / "server.pem").write_text(self._sign("server", key.public_key()) + pem.decode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._root / "server.pem")
        context.load_verify_locations(cadata=self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def sign_request(self, csr: str) -> str:
        key = x509.load_pem_x509_csr(csr.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._sign("i-fake", key)

    def serve(self, coordinator: FakeCoordinator) -> None:
        async def show_ca(request: web.Request) -> web.Response:
            return web.Response(text=self.ca)

        async def join(request: web.Request) -> web.Response:
            body = await request.json()
            self.joins.append(body)
            if self.refusal:
                return web.json_response({"message": self.refusal[1]}, status=self.refusal[0])
            certificate = self.sign_request(body["csr"])
            answer = {"instance": "i-fake", "certificate": certificate, "ca": self.ca, "coordinators": []}
            return web.json_response(answer)

        async def ask(request: web.Request) -> web.Response:
            self.asks.append(await request.json())
            status, told = self.decision
            if status == 200:
                answer = {"instance": "i-fake", "certificate": self.sign_request(self.asks[-1]["csr"]), "ca": self.ca}
                return web.json_response(answer)
            return web.json_response({"error": {"code": "x", "message": told}}, status=status)

        coordinator.app.router.add_post("/v1/join/requests", ask)
        coordinator.app.router.add_get("/v1/ca.pem", show_ca)
        coordinator.app.router.add_post("/v1/join", join)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest_asyncio.fixture
async def secure(authority: Authority) -> AsyncIterator[FakeCoordinator]:
    """A coordinator with TLS that agents can join."""
    coordinator = FakeCoordinator(tls=authority.server_context())
    authority.serve(coordinator)
    async with coordinator:
        yield coordinator

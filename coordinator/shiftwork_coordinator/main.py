"""`serve`: the composition root."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiohttp import web

from shiftwork_contract.errors import InvalidRequest, ShiftworkError, Unavailable
from shiftwork_contract.messages import FromCoordinator
from shiftwork_coordinator import joining, logs
from shiftwork_coordinator.api.server import Services, application
from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.metrics import Metrics
from shiftwork_coordinator.pki import Authority
from shiftwork_coordinator.pushing import sweep
from shiftwork_coordinator.sealing import Sealer
from shiftwork_coordinator.shell.coordinator import Coordinator
from shiftwork_coordinator.sources import Outside
from shiftwork_coordinator.sources.github import GitHub
from shiftwork_coordinator.sources.s3 import S3
from shiftwork_coordinator.store import Bundles, DataDirectory, Lease, Outputs, Store, prune, prune_upgrades
from shiftwork_coordinator.store.lease import RENEW_EVERY
from shiftwork_coordinator.sts import Sts

log = structlog.get_logger()
SOCKET, SOCKET_PATH_LIMIT = "shiftwork.sock", 107
HOUSE_EVERY = 3600.0
SHUTDOWN = 1.0
"""Seconds that open requests get to end; links and event streams are simply cut."""


def serve(
    data: Path, listen: str, database: str | None = None, config: Path | None = None, names: tuple[str, ...] = ()
) -> int:
    """Runs until SIGTERM or SIGINT. `names` are further host names or addresses for the server's certificate."""
    logs.configure()
    _check_socket_path(data / SOCKET)
    if config is not None:
        raise InvalidRequest("cannot use --config: this version takes all its settings as options")
    if database is not None and "://" in database and not database.startswith("sqlite"):
        raise InvalidRequest(
            f"cannot use the database {database.partition('://')[0] + '://…'!r}: this version has SQLite only"
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(data, listen, database, names))
    return 0


async def _serve(data: Path, listen: str, database: str | None, names: tuple[str, ...]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(_opened(data, database))
        await stack.enter_async_context(_listening(services, data, listen, names))
        _settle_memory()
        notify("READY=1")
        await _until(stopped, _keep_lease(services), _keep_house(services))
        notify("STOPPING=1")
        log.info("stopping")


def _settle_memory() -> None:
    """What is there from now on stays: the collector need not look at it again, and may look at the rest less often.

    A full collection of everything that is imported stops the process for some 90 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _until(stopped: asyncio.Event, *duties: Coroutine[Any, Any, None]) -> None:
    """Runs the duties until the event. Raises what a duty raises: none of them ends by itself."""
    tasks = [asyncio.ensure_future(duty) for duty in (stopped.wait(), *duties)]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    for task in done:
        await task


@asynccontextmanager
async def _opened(data: Path, database: str | None) -> AsyncIterator[Services]:
    """Whatever ends badly, all that was opened before it is closed."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        directory = DataDirectory(data)
        stack.callback(directory.close)
        store = await Store.open(database or data / "shiftwork.db")
        stack.push_async_callback(store.close)
        lease = await Lease.take(store, clock, f"{socket.gethostname()}:{os.getpid()}")
        stack.push_async_callback(lease.release)
        authority, metrics = Authority(data / "ca", clock), Metrics()
        bundles, packages = Bundles(data / "bundles"), Bundles(data / "packages")
        sweep(data / "bundles")
        sweep(data / "packages")

        async def issue(instance: str, csr: str) -> FromCoordinator:
            return await joining.renew(store, clock, authority, instance, csr)

        outside = Outside(store, clock, S3(), GitHub.configured(os.environ), data / "bundles")
        home = Coordinator(
            store, Outputs(data / "output"), clock, lease.epoch, lease.outlasts, metrics.ticked, issue, outside
        )
        stack.push_async_callback(home.stop)
        await home.start()
        sts = Sts(os.environ.get("AWS_ENDPOINT_URL_STS", ""))
        sealer = Sealer(data / "sealing.key")
        yield Services(home, authority, bundles, packages, metrics, lease, sts=sts, sealer=sealer)


async def _keep_lease(services: Services) -> None:
    """Ends, with the reason raised, when the lease is lost: then this process must not act any more.

    It is lost when another has taken it over, or when its time has passed because the database let nobody renew it.
    """
    while True:
        await asyncio.sleep(RENEW_EVERY)
        try:
            await services.lease.renew()
        except Unavailable as err:
            if not services.lease.outlasts(0.0):
                raise
            log.warning("cannot renew the lease; trying again while it lasts", reason=str(err))
        notify("WATCHDOG=1")


async def _keep_house(services: Services) -> None:
    """Removes what is over its age or size, now and then. A round that fails is logged and left to the next one."""
    home = services.home
    while True:
        try:
            await prune(home.store, services.bundles, home.outputs, home.clock.now(), epoch=home.epoch)
            await prune_upgrades(home.store, services.packages, home.clock.now(), epoch=home.epoch)
        except (ShiftworkError, OSError) as err:
            log.warning("cannot remove what is old; trying again later", reason=str(err))
        await asyncio.sleep(HOUSE_EVERY)


@asynccontextmanager
async def _listening(services: Services, data: Path, listen: str, names: tuple[str, ...]) -> AsyncIterator[None]:
    host, port = _address(listen)
    runner = web.AppRunner(application(services), access_log=None, shutdown_timeout=SHUTDOWN, handle_signals=False)
    await runner.setup()
    path = data / SOCKET
    try:
        await web.SockSite(runner, _own_socket(path)).start()
        context = services.authority.server_context(_names(host, names))
        try:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
        except OSError as err:
            raise InvalidRequest(f"cannot listen on {listen}: {err.strerror or err}; give another --listen") from err
        _announce(runner, data, host, path)
        yield
    finally:
        (data / "serve.json").unlink(missing_ok=True)
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _own_socket(path: Path) -> socket.socket:
    """A new local socket that only this user may use, from its first moment on."""
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # of the whole process: nothing is awaited until it is back
    try:
        found.bind(str(path))
    finally:
        os.umask(before)
    path.chmod(0o600)
    return found


def _announce(runner: web.AppRunner, data: Path, host: str, path: Path) -> None:
    """For people, and for the CLI on the same host."""
    port = next(a[1] for a in runner.addresses if isinstance(a, tuple))
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"https://[{shown}]:{port}" if ":" in shown else f"https://{shown}:{port}"
    told = {"url": url, "ca": str(data / "ca" / "ca.pem"), "socket": str(path), "pid": os.getpid()}
    (data / "serve.json").write_text(json.dumps(told))
    print(f"Listening on {url}; local socket {path}", flush=True)


def _check_socket_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT:
        raise InvalidRequest(
            f"cannot open the local socket {path}: its path has {length} bytes, the limit is {SOCKET_PATH_LIMIT};"
            " give a shorter --data"
        )


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidRequest(f"cannot listen on {listen!r}: give HOST:PORT, such as 0.0.0.0:7070")
    return host.strip("[]") or "0.0.0.0", int(port)


def _names(host: str, names: tuple[str, ...]) -> list[str]:
    """Whatever agents may call this host, as far as it can be known here."""
    own = {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn(), *names}
    own |= _own_addresses()
    if host not in ("0.0.0.0", "::"):
        own.add(host)
    return [str(name) for name in own if name]


def _own_addresses() -> set[str]:
    import psutil

    found = (a for addresses in psutil.net_if_addrs().values() for a in addresses)
    return {str(a.address) for a in found if a.family == socket.AF_INET}


def notify(state: str) -> None:
    """Tells systemd, where it is the parent."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + where[1:] if where.startswith("@") else where)
        sock.send(state.encode())

"""Readings: the group's health check, and the few numbers a heartbeat carries."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import HealthCheck, Heartbeat, Probe

ODD = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""What libraries raise for addresses and arguments that cannot be: a port of 99999, an empty label, a NUL."""


class Thresholds:
    """Healthy after `healthy` passes in a row, unhealthy after `unhealthy` failures in a row; at first neither."""

    def __init__(self, check: HealthCheck) -> None:
        self._check = check
        self._healthy: bool | None = None
        self._last: bool | None = None
        self._run = 0

    def after(self, answer: Probe) -> Probe | None:
        """The state after one more answer, with that answer's detail; None while too few were alike."""
        self._run = self._run + 1 if answer.healthy is self._last else 1
        self._last = answer.healthy
        if self._run >= (self._check.healthy if answer.healthy else self._check.unhealthy):
            self._healthy = answer.healthy
        return None if self._healthy is None else Probe(self._healthy, answer.detail)


async def probe(check: HealthCheck) -> Probe:
    """Asks once. Never raises, whatever the check says or meets: that is what it is there to find out."""
    try:
        async with asyncio.timeout(check.timeout):
            return await _ask(check)
    except TimeoutError:
        return Probe(False, f"no answer within {check.timeout:g} s")
    except OSError as err:
        return Probe(False, err.strerror or str(err))
    except InvalidRequest as err:
        return Probe(False, err.message)
    except ODD as err:
        return Probe(False, f"cannot make this check: {str(err)[:200] or type(err).__name__}")


async def _ask(check: HealthCheck) -> Probe:
    if check.http:
        return await _ask_http(check.http)
    if check.tcp:
        return await _ask_tcp(check.tcp)
    if check.command:
        return await _ask_command(check.command)
    raise InvalidRequest(
        "cannot check health: the check names none of http, tcp, command; where require_signed is set, the coordinator"
        " cannot have a command run"
    )


async def _ask_http(url: str) -> Probe:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False, headers={"User-Agent": "shiftwork-agent"}) as answer,
        ):
            return Probe(200 <= answer.status < 400, f"HTTP {answer.status}")
    except aiohttp.ClientError as err:
        return Probe(False, str(err) or type(err).__name__)


async def _ask_tcp(address: str) -> Probe:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise InvalidRequest(f"cannot check {address!r}: write host:port")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return Probe(True, "connected")


async def _ask_command(argv: tuple[str, ...]) -> Probe:
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=null, stderr=null)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Probe(code == 0, f"exit code {code}")


def heartbeat(disk: Path) -> Heartbeat:
    """Load, memory in use, room left where `disk` lies, and this process's own size."""
    room = os.statvfs(disk)
    return Heartbeat(
        load1=os.getloadavg()[0],
        memory_used_percent=_memory_used_percent(),
        disk_free_bytes=room.f_bavail * room.f_frsize,
        agent_rss_bytes=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    )


def _memory_used_percent() -> float:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    total = kib["MemTotal:"]
    return round(100 * (1 - kib.get("MemAvailable:", total) / total), 1)

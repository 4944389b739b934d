"""The group's health check: one question at a time, and what follows from a run of answers."""

from __future__ import annotations

import asyncio
import os
import signal

from shiftwork_agent.readings import has_thresholds
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import HealthCheck, Probe

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
    if has_thresholds(check):
        return Probe(True, "within its limits")
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
    process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=null, stderr=null, start_new_session=True)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:  # what it started is ended too: every round would leave one more
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Probe(code == 0, f"exit code {code}")

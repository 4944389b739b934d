"""Health checks of every kind, well and badly behaved, and the readings of the host that may count as one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shiftwork_agent import readings
from shiftwork_agent.health import probe
from shiftwork_agent.readings import heartbeat, within_limits
from shiftwork_contract.messages import HealthCheck, Observed, Probe, Watch

Bench = Any
SHORT = 0.3


class Listener:
    """Answers each connection with `pieces`, `pause` seconds apart, then closes unless it `holds`."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.pause, self.holds = 0.0, False
        self.port, self.open = 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause)
            if self.holds:
                await reader.read(-1)
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()

    def answers(self, status: str, *headers: str) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""])
        self.pieces = [head.encode()]

    def check(self, **fields: Any) -> HealthCheck:
        return HealthCheck(**({"http": f"http://127.0.0.1:{self.port}/health", "timeout": SHORT} | fields))


@pytest_asyncio.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.mark.parametrize(
    ("status", "healthy"),
    [("200 OK", True), ("204 None", True), ("404 No", False), ("503 No", False), ("100 C", False)],
)
async def test_a_status_decides(listener: Listener, status: str, healthy: bool) -> None:
    listener.answers(status)
    assert (await probe(listener.check())).healthy is healthy


async def test_a_redirect_is_an_answer_and_is_not_followed(listener: Listener, free_port: int) -> None:
    listener.answers("302 Found", f"Location: http://127.0.0.1:{free_port}/nowhere")
    assert await probe(listener.check()) == Probe(True, "HTTP 302")


@pytest.mark.parametrize(
    "pieces",
    [[], [b"HTTP/1.1 200 OK\r\nX: "], [b"HTTP/1.1 "], [b"X: y\r\n" for _ in range(50)]],
    ids=["silent", "half a head", "half a line", "drop by drop"],
)
async def test_an_answer_that_does_not_come_in_time_is_a_failure(listener: Listener, pieces: list[bytes]) -> None:
    listener.pieces, listener.pause, listener.holds = pieces, 0.05, True
    if len(pieces) > 1:
        pieces.insert(0, b"HTTP/1.1 200 OK\r\n")
    assert await probe(listener.check()) == Probe(False, f"no answer within {SHORT:g} s")


async def test_a_slow_answer_within_the_limit_counts(listener: Listener) -> None:
    listener.pieces, listener.pause = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 0\r\n\r\n"], 0.05
    assert (await probe(listener.check(timeout=5.0))).healthy


@pytest.mark.parametrize("pieces", [[b"SSH-2.0-x\r\n"], [b"\0" * 100_000], [b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000]])
async def test_what_is_no_http_is_a_failure(listener: Listener, pieces: list[bytes]) -> None:
    listener.pieces = pieces
    answer = await probe(listener.check())
    assert not answer.healthy and answer.detail


async def test_a_body_without_end_is_not_read(listener: Listener) -> None:
    listener.pieces = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1000] * 1000]
    listener.pause = 0.01
    assert await probe(listener.check(timeout=2.0)) == Probe(True, "HTTP 200")


async def test_tcp_is_healthy_where_a_connection_is_taken(listener: Listener, free_port: int) -> None:
    listener.holds = True
    assert await probe(HealthCheck(tcp=f"127.0.0.1:{listener.port}")) == Probe(True, "connected")
    async with asyncio.timeout(60):
        while listener.open:  # it does not keep the connection
            await asyncio.sleep(0.01)
    assert not (await probe(HealthCheck(tcp=f"127.0.0.1:{free_port}"))).healthy
    assert not (await probe(HealthCheck(http=f"http://127.0.0.1:{free_port}/"))).healthy


@pytest.mark.parametrize("argv", [("no-such-program",), ("sh", "-c", "exit 3"), ("sh", "-c", "kill -9 $$")])
async def test_a_command_that_fails_is_unhealthy(argv: tuple[str, ...]) -> None:
    answer = await probe(HealthCheck(command=argv))
    assert not answer.healthy and answer.detail
    assert (await probe(HealthCheck(command=("true",)))).healthy


async def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! >{tmp_path}/pid; trap '' TERM; wait"
    answer = await probe(HealthCheck(command=("sh", "-c", script), timeout=SHORT))
    assert answer == Probe(False, f"no answer within {SHORT:g} s")
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(60):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_heartbeat_has_numbers(tmp_path: Path) -> None:
    beat = heartbeat(tmp_path, 1234.56)
    assert beat.disk_free_bytes > 0 and beat.agent_rss_bytes > 1 << 20 and 0 < beat.memory_used_percent < 100
    assert beat.cpus == os.cpu_count() and beat.memory_total_bytes > 1 << 26 and 0 < beat.disk_used_percent < 100
    assert 0 < beat.agent_cpu_seconds <= time.process_time() + 0.1 and beat.uptime == 1234.6


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"max_load_per_cpu": 1.5}, "load per CPU is 2.00 (4 CPUs), the limit is 1.5"),
        ({"max_memory_percent": 75.0}, "memory in use is 80 %, the limit is 75 %"),
        ({"min_disk_free": 2000}, "room on the disk of / is 1000 bytes, the least is 2000 bytes"),
        ({"max_load_per_cpu": 2.0, "max_memory_percent": 80.0, "min_disk_free": 1000}, ""),
        ({}, ""),
    ],
)
def test_a_host_beyond_a_threshold_is_unhealthy(
    fields: dict[str, Any], detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings.os, "getloadavg", lambda: (8.0, 0.0, 0.0))
    monkeypatch.setattr(readings.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(readings, "_memory", lambda: (100, 80.0))
    monkeypatch.setattr(readings, "_disk", lambda path: (1000, 50.0))
    healthy, failing = Probe(True, "HTTP 200"), Probe(False, "HTTP 503")
    expected = Probe(False, detail) if detail else healthy
    assert within_limits(HealthCheck(**fields), healthy, Path("/")) == expected
    assert within_limits(HealthCheck(**fields), failing, Path("/")) == failing


async def test_thresholds_alone_are_a_check(bench: Bench) -> None:
    async with bench.agent():
        await bench.coordinator.send(Watch(1, "g-1", 1, HealthCheck(max_memory_percent=100.0, interval=0.05)))
        seen = await bench.coordinator.expect(Observed, group_id="g-1")
        assert seen.probe == Probe(True, "within its limits")
        await bench.coordinator.send(Watch(1, "g-1", 2, HealthCheck(min_disk_free=1 << 60, interval=0.05)))
        async with asyncio.timeout(60):
            while seen.probe.healthy:
                seen = await bench.coordinator.expect(Observed, group_id="g-1")
        assert f"the least is {1 << 60} bytes" in seen.probe.detail

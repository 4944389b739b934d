"""The load generator believes nothing: each way in which a request can fail is made to happen and must be counted."""

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest

from shiftwork_coordinator.clock import SystemClock
from shiftwork_coordinator.demo import traffic
from shiftwork_coordinator.demo.tally import Failure, Tally
from shiftwork_coordinator.demo.traffic import Traffic
from shiftwork_coordinator.demo.wire import Address, Connection, Failed

HEAD = "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Version: v1\r\nX-Host: web-1\r\n\r\n"


class Peer:
    """A server whose every answer is decided by `answer(body)`: the bytes to send, and whether to close then."""

    def __init__(self, answer):
        self.answer, self.connections, self.writers = answer, 0, []

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:] if line)
                body = await reader.readexactly(int(fields["Content-Length"]))
                data, close = self.answer(body)
                writer.write(data)
                await writer.drain()
                if close or "Connection" in fields:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def ok(body=b""):
    body = body or b"hello"
    return HEAD.format(status="200 OK", length=len(body)).encode() + body, False


def short(body):
    return HEAD.format(status="200 OK", length=1000).encode() + b"hel", True


def unavailable(body):
    return HEAD.format(status="503 Service Unavailable", length=2).encode() + b"no", False


def wrong_echo(body):
    return ok(body[::-1] if body else b"hello")


@asynccontextmanager
async def serving(answer):
    peer = Peer(answer)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    async with server:
        yield peer, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def sent(url, count, rate=500.0):
    """The result of a run that is stopped once `count` requests left."""
    load = Traffic(url, rate, SystemClock(), seed=1)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(load.run())
        while load.tally.sent < count:
            await asyncio.sleep(0.005)
        load.stop()
    return running.result()


async def test_a_good_server_fails_nothing():
    async with serving(ok) as (_, url):
        result = await sent(url, 100)
    assert result.failed == 0
    assert result.by_version == {"v1": result.sent}
    assert result.hosts == ("web-1",)


async def test_half_of_the_requests_share_connections():
    async with serving(ok) as (peer, url):
        result = await sent(url, 200)
    assert 0.35 * result.sent < peer.connections < 0.75 * result.sent


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (short, "body cut after 3 of 1000 bytes"),
        (unavailable, "status 503"),
        (lambda body: (b"", True), "connection closed, no answer"),
        (lambda body: (b"HTTP/1.1 200 OK\r\nCont", True), "connection closed in the headers"),
        (lambda body: (HEAD.format(status="200 OK", length=0).encode(), False), "an empty body"),
    ],
)
async def test_every_bad_answer_is_a_failure(answer, reason):
    async with serving(answer) as (_, url):
        result = await sent(url, 20)
    gets = [f.reason for f in result.failures if f.method == "GET"]
    assert result.failed == result.sent
    assert reason in gets


async def test_an_echo_must_come_back_as_it_was_sent():
    async with serving(wrong_echo) as (_, url):
        result = await sent(url, 60)
    assert result.failed > 0
    assert {(f.method, f.reason) for f in result.failures} == {("POST", "the echo differs from what was sent")}


async def test_nobody_listening_is_a_failure_per_request():
    async with serving(ok) as (_, url):
        pass
    result = await sent(url, 20)
    assert result.failed == result.sent


async def test_a_connection_whose_close_arrived_is_not_used():
    async with serving(ok) as (peer, url):
        connection = await Connection.open(Address.of(url))
        await connection.ask("GET", "/", b"", keep=True)
        assert connection.usable
        peer.writers[0].close()
        await peer.writers[0].wait_closed()
        assert not connection.usable
        connection.close()


async def test_a_close_after_the_request_was_sent_is_a_failure():
    answers = iter([ok(), (b"", True)])
    async with serving(lambda body: next(answers)) as (_, url):
        connection = await Connection.open(Address.of(url))
        await connection.ask("GET", "/", b"", keep=True)
        assert connection.usable
        with pytest.raises(Failed, match="no answer"):
            await connection.ask("GET", "/", b"", keep=True)
        connection.close()


def test_the_least_number_of_hosts_is_over_whole_seconds():
    tally = Tally()
    for elapsed, host in [(0.1, "a"), (0.2, "b"), (1.5, "a"), (2.1, "b"), (2.2, "a"), (3.0, "a")]:
        tally.succeeded(elapsed, "v1", host)
    assert tally.result(3.1).least_hosts == 1
    assert tally.result(1.0).least_hosts == 2
    assert Tally().result(0.5).least_hosts is None


def test_a_second_without_any_answer_counts_as_no_host():
    tally = Tally()
    tally.succeeded(0.1, "v1", "a")
    tally.succeeded(2.1, "v1", "a")
    assert tally.result(3.0).least_hosts == 0


def test_all_failures_are_counted_even_when_not_all_are_kept():
    tally = Tally()
    for _ in range(1000):
        tally.fail(Failure(0.0, 0.0, "GET", "new", "status 503"))
    result = tally.result(1.0)
    assert (result.failed, result.by_reason) == (1000, {"status 503": 1000})
    assert len(result.failures) < 1000


async def test_attached_traffic_ends_when_its_starter_is_gone():
    command = [sys.executable, "-m", traffic.__name__, "http://127.0.0.1:9/", "--attached"]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 1

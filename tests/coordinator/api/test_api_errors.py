"""Errors have one envelope, tell no inner things and no secrets; numbers for Prometheus."""

from __future__ import annotations

import io
import re
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import structlog

from shiftwork_contract.errors import (
    AppSpecError,
    Conflict,
    ContractViolation,
    Denied,
    InvalidRequest,
    ShiftworkError,
    Unavailable,
)
from shiftwork_coordinator import auth
from shiftwork_coordinator.api.errors import status_of
from shiftwork_coordinator.api.routes import table
from shiftwork_coordinator.auth import NotAllowed
from shiftwork_coordinator.clock import SystemClock

from .conftest import key_and_csr


@pytest.mark.parametrize(
    ("err", "status"),
    [
        (InvalidRequest("x"), 400),
        (AppSpecError("x", file="f"), 400),
        (InvalidRequest("x", code="DeploymentDoesNotExistException"), 404),
        (InvalidRequest("x", code="NotFound"), 404),
        (Denied("x"), 401),
        (NotAllowed("x"), 403),
        (Conflict("x"), 409),
        (Unavailable("x"), 503),
        (ContractViolation("x"), 500),
        (ShiftworkError("x"), 500),
    ],
)
def test_who_can_act_decides_the_status(err: ShiftworkError, status: int) -> None:
    assert status_of(err) == status


async def test_a_bug_is_answered_with_a_number_that_the_log_has(site: Any) -> None:
    async def broken() -> Any:
        raise ZeroDivisionError("the inner thing")

    site.home.store.instances = broken
    with structlog.testing.capture_logs() as logged:
        status, answer = await site.json("GET", "/v1/instances", role="viewer")
    (line,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert (status, answer["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert line["error_id"] in answer["error"]["message"]
    assert "inner thing" not in str(answer)
    assert isinstance(line["exc_info"], ZeroDivisionError)


async def test_unlisted_paths_methods_and_too_large_bodies_have_the_envelope(site: Any) -> None:
    for method, path, expected in (
        ("GET", "/nothing", (404, "NotFound")),
        ("GET", "/v1/../v1/secret", (404, "NotFound")),
        ("PUT", "/v1/instances", (405, "MethodNotAllowed")),
    ):
        status, answer = await site.json(method, path, role="admin")
        assert (status, answer["error"]["code"]) == expected
    status, answer = await site.json("POST", "/v1/apply", role="admin", data=io.BytesIO(b" " * ((1 << 20) + 1)))
    assert status == 413
    assert set(answer) == {"error"}


async def test_unknown_fields_are_named(site: Any) -> None:
    body = {"application": "a", "group": "g", "revision": "r", "colour": "red"}
    status, answer = await site.json("POST", "/v1/deployments", role="deployer", json=body)
    assert (status, "colour" in answer["error"]["message"]) == (400, True)


async def test_a_refused_token_is_logged_without_its_secret(site: Any) -> None:
    secret = "5ec" + "0" * 37
    with structlog.testing.capture_logs() as logged:
        headers = {"Authorization": f"Bearer swt_{'0' * 12}_{secret}"}
        await site.json("GET", "/v1/instances", headers=headers)
        await site.json("POST", "/v1/join", json={"token": f"swj_{'0' * 12}_{secret}", "name": "a", "csr": ""})
    assert [(line["event"], line["path"]) for line in logged] == [
        ("refused", "/v1/instances"),
        ("refused", "/v1/join"),
    ]
    assert secret not in str(logged)


def from_uid(uid: int) -> Any:
    """A request on a unix socket, of which the kernel says that `uid` is at its other end."""
    peer = SimpleNamespace(family=socket.AF_UNIX, getsockopt=lambda *_: struct.pack("3i", 1, uid, uid))
    transport = SimpleNamespace(get_extra_info={"socket": peer}.get)
    return SimpleNamespace(transport=transport, headers={})


def test_the_local_socket_is_for_root_and_the_coordinators_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth.os, "geteuid", lambda: 990)
    for uid in (0, 990):
        found = auth._local(from_uid(uid))
        assert found is not None
        assert found.role == "admin"
        assert found.who != ""
    with pytest.raises(NotAllowed, match="uid 1000"):
        auth._local(from_uid(1000))


async def test_the_health_ends_with_the_lease(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await site.json("GET", "/v1/health"))[0] == 200
    monkeypatch.setattr(type(site.services.lease), "outlasts", lambda self, limit: limit < 0)
    assert (await site.json("GET", "/v1/health"))[0] == 503


async def test_metrics_are_numbers_without_names(site: Any) -> None:
    await site.agent("web-1")
    site.services.metrics.ticked(0.003)
    async with site.request("GET", "/metrics", role="viewer") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = await answer.text()
    assert "shiftwork_agents_connected 0.0" in text
    assert "shiftwork_tick_seconds_count 1.0" in text
    assert "web-1" not in text


class AgesAgo(SystemClock):
    def now(self) -> float:
        return super().now() - 31 * 86400


async def test_an_expired_certificate_is_not_heard(site: Any) -> None:
    issued_long_ago = type(site.services.authority)(site.data / "ca", AgesAgo())
    key, csr = key_and_csr(site.data, "web-1")
    tls = site.context(issued_long_ago.issue(csr, "web-1").certificate, key)
    with pytest.raises(aiohttp.ClientError):
        await site.json("GET", "/v1/health", tls=tls)


def test_every_route_is_documented_with_its_class() -> None:
    """The table in docs/api.md and the one that is served are the same."""
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    documented = set()
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?&]*)[^`]*`", cells[0]):
            documented.add((method, path, cells[1]))
    assert documented == {(route.method, route.path, str(route.auth)) for route in table()}

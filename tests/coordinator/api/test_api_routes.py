"""One test walks all routes, with every kind of caller. A route without an auth class cannot exist."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from shiftwork_coordinator import aws_keys, tokens
from shiftwork_coordinator.api.routes import Route, table
from shiftwork_coordinator.auth import Auth

ROLES = ("viewer", "deployer", "approver", "admin")
CALLERS = ("nobody", "forged", "agent", "aws", *ROLES)
UNSIGNED = ("MissingAuthenticationTokenException", "IncompleteSignatureException")


def admitted(auth: Auth, who: str) -> bool:
    if auth in (Auth.PUBLIC, Auth.JOIN):
        return True
    if auth in (Auth.AGENT, Auth.AWS):
        return who == auth.value
    return who in ROLES and ROLES.index(who) >= ROLES.index(auth.value)


@pytest.mark.parametrize("who", CALLERS)
async def test_every_route_admits_exactly_its_class(site: Any, who: str) -> None:
    options: dict[str, Any] = {}
    if who == "agent":
        options["tls"] = await site.agent("web-1")
    elif who == "forged":
        options["headers"] = {"Authorization": "Bearer swt_000000000000_" + "0" * 40}
    elif who in ROLES:
        options["role"] = who
    for route in table():
        if who == "aws":
            options = await aws(site, route)
        path = route.path.format(
            id="d-NONE", name="nope", application="a", group="g", identity="x", fingerprint="0" * 64
        )
        async with site.request(route.method, path, **options) as answer:
            body = await answer.text()
            refused = answer.status in (401, 403) and route.auth is not Auth.JOIN
            if route.auth is Auth.AWS:
                refused = answer.status == 400 and any(code in body for code in UNSIGNED)
            assert refused is not admitted(route.auth, who), f"{who} {route.method} {path}: {answer.status} {body}"
            assert answer.status != 500, f"{route.method} {path}: {body}"


async def aws(site: Any, route: Route) -> dict[str, Any]:
    """What a key signs, for any route."""
    row, secret = await aws_keys.create(
        site.home.store, site.home.clock, site.services.sealer, tokens.NewToken("aws"), "test"
    )
    asked = AWSRequest(route.method, site.url + route.path, data=b"")
    SigV4Auth(Credentials(row.id, secret), "codedeploy", "eu-west-1").add_auth(asked)
    return {"headers": dict(asked.headers)}


async def test_a_role_that_is_too_low_is_told_which_it_takes(site: Any) -> None:
    status, answer = await site.json("POST", "/v1/deployments", role="viewer")
    assert status == 403
    assert "takes the role deployer" in answer["error"]["message"]


async def test_what_is_not_in_the_table_is_not_served(site: Any) -> None:
    status, _ = await site.json("GET", "/v1/secret", role="admin")
    assert status == 404


def test_a_route_without_an_auth_class_is_a_bug_at_start() -> None:
    with pytest.raises(TypeError, match="no auth class"):
        Route("GET", "/v1/open", None, lambda request: None)  # type: ignore[arg-type]


async def test_a_revoked_instance_is_shut_out(site: Any) -> None:
    tls = await site.agent("web-1")
    path = "/v1/agent/bundles/sha256:" + "0" * 64
    assert (await site.json("GET", path, tls=tls))[0] == 404
    assert (await site.json("POST", "/v1/instances/web-1/revoke", role="admin"))[0] == 200
    assert (await site.json("GET", path, tls=tls))[0] == 401


async def test_a_certificate_of_another_authority_is_not_even_heard(site: Any, tmp_path: Any) -> None:
    import aiohttp

    from shiftwork_coordinator.clock import SystemClock
    from shiftwork_coordinator.pki import Authority

    from .conftest import key_and_csr

    stranger = Authority(tmp_path / "stranger", SystemClock())
    key, csr = key_and_csr(tmp_path, "web-1")
    tls = site.context(stranger.issue(csr, "web-1").certificate, key)
    with pytest.raises(aiohttp.ClientError):
        await site.json("GET", "/v1/health", tls=tls)

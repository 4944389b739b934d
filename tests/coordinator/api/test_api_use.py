"""The API as its users meet it: joining, tokens, apply, push, and what bad input is told."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from shiftwork_coordinator import joining

from .conftest import key_and_csr

APPLY = """\
application: web
groups:
  production:
    instances: {tags: {Role: [web]}}
    config: HalfAtATime
    bake: 1m
    health: {http: "http://{address}:8080/", interval: 500ms}
configs:
  Careful: {minimum_healthy_hosts: "75%"}
"""


def bundle(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


async def apply(site: Any, text: str) -> tuple[int, Any]:
    return await site.json("POST", "/v1/apply", role="admin", json={"file": "shiftwork.yml", "text": text})


async def test_a_token_joins_once_and_only_the_name_it_is_bound_to(site: Any, tmp_path: Any) -> None:
    token = await site.join_token(name="web-1", tags={"Role": "web"})
    _, csr = key_and_csr(tmp_path, "web-1")
    other = await site.json("POST", "/v1/join", json={"token": token, "name": "web-2", "csr": csr})
    assert other[0] == 401
    first = await site.json("POST", "/v1/join", json={"token": token, "name": "web-1", "csr": csr})
    assert first[0] == 200
    assert first[1]["coordinators"] == [site.url]
    assert (await site.home.store.instance("web-1")).tags == {"Role": "web"}
    again = await site.json("POST", "/v1/join", json={"token": token, "name": "web-1", "csr": csr})
    assert again[0] == 409
    await site.json("POST", "/v1/instances/web-1/revoke", role="admin")
    used_up = await site.json("POST", "/v1/join", json={"token": token, "name": "web-1", "csr": csr})
    assert used_up[0] == 401


async def test_tags_cannot_come_from_the_agent(site: Any, tmp_path: Any) -> None:
    _, csr = key_and_csr(tmp_path, "web-9")
    body = {"token": await site.join_token(), "name": "web-9", "csr": csr, "tags": {"Role": "db"}}
    assert (await site.json("POST", "/v1/join", json=body))[0] == 200
    assert (await site.home.store.instance("web-9")).tags == {}


async def test_a_renewed_certificate_and_the_one_before_it_both_open_the_door(site: Any, tmp_path: Any) -> None:
    before = await site.agent("web-1")
    key, csr = key_and_csr(tmp_path, "web-1")
    home = site.home
    renewed = await joining.renew(home.store, home.clock, site.services.authority, "web-1", csr)
    after = site.context(renewed.certificate, key)
    path = "/v1/agent/bundles/sha256:" + "0" * 64
    assert [(await site.json("GET", path, tls=tls))[0] for tls in (before, after)] == [404, 404]


async def test_secrets_are_neither_listed_nor_stored(site: Any) -> None:
    status, made = await site.json("POST", "/v1/tokens", role="admin", json={"kind": "operator", "role": "viewer"})
    assert status == 201
    secret = made["token"].rsplit("_", 1)[1]
    _, listed = await site.json("GET", "/v1/tokens", role="admin")
    assert secret not in str(listed)
    assert all(secret not in path.read_bytes().decode("latin-1") for path in site.data.glob("shiftwork.db*"))


async def test_a_revoked_token_is_refused_like_an_unknown_one(site: Any) -> None:
    made = (await site.json("POST", "/v1/tokens", role="admin", json={"kind": "operator", "role": "viewer"}))[1]
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert (await site.json("GET", "/v1/instances", headers=headers))[0] == 200
    await site.json("DELETE", f"/v1/tokens/{made['id']}", role="admin")
    refused = await site.json("GET", "/v1/instances", headers=headers)
    unknown = await site.json("GET", "/v1/instances", headers={"Authorization": "Bearer swt_000000000000_" + "0" * 40})
    assert refused == unknown
    assert refused[0] == 401


async def test_apply_says_what_changed_and_the_second_time_nothing(site: Any) -> None:
    status, answer = await apply(site, APPLY)
    assert status == 200
    assert [(c["kind"], c["name"], c["change"]) for c in answer["changes"]] == [
        ("config", "Careful", "created"),
        ("group", "web/production", "created"),
    ]
    group = await site.home.store.group("web", "production")
    assert (group.settings.bake, group.settings.health.interval) == (60.0, 0.5)
    assert group.settings.config == "CodeDeployDefault.HalfAtATime"
    assert {c["change"] for c in (await apply(site, APPLY))[1]["changes"]} == {"unchanged"}
    changed = (await apply(site, APPLY.replace("HalfAtATime", "Careful")))[1]["changes"][1]
    assert (changed["change"], changed["detail"]) == ("changed", "config")


async def test_a_bad_shiftwork_yml_is_refused_with_its_place_and_changes_nothing(site: Any) -> None:
    cases = {
        APPLY.replace("bake: 1m", "bake: soon"): "shiftwork.yml:6:",
        APPLY.replace("config: HalfAtATime", "confg: HalfAtATime"): "confg",
        APPLY.replace("HalfAtATime", "Sideways"): "there is none of that name",
        APPLY.replace('"75%"', '"100%"'): "0 to 99",
        APPLY + "load_balancers: 3\n": "load_balancers",
        APPLY.replace(
            "    config", "    load_balancers: [{nginx: {}}]\n    config"
        ): "cannot find load balancer driver",
        APPLY.replace("{address}:8080", "{adress}:8080"): "{adress} stands for nothing",
        APPLY.replace("http://{address}", "ftp://{address}"): "no http:// or https:// URL",
        APPLY.replace("interval: 500ms", "interval: 0s"): "interval is 0 and must be more than 0",
        APPLY.replace("interval: 500ms", "healthy: 0"): "healthy is 0",
        APPLY.replace('http: "http://{address}:8080/"', "tcp: nowhere"): "not host:port",
        APPLY.replace("    bake", "    rollback: [alarm]\n    bake"): "it watches none",
        "": "empty",
    }
    for text, expected in cases.items():
        status, answer = await apply(site, text)
        assert status in (400, 404)
        assert expected in answer["error"]["message"], answer
    assert await site.home.store.groups() == []


@pytest.mark.usefixtures("web_app")
async def test_push_is_known_by_its_content(site: Any) -> None:
    path = "/v1/revisions?application=web&type=tgz"
    data = bundle(appspec_yml="version: 0.0\nos: linux\n", app__a_txt="A")
    status, first = await site.json("POST", path, role="deployer", data=data)
    assert (status, first["new"], first["entries"]) == (201, True, 3)
    status, again = await site.json("POST", path, role="deployer", data=data)
    assert (status, again["revision"], again["new"]) == (200, first["revision"], False)
    agent = await site.agent("web-1")
    async with site.request("GET", f"/v1/agent/bundles/{first['revision']}", tls=agent) as answer:
        assert await answer.read() == data
    headers = {"Range": "bytes=10-19"}
    async with site.request("GET", f"/v1/agent/bundles/{first['revision']}", tls=agent, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (206, data[10:20])


async def test_an_application_has_a_name_that_apply_would_take_too(site: Any) -> None:
    data = bundle(appspec_yml="version: 0.0\nos: linux\n")
    for name in ("..%2Fx", "bl%C3%A4h", "a%20b"):
        status, answer = await site.json("POST", f"/v1/revisions?application={name}", role="deployer", data=data)
        assert (status, "a name has 1 to 63" in answer["error"]["message"]) == (400, True)


@pytest.mark.usefixtures("web_app")
async def test_a_bad_bundle_is_refused_and_leaves_nothing(site: Any) -> None:
    path = "/v1/revisions?application=web&type=tgz"
    for data, expected in (
        (b"this is no archive", "archive"),
        (bundle(app__a_txt="A"), "no appspec.yml"),
        (bundle(appspec_yml="version: 7\nos: linux\n"), "appspec.yml:1:"),
        (bundle(appspec_yml="version: 0.0\nos: linux\n", **{"..__escape": "x"}), "escape"),
    ):
        status, answer = await site.json("POST", path, role="deployer", data=data)
        assert (status, expected in answer["error"]["message"]) == (400, True), answer
    assert list((site.data / "bundles").iterdir()) == []


async def test_bad_bodies_are_told_what_is_wrong(site: Any) -> None:
    for body, expected in ((b"{", "body of POST /v1/deployments"), (b'{"application": 3}', "application")):
        status, answer = await site.json("POST", "/v1/deployments", role="admin", data=body)
        assert (status, expected in answer["error"]["message"]) == (400, True), answer
    status, answer = await site.json("GET", "/v1/deployments/d-NONE", role="viewer")
    assert (status, answer["error"]["code"]) == (404, "DeploymentDoesNotExistException")


async def test_the_audit_log_names_who_did_what_and_holds_together(site: Any) -> None:
    await apply(site, APPLY)
    _, answer = await site.json("GET", "/v1/audit", role="admin")
    assert answer["firstBreak"] is None
    assert "apply" in [line["action"] for line in answer["audit"]]

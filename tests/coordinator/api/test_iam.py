"""Joining by a role of AWS: the coordinator believes STS alone, and asks only STS.

moto's STS knows roles but verifies nothing, so what is forged is shown to a twin that verifies with botocore.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from msgspec.structs import replace

from shiftwork_agent import iam as agents_end
from shiftwork_agent import identity, keys
from shiftwork_agent.aws import sigv4
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.join import Wish, join
from shiftwork_agent.layout import Layout
from shiftwork_contract.errors import Denied, InvalidRequest, Unavailable
from shiftwork_coordinator.api.server import application
from shiftwork_coordinator.sts import BODY, HOSTS, Sts

ACCOUNT, ROLE, INSTANCE = "123456789012", "web-production", "i-0abc1234def567890"
ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{INSTANCE}"
ENVIRON = {"AWS_ACCESS_KEY_ID": "ASIATWIN", "AWS_SECRET_ACCESS_KEY": "right", "AWS_SESSION_TOKEN": "session"}
RIGHT = {"account": ACCOUNT, "role": ROLE, "tags": {"Role": "web"}}


class TwinSts:
    """Knows one key, and verifies signatures by making them again with botocore."""

    def __init__(self) -> None:
        self.arn, self.status, self.url, self.asked = ARN, 200, "", 0
        self.account = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = await request.read()
        if self.status != 200:
            return web.Response(status=self.status, text="no XML", headers={"Location": self.url})
        if body != BODY or request.headers["Authorization"] != self._signature(request, body):
            told = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>"
            return web.Response(status=403, text=told)
        account = self.account or self.arn.split(":")[4]
        told = f"<R xmlns='https://sts.amazonaws.com/doc/'><Arn>{self.arn}</Arn><Account>{account}</Account></R>"
        return web.Response(text=told, content_type="text/xml")

    def _signature(self, request: web.Request, body: bytes) -> str:
        authorization = request.headers["Authorization"]
        names = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        region = authorization.split("/")[2]
        given = {name: request.headers[name] for name in names}
        again = AWSRequest("POST", f"{self.url}/", headers=given, data=body)
        again.context["timestamp"] = request.headers["X-Amz-Date"]
        signer = auth.SigV4Auth(Credentials("ASIATWIN", "right", "session"), "sts", region)
        text = signer.string_to_sign(again, signer.canonical_request(again))
        scope, signature = signer.scope(again), signer.signature(text, again)
        return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(names)}, Signature={signature}"


@pytest.fixture
async def twin() -> AsyncIterator[TwinSts]:
    found, app = TwinSts(), web.Application()
    app.router.add_post("/", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


class Host:
    """A host with AWS credentials, which signs for the STS at `endpoint`."""

    def __init__(self, url: str, ca: str, endpoint: str) -> None:
        self.url, self.ca, self.endpoint, self.key = url, ca, endpoint, keys.new_key()
        self.csr = keys.request(self.key, "host")

    async def proof(self, environ: Mapping[str, str] = ENVIRON, **other: Any) -> dict[str, Any]:
        whole = {**environ, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_STS": self.endpoint}
        fingerprint = keys.fingerprint(other.pop("key", self.key))
        shown = await agents_end.proof(self.url, self.ca, fingerprint, whole, SystemClock().wall())
        return {"csr": self.csr, **shown, **other}


async def joinable(site: Any, endpoint: str) -> AsyncIterator[Host]:
    """The site's API once more, with an STS of its own."""
    authority = site.services.authority
    runner = web.AppRunner(application(replace(site.services, sts=Sts(endpoint))), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context(["127.0.0.1"])).start()
    site.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield Host(site.url, authority.pem, endpoint)
    await runner.cleanup()


@pytest.fixture
async def host(site: Any, twin: TwinSts) -> AsyncIterator[Host]:
    async for found in joinable(site, twin.url):
        yield found


async def trusting(site: Any, **other: Any) -> dict[str, Any]:
    status, made = await site.json("POST", "/v1/trust", role="admin", json=RIGHT | other)
    assert status == 201, made
    return dict(made)


async def joins(site: Any, body: Mapping[str, Any]) -> tuple[int, str]:
    status, told = await site.json("POST", "/v1/join/iam", json=body)
    return status, told.get("instance") or told["error"]["message"]


async def test_a_role_that_is_trusted_joins_under_the_instances_id(site: Any, host: Host) -> None:
    made = await trusting(site, role="web-*")
    assert await joins(site, await host.proof()) == (200, INSTANCE)
    assert (await site.home.store.instance(INSTANCE)).tags == {"Role": "web"}
    [line] = [line for line in await site.home.store.audit() if line.action == "instance.join"]
    assert line.who == f"role {ACCOUNT}/{ROLE}/{INSTANCE} (trust {made['id']})"
    status, told = await joins(site, await host.proof())
    assert status == 409 and "has joined already" in told


@pytest.mark.parametrize("other", [{"account": "999999999999"}, {"role": "db-*"}, {"role": "web"}])
async def test_any_other_role_is_refused(site: Any, host: Host, other: dict[str, str]) -> None:
    await trusting(site, **other)
    assert (await joins(site, await host.proof()))[0] == 401
    assert await site.home.store.instances() == []


async def test_without_a_trusted_role_nobody_makes_the_coordinator_ask(site: Any, host: Host, twin: TwinSts) -> None:
    assert (await joins(site, await host.proof()))[0] == 401
    made = await trusting(site)
    assert (await site.json("DELETE", f"/v1/trust/{made['id']}", role="admin"))[0] == 200
    assert (await joins(site, await host.proof()))[0] == 401
    assert twin.asked == 0


async def test_a_name_is_chosen_only_where_that_is_allowed(site: Any, host: Host) -> None:
    await trusting(site)
    status, told = await joins(site, await host.proof(name="web-1"))
    assert status == 401 and INSTANCE in told
    await trusting(site, any_name=True)
    assert await joins(site, await host.proof(name="web-1")) == (200, "web-1")


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:iam::{ACCOUNT}:user/{ROLE}",
        f"arn:aws:iam::{ACCOUNT}:root",
        f"arn:aws:sts::{ACCOUNT}:federated-user/{ROLE}",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}",
        f"arn:evil:sts::{ACCOUNT}:assumed-role/{ROLE}/x",
    ],
)
async def test_only_roles_join(site: Any, host: Host, twin: TwinSts, arn: str) -> None:
    await trusting(site, role="*")
    twin.arn = arn
    status, told = await joins(site, await host.proof())
    assert status == 401 and "not of a role" in told


async def test_an_answer_that_contradicts_itself_lets_nobody_in(site: Any, host: Host, twin: TwinSts) -> None:
    await trusting(site)
    twin.account = "999999999999"
    assert (await joins(site, await host.proof()))[0] == 401


async def test_what_is_forged_is_refused(site: Any, host: Host, twin: TwinSts) -> None:
    await trusting(site)
    wrong = await host.proof({**ENVIRON, "AWS_SECRET_ACCESS_KEY": "guessed"})
    assert await joins(site, wrong) == (401, f"{twin.url[7:]} does not take the signature: SignatureDoesNotMatch")
    good = await host.proof()
    late = {**good, "headers": good["headers"] | {"x-amz-date": "20200101T000000Z"}}
    assert (await joins(site, late))[0] == 401
    assert await joins(site, good) == (200, INSTANCE)
    status, told = await joins(site, good)
    assert status == 401 and "nonce" in told


async def test_a_proof_is_for_one_nonce_and_one_key(site: Any, host: Host, twin: TwinSts) -> None:
    await trusting(site)
    thief, good = keys.new_key(), await host.proof()
    other = await host.proof()
    for body in (
        {**good, "csr": keys.request(thief, "x")},
        {**good, "nonce": other["nonce"]},
        {**good, "headers": good["headers"] | {"x-shiftwork-nonce": other["nonce"]}},
        await host.proof(key=thief),
    ):
        status, told = await joins(site, body)
        assert status == 400 and "another nonce or another key" in told
    assert twin.asked == 0
    swapped = good["headers"] | {"x-shiftwork-key": f"sha256:{keys.fingerprint(thief)}"}
    assert (await joins(site, {**good, "csr": keys.request(thief, "x"), "headers": swapped}))[0] == 401


def signed(url: str, service: str = "sts", **given: str) -> dict[str, str]:
    headers = {f"x-shiftwork-{name}": value for name, value in given.items()}
    known = sigv4.Keys("ASIATWIN", "right", "session")
    at = SystemClock().wall()
    return sigv4.signed("POST", url, headers, BODY, known, region="eu-west-1", service=service, at=at)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (signed("https://x.amazonaws.com/", nonce="n", key="k"), "not an address"),
        (signed("http://127.0.0.1:1/", nonce="n", key="k"), "not an address"),
        (signed("https://sts.amazonaws.com.evil.example/", nonce="n", key="k"), "not an address"),
        (signed("https://s/", key="k"), "leaves out x-shiftwork-nonce"),
        (signed("https://s/", nonce="n"), "leaves out x-shiftwork-key"),
        (signed("https://s/", nonce="n") | {"x-shiftwork-key": "k"}, "leaves out x-shiftwork-key"),
        (signed("https://s/", "s3", nonce="n", key="k"), "the header 'x-amz-content"),
        (signed("https://s/", "iam", nonce="n", key="k"), "leaves out"),
        (signed("https://s/", nonce="n", key="k", cookie="c"), "header 'x-shiftwork-cookie'"),
        (signed("https://s/", nonce="n", key="k" * 9000), "over 8192 characters"),
        (signed("https://s/", nonce="n", key="k") | {"content-type": "a\r\nb: c"}, "not printable"),
        ({}, "leaves out"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=A/sts/aws4_request, SignedHeaders=, Signature=0"}, "leaves"),
    ],
)
@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:2"])
async def test_nothing_but_sts_is_asked(headers: dict[str, str], told: str, endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await Sts(endpoint).identify(headers, "n", "k")


async def test_with_an_endpoint_of_ones_own_awss_is_not_asked() -> None:
    with pytest.raises(InvalidRequest, match="not an address"):
        await Sts("http://127.0.0.1:2").identify(signed("https://sts.amazonaws.com/", nonce="n", key="k"), "n", "k")


@pytest.mark.parametrize(
    "host", ["sts.amazonaws.com", "sts.eu-west-1.amazonaws.com", "sts-fips.us-east-1.amazonaws.com"]
)
def test_the_addresses_of_sts(host: str) -> None:
    assert HOSTS.fullmatch(host)
    for wrong in (f"{host}.evil.com", f"evil.{host}", f"{host}:443", f"{host}/x", f"a@{host}", f"{host}\n"):
        assert not HOSTS.fullmatch(wrong)


@pytest.mark.parametrize(("status", "kind"), [(500, Unavailable), (302, Denied), (307, Denied), (403, Denied)])
async def test_an_sts_that_fails_lets_nobody_in(twin: TwinSts, status: int, kind: type[Exception]) -> None:
    twin.status = status
    with pytest.raises(kind):
        await Sts(twin.url).identify(signed(f"{twin.url}/", nonce="n", key="k"), "n", "k")
    assert twin.asked == 1


async def test_an_sts_that_is_away_can_be_asked_later(unused_tcp_port_factory: Any) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port_factory()}"
    with pytest.raises(Unavailable, match="cannot ask"):
        await Sts(url).identify(signed(f"{url}/", nonce="n", key="k"), "n", "k")


@pytest.mark.parametrize("asked", [{"account": "12"}, {"role": ""}, {"role": "path/web"}, {"rolle": "x"}])
async def test_nonsense_is_not_trusted(site: Any, asked: dict[str, str]) -> None:
    assert (await site.json("POST", "/v1/trust", role="admin", json=RIGHT | asked))[0] == 400
    assert (await site.json("GET", "/v1/trust", role="admin"))[1]["trusted"] == []


async def test_an_agent_joins_with_its_role_at_motos_sts(
    site: Any, aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'
    role = boto3.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    given = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName=INSTANCE)["Credentials"]
    for name, key in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", given[key])
    monkeypatch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", os.environ["AWS_ENDPOINT_URL"])
    await trusting(site)
    layout = Layout(tmp_path / "state")
    async for _ in joinable(site, os.environ["AWS_ENDPOINT_URL_STS"]):
        wish = Wish(site.url, fingerprint=f"sha256:{site.services.authority.fingerprint}", iam=True)
        about = await join(wish, layout, tmp_path / "agent.yml")
    assert (about.instance, about.name) == (INSTANCE, INSTANCE)
    assert f"name: {INSTANCE}" in (tmp_path / "agent.yml").read_text()
    assert identity.credentials(layout).context is not None
    assert (await site.home.store.instance(INSTANCE)).tags == {"Role": "web"}

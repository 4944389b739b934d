"""An unmodified SDK of AWS against this coordinator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec.structs import replace

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator import shifters
from shiftwork_coordinator.model.rows import Group
from shiftwork_coordinator.model.settings import FunctionHooks, GroupSettings
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.sealing import Sealer
from shiftwork_coordinator.store import Put
from shiftwork_coordinator.testing import MemoryShifter

APPSPEC = """
version: 0.0
Resources:
  - orders:
      Type: AWS::Lambda::Function
      Properties: {Name: orders, Alias: live, CurrentVersion: 1, TargetVersion: 2}
Hooks:
  - BeforeAllowTraffic: check
"""


async def key(site: Any, **options: Any) -> tuple[str, str]:
    status, made = await site.json("POST", "/v1/tokens", role="admin", json={"kind": "aws", **options})
    assert status == 201
    return made["accessKeyId"], made["secretAccessKey"]


class Sdk:
    def __init__(self, site: Any, tmp_path: Path, pair: tuple[str, str]) -> None:
        ca = tmp_path / "sdk-ca.pem"
        ca.write_text(site.services.authority.pem)
        self._client = boto3.client(
            "codedeploy", endpoint_url=site.url, verify=str(ca), region_name="eu-west-1", aws_access_key_id=pair[0],
            aws_secret_access_key=pair[1], config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip

    async def call(self, operation: str, **members: Any) -> Any:
        return await asyncio.to_thread(getattr(self._client, operation), **members)

    async def code(self, operation: str, **members: Any) -> tuple[int, str]:
        with pytest.raises(ClientError) as failed:
            await self.call(operation, **members)
        answer = failed.value.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.fixture
async def waiting(site: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A deployment whose hook was invoked and is to answer by a call: its id and the hook's."""
    memory = MemoryShifter()
    monkeypatch.setitem(shifters.BUILT_IN, "Lambda", lambda settings: memory)
    monkeypatch.setattr(shifters, "hook_functions", lambda settings: memory)
    settings = GroupSettings(platform="Lambda", hooks=FunctionHooks(answer="call"))
    await site.home.store.write(Put(Group("g", "fn", "live", settings)))
    body = {"application": "fn", "group": "live", "appspecContent": APPSPEC}
    made = (await site.json("POST", "/v1/deployments", role="admin", json=body))[1]
    async with asyncio.timeout(60):
        while not memory.invoked:
            await asyncio.sleep(0.01)
    return made["deploymentId"], memory.invoked[0].id


async def ended(site: Any, id: str) -> Any:
    async with asyncio.timeout(60):
        while (row := await site.home.store.deployment(id)).status not in ENDED:
            await asyncio.sleep(0.01)
    return row


@pytest.mark.parametrize(("word", "end"), [("Succeeded", "Succeeded"), ("Failed", "Failed")])
async def test_a_hook_answers_as_it_answers_codedeploy(
    site: Any, tmp_path: Path, waiting: tuple[str, str], word: str, end: str
) -> None:
    sdk = Sdk(site, tmp_path, await key(site, name="hooks"))
    told = {"deploymentId": waiting[0], "lifecycleEventHookExecutionId": waiting[1], "status": word}
    answer = await sdk.call("put_lifecycle_event_hook_execution_status", **told)
    assert answer["lifecycleEventHookExecutionId"] == waiting[1]
    assert (await ended(site, waiting[0])).status == end


async def test_what_is_wrong_has_codedeploys_names(site: Any, tmp_path: Path, waiting: tuple[str, str]) -> None:
    sdk = Sdk(site, tmp_path, await key(site))

    async def code(deployment: str, hook: str, status: str = "Succeeded") -> Any:
        told = {"deploymentId": deployment, "lifecycleEventHookExecutionId": hook, "status": status}
        return await sdk.code("put_lifecycle_event_hook_execution_status", **told)

    deployment, hook = waiting
    assert await code(deployment, "d-OTHER.orders.X") == (400, "InvalidLifecycleEventHookExecutionIdException")
    assert await code("d-OTHER", hook) == (400, "InvalidLifecycleEventHookExecutionIdException")
    assert await code("d-NONE", "d-NONE.orders.X") == (400, "InvalidLifecycleEventHookExecutionIdException")
    assert await code(deployment, hook, "Unknown") == (400, "InvalidLifecycleEventHookExecutionStatusException")
    assert await sdk.code("list_applications") == (400, "UnknownOperationException")


async def test_only_a_key_that_counts_is_heard(site: Any, tmp_path: Path) -> None:
    id, secret = await key(site)
    assert await Sdk(site, tmp_path, (id, "x" * 40)).code("list_applications") == (400, "InvalidSignatureException")
    unknown = Sdk(site, tmp_path, ("AKIAIOSFODNN7EXAMPLE", secret))
    assert await unknown.code("list_applications") == (400, "UnrecognizedClientException")
    operator = (await site.operator("admin")).split("_")
    of_a_person = Sdk(site, tmp_path, (operator[1], operator[2]))
    assert await of_a_person.code("list_applications") == (400, "UnrecognizedClientException")
    sdk = Sdk(site, tmp_path, (id, secret))
    assert (await sdk.code("list_applications"))[1] == "UnknownOperationException"
    assert (await site.json("DELETE", f"/v1/tokens/{id}", role="admin"))[0] == 200
    assert (await sdk.code("list_applications"))[1] == "UnrecognizedClientException"


async def test_a_keys_role_counts(site: Any, tmp_path: Path) -> None:
    sdk = Sdk(site, tmp_path, await key(site, role="viewer"))
    told = {"deploymentId": "d-1", "lifecycleEventHookExecutionId": "d-1.a.b", "status": "Succeeded"}
    found = await sdk.code("put_lifecycle_event_hook_execution_status", **told)
    assert found == (400, "AccessDeniedException")
    assert (await site.json("POST", "/v1/tokens", role="admin", json={"kind": "aws", "role": "root"}))[0] == 400


async def test_a_token_is_no_key_and_a_key_no_token(site: Any) -> None:
    id, secret = await key(site)
    for text in (f"swt_{id}_{secret}", secret, id):
        headers = {"Authorization": f"Bearer {text}"}
        assert (await site.json("GET", "/v1/deployments", headers=headers))[0] == 401
    status, answer = await site.json("POST", "/", role="admin")
    assert (status, answer["__type"]) == (400, "IncompleteSignatureException")


async def test_the_secret_is_shown_once_and_not_in_the_rows(site: Any) -> None:
    id, secret = await key(site)
    status, listed = await site.json("GET", "/v1/tokens", role="admin")
    row = await site.home.store.token(id)
    assert status == 200
    assert secret not in json.dumps(listed)
    assert "sealed" not in json.dumps(listed)
    assert secret not in row.sealed
    assert site.services.sealer.open(row.sealed, id) == secret


def test_what_was_sealed_outlasts_the_process_and_belongs_to_one_key(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    sealed = Sealer(path).seal("secret", "SWKIA")
    assert path.stat().st_mode & 0o777 == 0o600
    assert Sealer(path).open(sealed, "SWKIA") == "secret"
    with pytest.raises(Unavailable, match="not the key"):
        Sealer(path).open(sealed, "SWKIB")
    path.unlink()
    with pytest.raises(Unavailable, match="put the right file back"):
        Sealer(path).open(sealed, "SWKIA")
    assert not path.exists(), "a lost key is not replaced unasked"


async def test_a_swapped_row_does_not_verify(site: Any, tmp_path: Path) -> None:
    """Whoever can write the database, but not read the key file, cannot move a secret to a mightier key."""
    (weak, secret), (strong, _) = await key(site, role="viewer"), await key(site, role="admin")
    store = site.home.store
    await store.write(Put(replace(await store.token(strong), sealed=(await store.token(weak)).sealed)))
    assert (await Sdk(site, tmp_path, (strong, secret)).code("list_applications"))[0] == 503

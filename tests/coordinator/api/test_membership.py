"""A token that is bound to a group: whoever joins with it is in the group, or does not join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.creation import matching
from shiftwork_coordinator.membership import check_lands, tags_into
from shiftwork_coordinator.model.rows import Group, Instance
from shiftwork_coordinator.model.settings import BlueGreen, GroupSettings, Instances

from .conftest import key_and_csr
from .test_api_use import apply

FILE = "application: web\ngroups:\n  production:\n    instances: {tags: {Role: [web]}, names: [extra]}\n"


def group(tags: dict[str, list[str]], *names: str) -> Group:
    return Group("g", "web", "production", GroupSettings(Instances(tags, names)))


BLUE, GREEN = Instances({"Color": ["blue"]}), Instances({"Color": ["green"]})
TURNS = Group("g", "web", "production", GroupSettings(BLUE, blue_green=BlueGreen("existing", replacements=GREEN)))
TAGS: dict[str, list[str]] = {"Role": ["web"], "Env": ["blue", "green"]}


@pytest.mark.parametrize(
    ("found", "tags", "name", "expected"),
    [
        (group({"Role": ["web"]}), {}, "", {"Role": "web"}),
        (group({"Role": ["web"]}), {"Zone": "a"}, "web-1", {"Role": "web", "Zone": "a"}),
        (group(TAGS), {"Env": "green"}, "", {"Role": "web", "Env": "green"}),
        (group(TAGS, "db-1"), {}, "db-1", {}),
        (group({}, "web-1", "web-2"), {}, "", {}),
        (group({}, "web-1"), {"Zone": "a"}, "web-1", {"Zone": "a"}),
        (group(TAGS), {}, "", r"choice of Env \(blue or green\)"),
        (group(TAGS), {"Env": "red"}, "", "with Env=red"),
        (group({"Role": ["web"]}), {"Role": "db"}, "", "with Role=db"),
        (group({}, "web-1"), {}, "web-2", "only the instances web-1"),
        (TURNS, {}, "", {"Color": "blue"}),
        (TURNS, {"Color": "green"}, "", {"Color": "green"}),
        (TURNS, {"Color": "red"}, "", "with Color=red"),
    ],
)
def test_the_tags_that_a_group_takes(found: Group, tags: dict[str, str], name: str, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(InvalidRequest, match=expected):
            tags_into(found, tags, name)
        return
    assert tags_into(found, tags, name) == expected
    lands = Instance(name or "web-1", tags=expected)
    assert any(matching([lands], wanted) for wanted in found.settings.selectors)
    check_lands(found, name or "web-1", expected)


async def join(site: Any, directory: Path, token: str, name: str) -> int:
    body = {"token": token, "name": name, "csr": key_and_csr(directory, name)[1]}
    return int((await site.json("POST", "/v1/join", json=body))[0])


async def test_hosts_that_join_with_one_token_land_in_its_group(site: Any, tmp_path: Path) -> None:
    await apply(site, FILE)
    asked = {"kind": "agent", "group": "web/production", "uses": 3}
    status, made = await site.json("POST", "/v1/tokens", role="admin", json=asked)
    assert (status, made["group"], made["tags"]) == (201, "web/production", {"Role": "web"})
    for name in ("web-1", "web-2"):
        assert await join(site, tmp_path, made["token"], name) == 200
    _, shown = await site.json("GET", "/v1/groups/web/production", role="viewer")
    assert [each["instance"] for each in shown["instances"]] == ["web-1", "web-2"]
    await apply(site, FILE.replace("[web]", "[app]"))
    assert await join(site, tmp_path, made["token"], "web-3") == 409
    assert await join(site, tmp_path, made["token"], "extra") == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "agent", "group": "web/nothing"},
        {"kind": "agent", "group": "web"},
        {"kind": "operator", "role": "admin", "group": "web/production"},
    ],
)
async def test_a_token_for_what_is_not_there_is_refused(site: Any, asked: dict[str, str]) -> None:
    await apply(site, FILE)
    status, _ = await site.json("POST", "/v1/tokens", role="admin", json=asked)
    assert status in (400, 404)
    assert [row for row in await site.home.store.tokens() if row.kind == "agent"] == []

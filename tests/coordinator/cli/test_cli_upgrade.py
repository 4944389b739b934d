"""`shiftwork upgrade` against a fake of the API: what it asks, what it prints, how it ends."""

from __future__ import annotations

import json

import pytest

from shiftwork_coordinator.cli import upgrade_watch

HERE = "/v1/upgrades/u-1"


def view(status="InProgress", *targets, **changes):
    rows = [{"targetId": n, "status": s, "fromVersion": f, "reason": r} for n, s, f, r in targets]
    counts = {row["status"]: sum(one["status"] == row["status"] for one in rows) for row in rows}
    base = {"upgradeId": "u-1", "version": "2", "status": status, "atOnce": 1, "createTime": 1000.0, "targets": rows}
    return base | {"completeTime": None, "overview": counts, "waiting": [], "errorInformation": None} | changes


FAILED = {"code": "TOO_MANY_FAILED", "message": "the upgrade halted"}


async def test_packages_are_given_first_and_the_first_is_where_to(fake, cli, tmp_path, monkeypatch):
    monkeypatch.setattr(upgrade_watch, "EVERY", 0.0)
    for name in ("new.deb", "old.deb"):
        (tmp_path / name).write_bytes(name.encode())
    versions = iter(("2", "1"))
    fake.on(
        "POST", "/v1/packages", lambda query: {"version": next(versions), "format": "deb", "machine": "x", "new": True}
    )
    fake.on("POST", "/v1/upgrades", view(), 201)
    views = iter(
        (
            view("InProgress", ("a-1", "InProgress", "1", ""), ("a-2", "Pending", "", "")),
            view("InProgress", ("a-1", "Succeeded", "1", ""), ("a-2", "InProgress", "1", "")),
            view("Succeeded", ("a-1", "Succeeded", "1", ""), ("a-2", "Succeeded", "1", ""), completeTime=1012.0),
        )
    )
    fake.on("GET", HERE, lambda query: next(views))
    ran = await cli("upgrade", "--package", str(tmp_path / "new.deb"), "--package", str(tmp_path / "old.deb"),
                    "--tag", "Role=web", "--at-once", "5", "--settle", "30s",
                    "--connect-within", "2m")  # fmt: skip
    assert ran.code == 0, ran.err
    asked = fake.bodies("POST", "/v1/upgrades")[0]
    assert asked == {"version": "2", "tags": {"Role": "web"}, "atOnce": 5, "maxFailed": 0, "settle": 30.0,
                     "connectWithin": 120.0, "noReturn": False}  # fmt: skip
    assert [line.partition(" a-")[2] for line in ran.out.splitlines() if " a-" in line] == [
        "1 InProgress (was 1)",
        "1 Succeeded (was 1)",
        "2 InProgress (was 1)",
        "2 Succeeded (was 1)",
    ]
    assert ran.out.splitlines()[-1] == "Upgrade u-1 Succeeded after 12 s (2 Succeeded)"


async def test_a_halted_one_ends_with_1_and_says_why(fake, cli, monkeypatch):
    fake.on("POST", "/v1/upgrades", view(), 201)
    failed = view("Failed", ("a-1", "Failed", "1", "it did not connect\x1b[31m"), completeTime=1010.0,
                  errorInformation=FAILED)  # fmt: skip
    fake.on("GET", HERE, failed)
    ran = await cli("upgrade", "--version", "2")
    assert ran.code == 1
    assert "a-1 Failed (was 1): it did not connect\n" in ran.out
    assert ran.out.endswith("Upgrade u-1 Failed after 10 s (1 Failed): the upgrade halted\n")
    ran = await cli("upgrade", "--version", "2", "--output", "json")
    assert (ran.code, json.loads(ran.out)["status"]) == (1, "Failed")


async def test_a_coordinator_that_restarts_is_waited_for(fake, cli, monkeypatch):
    monkeypatch.setattr(upgrade_watch, "EVERY", 0.0)
    fake.on("POST", "/v1/upgrades", lambda query: [view(), setattr(fake, "refuse", 3)][0], 201)
    fake.on("GET", HERE, view("Succeeded", completeTime=1010.0))
    assert (await cli("upgrade")).code == 0
    assert fake.refuse == 0


async def test_status_stop_and_no_wait(fake, cli):
    waiting = [{"target": "a-1", "message": "its agent says: installing"}]
    fake.on("GET", "/v1/upgrades", {"upgrades": [{"upgradeId": "u-1"}]})
    fake.on("GET", HERE, view("InProgress", ("a-1", "InProgress", "1", ""), waiting=waiting))
    for words in (["--status"], ["--status", "u-1"]):
        ran = await cli("upgrade", *words)
        assert ran.code == 0 and "waiting: a-1: its agent says: installing" in ran.out
    fake.on("POST", f"{HERE}/stop", view("InProgress", ("a-1", "InProgress", "1", "")))
    assert (await cli("upgrade", "--stop", "u-1")).out == "Upgrade u-1 asked to stop; 1 agents are under way.\n"
    fake.on("POST", "/v1/upgrades", view(), 201)
    assert (await cli("upgrade", "--no-wait")).out == "u-1\n"
    fake.on("GET", "/v1/upgrades", {"upgrades": []})
    assert (await cli("upgrade", "--status")).out == "No agents have been upgraded yet.\n"


@pytest.mark.parametrize("words", [["--stop", "u-1", "--status", "u-1"], ["--max-failed", "-1"], ["--settle", "soon"]])
async def test_usage(fake, cli, words):
    assert (await cli("upgrade", *words)).code == 2

"""Every other command against a fake of the API: what it asks, what it prints, how it ends."""

from __future__ import annotations

import json
import tarfile

import pytest

from shiftwork_coordinator.cli import follow, progress

ID = "d-4K7Q2M9XA"
HERE = f"/v1/deployments/{ID}"


async def test_apply_sends_the_file_and_says_what_changed(fake, cli, tmp_path):
    file = tmp_path / "shiftwork.yml"
    file.write_text("application: web\n")
    change = {"kind": "deployment group", "name": "web/production", "change": "created", "detail": "4 instances"}
    fake.on("POST", "/v1/apply", {"changes": [change]})
    ran = await cli("apply", "-f", str(file))
    assert (ran.code, ran.out) == (0, "deployment group web/production created: 4 instances\n")
    assert fake.bodies("POST", "/v1/apply") == [{"file": str(file), "text": "application: web\n"}]
    fake.on("POST", "/v1/apply", {"changes": []})
    assert (await cli("apply", "-f", "-", stdin="application: web\n")).out == "Nothing to change.\n"


async def test_revisions_are_listed_with_their_signatures(fake, cli):
    plain = {"application": "web", "revision": {"identity": "sha256:ab"}, "size": 1500, "pushedAt": 0, "signed": None}
    facts = {"signer": "SHA256:key", "sequence": 7, "signedAt": 1.0, "expires": 1.9e9}
    signed = {**plain, "revision": {"identity": "sha256:cd"}, "pushedBy": "token 1", "signed": facts}
    fake.on("GET", "/v1/revisions", {"revisions": [signed, plain]})
    ran = await cli("revisions", "--application", "web")
    head, first, second = ran.out.splitlines()
    assert head.split()[:3] == ["REVISION", "APPLICATION", "SIZE"]
    assert first.split()[:4] == ["sha256:cd", "web", "1.5", "kB"] and "token 1  SHA256:key  7" in first
    assert second.split() == ["sha256:ab", "web", "1.5", "kB", "-", "-"]
    assert fake.asked[-1].query == {"application": "web"}
    fake.on("GET", "/v1/revisions", {"revisions": []})
    assert "`shiftwork push`" in (await cli("revisions")).out
    assert json.loads((await cli("revisions", "--output", "json")).out) == {"revisions": []}


async def test_push_packs_a_directory_and_prints_the_id_alone(fake, cli, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "appspec.yml").write_text("version: 0.0\n")
    fake.on("POST", "/v1/revisions", {"revision": "sha256:ab", "size": 13, "entries": 1, "new": True}, 201)
    ran = await cli("push", str(tmp_path / "app"), "--application", "web")
    assert (ran.code, ran.out, ran.err) == (0, "sha256:ab\n", "1 entries, 13 B\n")
    sent = fake.asked[-1]
    assert sent.query == {"application": "web", "type": "tgz"}
    assert int(sent.headers["Content-Length"]) == len(sent.body)
    (tmp_path / "sent.tgz").write_bytes(sent.body)
    with tarfile.open(tmp_path / "sent.tgz") as archive:
        assert archive.getnames() == ["appspec.yml"]


async def test_push_sends_an_archive_as_it_is(fake, cli, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "AFTER", 0.0)
    (tmp_path / "app.zip").write_bytes(b"PK" * 300_000)
    fake.on(
        "POST",
        "/v1/revisions",
        {"revision": "sha256:ab", "size": 9, "entries": 2, "new": False, "warnings": ["no hooks"]},
    )
    ran = await cli("push", str(tmp_path / "app.zip"), "--application", "web", "--description", "a & b")
    assert fake.asked[-1].body == b"PK" * 300_000
    assert fake.asked[-1].query == {"application": "web", "type": "zip", "description": "a & b"}
    assert "the coordinator had it already" in ran.err
    assert "warning: no hooks\n" in ran.err
    assert "Uploading ... 600.0 kB of 600.0 kB (100 %)" in ran.err


async def test_push_of_what_is_no_archive_is_invalid(fake, cli, tmp_path):
    (tmp_path / "app.rar").write_bytes(b"")
    ran = await cli("push", str(tmp_path / "app.rar"), "--application", "web")
    assert ran.code == 2
    assert "cannot tell the archive type of 'app.rar'" in ran.err
    assert not fake.asked


async def test_plan_prints_batches_steps_and_problems(fake, cli):
    plan = {
        "config": "CodeDeployDefault.HalfAtATime",
        "balancers": ["haproxy tcp://127.0.0.1:9999"],
        "batches": [{"number": 1, "targets": ["web-1", "web-2"], "inService": 2, "minimum": 2}],
        "steps": [{"at": "batch 1", "balancer": "haproxy: deregister web-1", "inService": 3}, "wait until quiet"],
        "problems": [{"message": "no health checks", "fatal": False, "instance": "web-3"}],
    }
    fake.on("POST", "/v1/plan", plan)
    ran = await cli("plan", "web/production", "--revision", "sha256:ab")
    assert ran.out.splitlines() == [
        "deployment config: CodeDeployDefault.HalfAtATime",
        "load balancers: haproxy tcp://127.0.0.1:9999",
        "batch 1: web-1, web-2 (in service 2, minimum 2)",
        "   1  batch 1  haproxy: deregister web-1  (in service 3)",
        "   2  wait until quiet",
        "note: web-3: no health checks",
    ]
    assert ran.code == 0
    assert fake.bodies("POST", "/v1/plan")[-1].keys() == {"application", "group", "revision"}
    fake.on("POST", "/v1/plan", plan | {"parameters": {"WORKERS": "8", "NOTE": "\x1b[31mred"}})
    ran = await cli("plan", "web/production", "--revision", "sha256:ab", "--parameter", "WORKERS=8")
    assert "parameters: WORKERS=8 NOTE=red\n" in ran.out
    assert fake.bodies("POST", "/v1/plan")[-1]["parameters"] == {"WORKERS": "8"}
    ids = [f"i-{n:017x}" for n in range(3)]
    found = [
        {
            "instance": "web-1",
            "instanceId": ids[0],
            "zone": "eu-west-1a",
            "autoScalingGroup": "web",
            "state": "running",
        },
        {"instance": ids[1], "instanceId": ids[1], "zone": "eu-west-1a", "autoScalingGroup": "web", "state": "running"},
        {"instance": "web-3", "instanceId": ids[2], "zone": "", "autoScalingGroup": "", "state": "stopped"},
        {"instance": "rack-1", "instanceId": "", "zone": "", "autoScalingGroup": "", "state": ""},
    ]
    fake.on("POST", "/v1/plan", plan | {"instances": found})
    lines = (await cli("plan", "web/production", "--revision", "sha256:ab")).out.splitlines()
    assert lines[2:4] == [f"instances: web-3 ({ids[2]})", f"web in eu-west-1a: web-1 ({ids[0]}), {ids[1]}"]
    fake.on("POST", "/v1/plan", plan | {"problems": [{"message": "unknown backend", "fatal": True}]})
    ran = await cli("plan", "web/production", "--revision", "sha256:ab", "--output", "json")
    assert ran.code == 2
    assert json.loads(ran.out)["problems"] == [{"message": "unknown backend", "fatal": True}]


async def test_status_of_one(fake, cli, view, make_target):
    events = [{"lifecycleEventName": "Install", "status": "InProgress", "startTime": 1000.0}]
    there, away = {"connected": True, "lastSeen": 9.0, "connections": 3}, {"connected": False, "lastSeen": 1.0}
    targets = [make_target("web-1", "InProgress", 1, events) | {"agent": there}, make_target("web-2") | {"agent": away}]
    waiting = [{"code": "HOOK", "target": "web-1", "message": "Install \x1b[31mruns", "since": None, "until": None}]
    fake.views[ID] = view(targets=targets, waiting=waiting)
    ran = await cli("status", ID)
    lines = ran.out.splitlines()
    assert lines[0] == "d-4K7Q2M9XA web/production: InProgress, batch 1 of 2, in service 2 of 2, minimum 2"
    assert lines[3].split() == ["TARGET", "STATUS", "BATCH", "EVENT", "TIME", "TRAFFIC", "AGENT"]
    assert lines[4].split()[:4] == ["web-1", "InProgress", "1", "Install"]
    assert lines[4].endswith("connected, 3 connections on the port") and " last seen " in lines[5]
    assert lines[-1] == "waiting: web-1: Install runs"
    assert json.loads((await cli("status", ID, "--output", "json")).out) == fake.views[ID]


async def test_status_shows_how_traffic_moved(fake, cli, view):
    moved = [
        {"targetId": "orders", "weight": weight, "at": at} for weight, at in ((0.1, 1.0), (1.0, 61.0), (0.0, 99.0))
    ]
    fake.views[ID] = view() | {"trafficWeights": moved}
    (line,) = (line for line in (await cli("status", ID)).out.splitlines() if line.startswith("traffic"))
    first, second, third = line.removeprefix("traffic of orders: ").split("  ")
    assert [each.split()[:2] for each in (first, second, third)] == [["▂", "10%"], ["█", "100%"], ["▁", "0%"]]


async def test_status_without_id_shows_the_latest_when_none_is_active(fake, cli, view):
    def deployments(query):
        return {"deployments": [] if query == {"active": "true"} else [view("Succeeded", targets=[])]}

    fake.on("GET", "/v1/deployments", deployments)
    fake.views[ID] = view("Succeeded", completeTime=1002.0)
    ran = await cli("status")
    assert [each.query for each in fake.asked[:2]] == [{"active": "true"}, {"limit": "1"}]
    assert "Deployment d-4K7Q2M9XA of web/production succeeded after 2.0 s" in ran.out
    ran = await cli("status", "--output", "json")
    assert [each["deploymentId"] for each in json.loads(ran.out)["deployments"]] == [ID]


async def test_status_without_id_lists_several(fake, cli, view):
    both = [view(deploymentId="d-2", targets=[]), view(deploymentId="d-1", targets=[])]
    fake.on("GET", "/v1/deployments", {"deployments": both})
    ran = await cli("status")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["DEPLOYMENT", "d-2", "d-1"]


async def test_list_filters(fake, cli, view):
    fake.on("GET", "/v1/deployments", {"deployments": [view(targets=[])]})
    ran = await cli("list", "--group", "web/production", "--active", "--limit", "5")
    assert fake.asked[-1].query == {"application": "web", "group": "production", "active": "true", "limit": "5"}
    assert ran.out.splitlines()[1].split()[:3] == [ID, "web/production", "InProgress"]
    fake.on("GET", "/v1/deployments", {"deployments": []})
    assert (await cli("list")).out == "No deployments yet.\n"


async def test_why_is_one_line_per_reason(fake, cli):
    reasons = [
        {"code": "BAKE", "target": "", "message": "baking after batch 1", "since": None, "until": 60.0},
        {"code": "QUIET", "target": "web-1", "message": "3 requests in flight", "since": None, "until": None},
    ]
    fake.on("GET", f"{HERE}/why", {"waiting": reasons})
    ran = await cli("why", ID)
    assert ran.out == "baking after batch 1 (until 00:01:00 at most)\nweb-1: 3 requests in flight\n"
    fake.on("GET", f"{HERE}/why", {"waiting": []})
    assert (await cli("why", ID)).out == "It waits for nothing.\n"


async def test_stop_and_continue_say_how(fake, cli, view):
    fake.on("POST", f"{HERE}/stop", view())
    fake.on("POST", f"{HERE}/continue", view("Baking"))
    ran = await cli("stop", ID)
    assert ran.out == "Deployment d-4K7Q2M9XA of web/production asked to stop; it is InProgress.\n"
    await cli("stop", ID, "--now", "--rollback")
    await cli("stop", ID, "--no-rollback")
    assert fake.bodies("POST", f"{HERE}/stop") == [
        {"now": False, "rollback": None},
        {"now": True, "rollback": True},
        {"now": False, "rollback": False},
    ]
    ran = await cli("continue", ID, "--now", "--output", "json")
    assert json.loads(ran.out)["status"] == "Baking"
    assert fake.bodies("POST", f"{HERE}/continue") == [{"now": True}]


async def test_what_was_deployed_together_is_steered_together(fake, cli, view):
    fake.on("POST", f"{HERE}/continue", view(together=["d-2", "d-3"]))
    ran = await cli("continue", ID)
    assert ran.out.endswith("it is InProgress, and what was deployed together with it: d-2, d-3.\n")


async def test_logs_are_passed_on_and_as_json_line_by_line(fake, cli):
    fake.on(
        "GET", f"{HERE}/logs", "web-1 Install | \x1b[1mone\x1b[0m\nweb-1 Install | zw\u00f6lf \xff".encode("latin-1")
    )
    ran = await cli("logs", ID, "--grep", "o", "--follow")
    assert ran.out == "web-1 Install | \x1b[1mone\x1b[0m\nweb-1 Install | zw\ufffdlf \ufffd\n"
    assert fake.asked[-1].query == {"grep": "o", "follow": "true"}
    ran = await cli("logs", ID, "--output", "json")
    first = json.loads(ran.out.splitlines()[0])
    assert first == {"targetId": "web-1", "lifecycleEventName": "Install", "line": "\x1b[1mone\x1b[0m"}
    fake.on("GET", f"{HERE}/logs", b"a | b\n")
    ran = await cli("logs", ID, "--target", "web-1", "--event", "Install", "--output", "json")
    assert json.loads(ran.out) == {"targetId": "web-1", "lifecycleEventName": "Install", "line": "a | b"}


@pytest.mark.parametrize("refuse", [0, 2])
async def test_logs_that_are_followed_go_on_after_a_restart_and_say_each_line_once(fake, cli, monkeypatch, refuse):
    pace = follow.Pace(backoff=(0.01,))
    monkeypatch.setattr(follow, "Pace", lambda: pace)
    first = b"web-1 Install | one\nweb-2 Install | one\nweb-1 Install | tw"
    again = b"web-1 Install | one\nweb-1 Install | two\nweb-1 Install | two\nweb-2 Install | one\n"
    answers = [(first, refuse), (again[:30], 0), again]
    fake.on("GET", f"{HERE}/logs", lambda query: answers.pop(0))
    ran = await cli("logs", ID, "--follow")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        *("web-1 Install | one", "web-2 Install | one", "web-1 Install | two", "web-1 Install | two")
    ]
    assert ran.err.count("connection lost: cannot reach the coordinator") == 2


async def test_logs_that_are_not_followed_break_with_their_connection(fake, cli):
    fake.on("GET", f"{HERE}/logs", lambda query: (b"web-1 Install | one\n", 0))
    ran = await cli("logs", ID)
    assert (ran.code, ran.out) == (3, "web-1 Install | one\n")
    fake.refuse = 100
    assert (await cli("logs", ID, "--follow")).code == 3, "there was no coordinator at first"


async def test_instances_and_their_tags(fake, cli):
    known = {
        "instance": "web-1",
        "address": "127.77.0.1",
        "tags": {"Role": "web", "Env": "prod"},
        "connected": True,
        "lastSeen": 1000.0,
        "agentVersion": "0.1.0",
        "revokedAt": None,
    }
    fake.on("GET", "/v1/instances", {"instances": [known]})
    ran = await cli("instances")
    assert ran.out.splitlines()[1].split() == [
        *("web-1", "127.77.0.1", "connected", "-", "1970-01-01", "00:16:40", "0.1.0", "Env=prod", "Role=web")
    ]
    told = {"load1": 0.5, "cpus": 2, "memoryUsedPercent": 33.4, "memoryTotalBytes": 8_000_000_000}
    told |= {"diskUsedPercent": 61.0, "diskFreeBytes": 12_000_000_000}
    fake.on("GET", "/v1/instances", {"instances": [known | {"readings": told, "connectedSince": 60.0}]})
    line = (await cli("instances")).out.splitlines()[1]
    assert "  1970-01-01 00:01:00  1970-01-01 00:16:40  0.50 / 2  33% of 8.0 GB  61%, 12.0 GB free  0.1.0" in line
    in_ec2 = known | {"instance": "web-2", "instanceId": "i-0123456789abcdef0", "zone": "eu-west-1b"}
    fake.on("GET", "/v1/instances", {"instances": [known, in_ec2]})
    head, first, second = (await cli("instances")).out.splitlines()
    assert head.endswith("EC2") and first.endswith("Role=web") and second.endswith("  i-0123456789abcdef0 eu-west-1b")
    fake.on("GET", "/v1/instances", {"instances": [known]})
    assert json.loads((await cli("instances", "--output", "json")).out) == {"instances": [known]}
    fake.on("POST", "/v1/instances/web-1/tags", known)
    ran = await cli("instances", "tag", "web-1", "Role=web", "Empty=", "--remove", "Old")
    assert ran.out == "web-1: Env=prod Role=web\n"
    assert fake.bodies("POST", "/v1/instances/web-1/tags") == [{"tags": {"Role": "web", "Empty": "", "Old": None}}]
    assert (await cli("instances", "tag", "web-1")).code == 2
    fake.on("POST", "/v1/instances/web-1/revoke", known | {"revokedAt": 1.0})
    assert (await cli("revoke", "web-1")).out == "web-1 is revoked.\n"


async def test_tokens(fake, cli):
    fake.on("POST", "/v1/tokens", {"id": "t-1", "token": "swt_secret", "expiresAt": 1000.0})
    ran = await cli("token", "create", "--agent", "--name", "web-1", "--tag", "Role=web", "--ttl", "15m", "--uses", "2")
    assert ran.out == "swt_secret\n"
    assert "Token t-1, valid until 1970-01-01 00:16:40" in ran.err
    await cli("token", "create", "--role", "viewer", "--output", "json")
    assert fake.bodies("POST", "/v1/tokens") == [
        {"kind": "agent", "name": "web-1", "tags": {"Role": "web"}, "ttl": 900.0, "uses": 2},
        {"kind": "operator", "role": "viewer"},
    ]
    fake.on(
        "GET",
        "/v1/tokens",
        {"tokens": [{"id": "t-1", "kind": "agent", "name": "web-1", "usesLeft": 0, "expiresAt": None}]},
    )
    fake.on("POST", "/v1/tokens", {"id": "t-2", "token": "s", "group": "web/blue", "tags": {"Role": "web"}})
    ran = await cli("token", "create", "--agent", "--group", "web/blue")
    assert fake.bodies("POST", "/v1/tokens")[-1] == {"kind": "agent", "group": "web/blue"}
    assert "For instances of web/blue: Role=web" in ran.err
    assert (await cli("token", "list")).out.splitlines()[1].split() == ["t-1", "agent", "web-1", "0", "-"]
    fake.on("DELETE", "/v1/tokens/t-1", b"", 204)
    assert (await cli("token", "revoke", "t-1")).out == "Token t-1 is revoked.\n"
    assert (await cli("token", "revoke", "t-1", "--output", "json")).out == "{}\n"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--agent", "--role", "admin"),
        ("--role", "admin", "--uses", "2"),
        ("--role", "admin", "--group", "a/b"),
        ("--agent", "--aws"),
        ("--aws", "--uses", "2"),
    ],
)
async def test_token_create_refuses_what_contradicts_itself(fake, cli, args):
    ran = await cli("token", "create", *args)
    assert ran.code == 2
    assert not fake.asked


async def test_a_key_for_aws_is_printed_as_its_sdks_want_it(fake, cli):
    made = {"id": "SWKIA", "accessKeyId": "SWKIA", "secretAccessKey": "s3cr3t", "expiresAt": None}
    fake.on("POST", "/v1/tokens", made)
    ran = await cli("token", "create", "--aws", "--name", "hooks")
    assert ran.out == "AWS_ACCESS_KEY_ID=SWKIA\nAWS_SECRET_ACCESS_KEY=s3cr3t\n"
    await cli("token", "create", "--aws", "--role", "viewer")
    assert fake.bodies("POST", "/v1/tokens") == [{"kind": "aws", "name": "hooks"}, {"kind": "aws", "role": "viewer"}]


async def test_options_of_a_group_reach_its_commands(fake, cli, tmp_path):
    fake.on("POST", "/v1/instances/web-1/tags", {"instance": "web-1", "tags": {}})
    ran = await cli("instances", "--output", "json", "tag", "web-1", "Role=web")
    assert json.loads(ran.out) == {"instance": "web-1", "tags": {}}
    ran = await cli("instances", "--data", str(tmp_path), "tag", "web-1", "Role=web")
    assert ran.code == 3
    assert str(tmp_path) in ran.err

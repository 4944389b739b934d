"""What runs where signatures are required: what was signed by whom the host's owner allows, and nothing older."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from click.testing import CliRunner

from shiftwork_agent import accepted, signing
from shiftwork_agent.accepted import GRACE, Memory
from shiftwork_agent.clock import SystemClock
from shiftwork_agent.config import Config
from shiftwork_agent.fetch.target import Sink
from shiftwork_agent.installer import Installer
from shiftwork_agent.late import LateInstaller
from shiftwork_agent.layout import Layout
from shiftwork_agent.link import Link
from shiftwork_agent.local import local_command
from shiftwork_agent.signers import Answer, Question
from shiftwork_agent.trust import Policy, Trust, asked_in_child
from shiftwork_contract.archive import inspect, pack
from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.messages import Command, CommandEnded, EventStarted, HealthCheck, Observed, Watch
from shiftwork_contract.revision import BundleType, Revision, Signed
from shiftwork_contract.statement import made

from .signatures import DAY, NOW, Key, allow, key, signed

SPEC = "version: 0.0\nos: linux\nfiles:\n  - source: app\n    destination: /srv/app\n"


class SetClock:
    def __init__(self) -> None:
        self.now = NOW

    def wall(self) -> float:
        return self.now

    def uptime(self) -> float:
        return self.now


async def in_process(question: Question) -> Answer:
    return signing.answer(question)


class Host:
    """A host that requires signatures, and the bundles that can be fetched."""

    def __init__(self, tmp: Path, **policy: Any) -> None:
        self.tmp, self.clock, self.fetched = tmp, SetClock(), 0
        self.key = key(tmp)
        self.signers = allow(tmp / "signers", f"web {self.key.public}")
        self.policy = Policy(**({"required": True, "signers": str(self.signers)} | policy))
        (tmp / "root").mkdir()
        self.archives: dict[str, Path] = {}
        self.restart()

    def restart(self) -> None:
        trust = Trust(self.policy, self.tmp / "accepted.json", self.clock, in_process)
        self.installer = Installer(self.tmp / "state", self.tmp / "root", self, trust=trust)

    async def fetch(self, revision: Revision, sink: Sink) -> None:
        self.fetched += 1
        await sink.begin()
        await sink.write(self.archives[revision.identity].read_bytes())

    def bundle(self, version: str) -> Revision:
        source = self.tmp / f"bundle-{version}"
        (source / "app").mkdir(parents=True)
        (source / "app/version").write_text(version)
        (source / "appspec.yml").write_text(SPEC)
        archive = self.tmp / f"{version}.tgz"
        with archive.open("wb") as out:
            pack(source, out)
        with archive.open("rb") as content:
            revision = Revision(inspect(content, BundleType.TGZ).identity, "coordinator:")
        self.archives[revision.identity] = archive
        return revision

    def command(self, revision: Revision, signature: Signed | None, **more: Any) -> Command:
        carried = msgspec.structs.replace(revision, signed=signature)
        return Command("c", "d", "g", "web", "production", 1, carried, **more)

    def release(self, version: str, sequence: int, **more: Any) -> Command:
        revision = self.bundle(version)
        return self.command(revision, signed(self.key, revision.identity, sequence=sequence, **more))

    async def deploy(self, command: Command) -> str:
        await self.installer.prepare(command)
        await self.installer.install(command)
        return (self.tmp / "root/srv/app/version").read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def refused(host: Host, command: Command) -> str:
    """The message; nothing may have been fetched for it."""
    before = host.fetched
    with pytest.raises(InvalidRequest) as err:
        await host.deploy(command)
    assert host.fetched == before
    return err.value.message


async def test_a_signed_revision_runs(host: Host) -> None:
    assert await host.deploy(host.release("v1", 1)) == "v1"
    found = accepted.load(host.tmp / "accepted.json").of("web")
    assert [(one.sequence, one.signer) for one in found] == [(1, host.key.fingerprint)]


async def test_a_child_process_says_the_same(host: Host) -> None:
    good = signed(host.key)
    for application in ("web", "api"):
        question = Question(good.statement, good.signature, application, str(host.signers), NOW)
        assert await asked_in_child(question) == signing.answer(question)


async def test_nothing_else_is_even_fetched(host: Host) -> None:
    revision = host.bundle("v1")
    stranger = key(host.tmp, "ecdsa")
    good = signed(host.key, revision.identity)
    cases = {
        "it is not signed": None,
        "the key is not in": signed(stranger, revision.identity),
        "for the application 'api'": signed(host.key, revision.identity, application="api"),
        "for the tree": signed(host.key),
        "expired": signed(host.key, revision.identity, at=NOW - 9 * DAY, expires=NOW - 1),
        "is to come": signed(host.key, revision.identity, at=NOW + DAY, expires=NOW + 2 * DAY),
        "one of them was changed": Signed(good.statement.replace('ce":1,', 'ce":9,'), good.signature),
        "for the namespace 'git'": signed(host.key, revision.identity, namespace="git"),
        "cannot read the signed statement": Signed(good.statement.replace(",", ", "), good.signature),
        "cannot read the signature": Signed(good.statement, "nonsense"),
    }
    for part, signature in cases.items():
        message = await refused(host, host.command(revision, signature))
        assert part in message and "shiftwork sign" in message, message
        assert signature is None or part.startswith("cannot read") or "SHA256:" in message
    assert not (host.tmp / "accepted.json").exists()


async def test_what_lies_in_the_store_already_is_checked_too(host: Host) -> None:
    """An Install by itself, and a revision that came before signatures were required."""
    revision = host.bundle("v1")
    host.policy = Policy(signers=str(host.signers))
    host.restart()
    await host.installer.prepare(host.command(revision, None))
    host.policy = Policy(required=True, signers=str(host.signers))
    host.restart()
    with pytest.raises(InvalidRequest, match="not signed"):
        await host.installer.install(host.command(revision, None))
    with pytest.raises(InvalidRequest, match="not signed"):
        await host.installer.admit(host.command(revision, None))
    assert await host.deploy(host.command(revision, signed(host.key, revision.identity))) == "v1"


@pytest.mark.parametrize("stored", [False, True])
async def test_the_tree_counts_where_a_revision_is_named_by_its_archive(host: Host, stored: bool) -> None:
    tree = host.bundle("v1").identity
    archive = host.archives[tree]
    name = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    host.archives[name] = archive
    elsewhere = Revision(name, "https://x/v1.tgz", digest_of="archive")
    if stored:
        await host.installer.prepare(host.command(elsewhere, signed(host.key, tree)))
    with pytest.raises(InvalidRequest, match="was signed" if not stored else "for the tree"):
        await host.deploy(host.command(elsewhere, signed(host.key, sequence=2)))
    assert stored or not list((host.tmp / "state/revisions").iterdir())
    assert await host.deploy(host.command(elsewhere, signed(host.key, tree, sequence=3))) == "v1"


async def test_a_rollback_needs_no_new_signature_and_a_replay_finds_nothing(host: Host) -> None:
    first, second = host.release("v1", 10), host.release("v2", 20)
    never = host.release("v0", 5)
    assert await host.deploy(first) == "v1"
    assert await host.deploy(second) == "v2"
    host.restart()
    assert await host.deploy(first) == "v1"
    assert "sequence 5 is not above 20" in await refused(host, never)
    again = host.command(first.revision, signed(host.key, first.revision.identity, sequence=20))
    assert "sequence 20 is not above 20" in await refused(host, again)
    anew = host.command(never.revision, signed(host.key, never.revision.identity, sequence=21))
    assert await host.deploy(anew) == "v0"


async def test_the_window_bounds_how_far_back_one_may_go(tmp_path: Path) -> None:
    host = Host(tmp_path, window=2)
    releases = [host.release(f"v{n}", n) for n in (1, 2, 3)]
    for release in releases:
        await host.deploy(release)
    assert "not among the 2 highest" in await refused(host, releases[0])
    assert await host.deploy(releases[1]) == "v2"
    for n in (4, 5):
        await host.installer.prepare(host.release(f"v{n}", n))
    assert await host.deploy(releases[1]) == "v2"  # it is installed


async def test_what_failed_its_checks_raises_no_sequence(host: Host) -> None:
    bad = host.bundle("bad")
    host.archives[bad.identity] = host.archives[host.bundle("other").identity]
    with pytest.raises(InvalidRequest, match="tree digest"):
        await host.deploy(host.command(bad, signed(host.key, bad.identity, sequence=99)))
    assert await host.deploy(host.release("v1", 1)) == "v1"


async def test_an_expiry_does_not_cut_what_is_under_way(host: Host) -> None:
    release, late = host.release("v1", 1, expires=NOW + 10), host.release("v2", 2, expires=NOW + 10)
    await host.installer.prepare(release)
    host.clock.now = NOW + 60
    await host.installer.install(release)
    assert "expired" in await refused(host, late)
    host.clock.now = NOW + 20 + GRACE
    assert "expired" in await refused(host, release)


async def test_the_memory_is_not_guessed(host: Host) -> None:
    (host.tmp / "accepted.json").write_text("{")
    assert "accepted.json" in await refused(host, host.release("v1", 1))
    (host.tmp / "accepted.json").write_text('{"format": 2, "applications": {}}')
    assert "its format is 2" in await refused(host, host.release("v2", 1))


VARIABLES = [
    "LD_PRELOAD", "BASH_FUNC_ls%%", "BASH_ENV", "PATH", "PYTHONPATH", "GIT_SSH_COMMAND", "MAKEFLAGS", "TAR_OPTIONS",
    "npm_config_script_shell", "HOME",
]  # fmt: skip


@pytest.mark.parametrize("name", VARIABLES)
async def test_a_variable_is_no_way_around_a_signature(host: Host, name: str) -> None:
    release = host.release("v1", 1)
    message = await refused(host, msgspec.structs.replace(release, environment={name: "x", "COLOUR": "blue"}))
    assert repr(name) in message
    await host.deploy(msgspec.structs.replace(release, environment={"COLOUR": "blue", "NODE_ENV": "production"}))


async def test_nor_is_one_for_the_scripts_of_what_is_installed(host: Host) -> None:
    """They run without being asked about again, but not with whatever a command brings to them."""
    release = host.release("v1", 1)
    await host.deploy(release)
    await host.installer.admit(msgspec.structs.replace(release, environment={"COLOUR": "blue"}), installed=True)
    with pytest.raises(InvalidRequest, match="BASH_ENV"):
        await host.installer.admit(msgspec.structs.replace(release, environment={"BASH_ENV": "x"}), installed=True)


async def test_a_signature_that_is_not_required_is_checked_where_anybody_may_sign(tmp_path: Path) -> None:
    host = Host(tmp_path, required=False)
    stranger, revision = key(tmp_path, "ecdsa"), host.bundle("v1")
    assert "the key is not in" in await refused(host, host.command(revision, signed(stranger, revision.identity)))
    host.signers.unlink()
    assert await host.deploy(host.command(revision, signed(stranger, revision.identity))) == "v1"
    assert await host.deploy(host.command(host.bundle("v2"), None)) == "v2"


async def test_a_required_signature_without_signers_is_refused(host: Host) -> None:
    release = host.release("v1", 1)
    host.signers.unlink()
    assert "cannot use the allowed signers" in await refused(host, release)


def test_the_memory_keeps_the_highest_and_what_is_installed() -> None:
    memory = Memory()
    trees = [f"sha256:{n:064x}" for n in range(accepted.KEPT + 20)]
    for n, tree in enumerate(trees):
        statement = made("web", tree, sequence=n + 1, signed_at=NOW, expires=NOW + DAY)
        memory = accepted.noted(memory, statement, "SHA256:x", {trees[3]}, NOW)
    kept = [one.sequence for one in memory.of("web")]
    assert kept == [*range(len(trees), len(trees) - accepted.KEPT, -1), 4]


# Every way in


async def test_hooks_of_a_revision_that_may_not_run_do_not(bench: Any) -> None:
    """A command may hold hooks alone; those of the installed revision are not asked about again."""
    bench.installer.put("r1", {"ApplicationStop": "echo stopped", "AfterInstall": "touch ran\n"})
    async with bench.agent():
        await bench.run(bench.command("Install"))
        bench.installer.problems["admit"] = "it is not signed"
        stopped = await bench.run(bench.command("ApplicationStop"))
        ended = await bench.run(bench.command("AfterInstall"))
    assert stopped.status is EventStatus.SUCCEEDED
    assert ended.status is EventStatus.FAILED and "it is not signed" in ended.diagnostics.message
    assert not (bench.installer.bundle_dir("r1") / "ran").exists()


async def test_scripts_of_what_is_installed_get_no_variable_that_may_not_be(bench: Any) -> None:
    bench.installer.put("r1", {"ApplicationStop": "touch ran\n"})
    async with bench.agent():
        await bench.run(bench.command("Install"))
        bench.installer.problems["admit installed"] = "the variable 'BASH_ENV'"
        ended = await bench.run(bench.command("ApplicationStop"))
    assert ended.status is EventStatus.FAILED and "'BASH_ENV'" in ended.diagnostics.message
    assert not (bench.installer.bundle_dir("r1") / "ran").exists()


async def test_a_restart_in_the_middle_of_the_question_is_no_answer(bench: Any, monkeypatch: Any) -> None:
    """The event was begun, its scripts were not: the next agent asks again."""
    bench.installer.put("r1", {"AfterInstall": "touch ran\n"})

    async def never(command: Command, *, installed: bool = False) -> None:
        await asyncio.Event().wait()

    command = bench.command("AfterInstall")
    with monkeypatch.context() as cut:
        cut.setattr(bench.installer, "admit", never)
        async with bench.agent():
            await bench.send(command)
            await bench.coordinator.expect(EventStarted, command_id=command.id)
    bench.installer.problems["admit"] = "it is not signed"
    async with bench.agent():
        ended = await bench.coordinator.expect(CommandEnded, command_id=command.id)
    assert ended.status is EventStatus.FAILED and "it is not signed" in ended.diagnostics.message
    assert not (bench.installer.bundle_dir("r1") / "ran").exists()


async def test_a_health_check_runs_no_command_where_code_is_signed(bench: Any) -> None:
    check = HealthCheck(command=("touch", str(bench.layout.state / "ran")), interval=0.05, unhealthy=1, healthy=1)
    async with bench.agent(require_signed=True):
        await bench.coordinator.send(Watch(1, "g-1", 1, check))
        seen = await bench.coordinator.expect(Observed, group_id="g-1")
    assert seen.probe is not None and not seen.probe.healthy and "require_signed" in seen.probe.detail
    assert not (bench.layout.state / "ran").exists()


def local(tmp: Path, *more: str) -> Any:
    arguments = ["--bundle", str(tmp / "b"), "--state", str(tmp / "state"), "--install-root", str(tmp / "root")]
    return CliRunner().invoke(local_command, [*arguments, "--config", str(tmp / "agent.yml"), *more])


def signature_files(tmp: Path, by: Key) -> Path:
    with (tmp / "b.tgz").open("w+b") as out:
        pack(tmp / "b", out)
        out.seek(0)
        tree = inspect(out, BundleType.TGZ).identity
    now = SystemClock().wall()
    given = signed(by, tree, application="local", at=now, expires=now + DAY)
    (tmp / "b.statement").write_text(given.statement)
    (tmp / "b.statement.sig").write_text(given.signature)
    return tmp / "b.statement"


def test_local_keeps_the_owner_s_rules_too(tmp_path: Path) -> None:
    by = key(tmp_path)
    signers = allow(tmp_path / "signers", f"local {by.public}")
    (tmp_path / "agent.yml").write_text(f"require_signed: true\nallowed_signers: {signers}\n")
    (tmp_path / "b/app").mkdir(parents=True)
    (tmp_path / "b/appspec.yml").write_text(SPEC)
    (tmp_path / "b/app/version").write_text("v1")
    bare = local(tmp_path)
    assert bare.exit_code == 1 and "it is not signed" in bare.output
    statement = signature_files(tmp_path, by)
    assert local(tmp_path, "--signature", str(statement)).exit_code == 0
    (tmp_path / "b/app/version").write_text("v2")
    changed = local(tmp_path, "--signature", str(statement))
    assert changed.exit_code == 1 and "it is for the tree" in changed.output
    assert (tmp_path / "root/srv/app/version").read_text() == "v1"


async def test_the_daemon_follows_the_settings_file(tmp_path: Path) -> None:
    config = Config(require_signed=True, allowed_signers=str(tmp_path / "signers"), allowed_destinations=("/srv",))
    installer = LateInstaller(Layout(tmp_path), config)
    installer.link = cast(Link, None)  # nothing comes so far that it would be fetched
    revision = Revision("sha256:" + "0" * 64, "coordinator:")
    command = Command("c", "d", "g", "web", "production", 1, revision)
    for verb in (installer.prepare, installer.install, installer.admit):
        with pytest.raises(InvalidRequest, match="it is not signed"):
            await verb(command)
    carried = msgspec.structs.replace(revision, signed=signed(key(tmp_path), revision.identity))
    with pytest.raises(InvalidRequest, match=f"cannot use the allowed signers in {tmp_path}/signers"):
        await installer.prepare(msgspec.structs.replace(command, revision=carried))

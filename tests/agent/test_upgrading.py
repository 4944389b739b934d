"""An agent's own upgrade: the real script with a package manager and a systemd made of a few lines of sh."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shiftwork_agent import daemon, upgrading
from shiftwork_agent.facts import HOME, host_facts
from shiftwork_agent.layout import write_atomically
from shiftwork_agent.upgrading import SCRIPT, CheckedFile, Upgrades, why_not
from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.messages import HostFacts, Message, Package, Upgrade, Upgraded

# A package's text is what installing it does: `works`, `real` (connects when the test lets it), `silent` (never does),
# `fails`, `dies` (power is lost while it is unpacked, once), `held` (somebody else has the lock, once).
DPKG = """#!/bin/sh
echo "$(basename "$0") $*" >>"$FAKE/calls"
case "$1" in --configure) exit 0 ;; esac
for file in "$@"; do :; done
read -r version does <"$file"
once() { [ ! -e "$FAKE/once" ] && : >"$FAKE/once"; }
case "$does" in
fails) echo "unpacked"; echo "error: no room" >&2; exit 1 ;;
dies) once && kill -9 $PPID && exit 1 ;;
held) once && echo "dpkg: error: dpkg frontend lock was locked by another process with pid 7" >&2 && exit 2 ;;
esac
echo "$version" >"$FAKE/installed"
case "$does" in real) ;; silent) rm -f connected ;; *) echo "$version" >connected ;; esac
"""
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$FAKE/calls"
[ ! -e "$FAKE/down" ]
"""
SYSTEMD_RUN = """#!/bin/sh
echo "systemd-run $*" >>"$FAKE/calls"
[ ! -e "$FAKE/no-systemd" ] || { echo "Failed to connect to bus" >&2; exit 1; }
mkdir "$FAKE/unit" 2>/dev/null || { echo "Unit was already loaded" >&2; exit 1; }
for word in "$@"; do :; done
(/bin/sh "$word/upgrade.sh" "$word"; rmdir "$FAKE/unit") >/dev/null 2>&1 &
"""
SLEEP = "#!/bin/sh\nexec /bin/sleep 0.02\n"
FACTS = HostFacts("x86_64", "debian", "12", "deb")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with `calls`, what was run, and `installed`, the version that is."""
    fake, tools = tmp_path / "fake", tmp_path / "tools"
    fake.mkdir()
    tools.mkdir()
    scripts = {"dpkg": DPKG, "rpm": DPKG, "systemctl": SYSTEMCTL, "systemd-run": SYSTEMD_RUN, "sleep": SLEEP}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setattr(upgrading, "LOOK_EVERY", 0.02)
    yield fake


def planned(tmp_path: Path, new: str, previous: str = "1 works", *, format: str = "deb", within: int = 1) -> Path:
    directory = tmp_path / "upgrade"
    directory.mkdir()
    (directory / "plan").write_text(f"{format}\n2\n{within}\n0\n")
    (directory / f"new.{format}").write_text(new + "\n")
    if previous:
        (directory / f"previous.{format}").write_text(previous + "\n")
    return directory


def run(directory: Path) -> int:
    return subprocess.run(["/bin/sh", SCRIPT, directory], timeout=60, check=False, capture_output=True).returncode


def outcome(directory: Path) -> tuple[str, str]:
    state, _, why = (directory / "outcome").read_text().partition("\n")
    return state, why.strip()


def calls(host: Path) -> str:
    return (host / "calls").read_text()


def test_a_package_that_works_stays(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 works")
    assert run(directory) == 0
    assert outcome(directory) == ("done", "")
    assert "dpkg -i --force-confold --force-downgrade new.deb" in calls(host)
    assert not (directory / "plan").exists() and not (directory / "step").exists()


def test_one_whose_agent_does_not_connect_goes_back(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 silent")
    run(directory)
    assert outcome(directory) == ("returned", "2 was not connected, or did not stay so, within 1 s")
    assert (host / "installed").read_text() == "1\n"


def test_one_that_the_package_manager_refuses_goes_back(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 fails")
    run(directory)
    assert outcome(directory) == ("returned", "the package manager cannot install 2: error: no room")
    assert (host / "installed").read_text() == "1\n"


def test_one_whose_service_is_down_goes_back_though_it_had_connected(host: Path, tmp_path: Path) -> None:
    (host / "down").touch()
    directory = planned(tmp_path, "2 works")
    run(directory)
    assert outcome(directory)[0] == "returned"


def test_without_a_package_to_go_back_to_it_says_so(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 silent", previous="")
    run(directory)
    assert outcome(directory)[1].endswith("there is no package to go back to")


def test_one_that_cannot_be_put_back_either_is_told(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 silent", previous="1 fails")
    run(directory)
    assert "the previous package cannot be installed either: error: no room" in outcome(directory)[1]


def test_it_waits_while_somebody_else_installs(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 held")
    run(directory)
    assert outcome(directory) == ("done", "")
    assert calls(host).count("dpkg -i") == 2


def test_after_a_loss_of_power_it_goes_on(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 dies")
    assert run(directory) != 0
    assert (directory / "step").read_text() == "install\n" and not (directory / "outcome").exists()
    assert run(directory) == 0
    assert outcome(directory) == ("done", "")
    assert "dpkg --configure -a --force-confold" in calls(host)


@pytest.mark.parametrize("step", ["await", "return"])
def test_after_a_loss_of_power_no_step_is_done_again(host: Path, tmp_path: Path, step: str) -> None:
    directory = planned(tmp_path, "2 works")
    (directory / "step").write_text(f"{step}\n")
    (directory / "why").write_text("it was not connected\n")
    (directory / "connected").write_text("2\n")
    run(directory)
    assert outcome(directory) == (("done", "") if step == "await" else ("returned", "it was not connected"))
    assert "new.deb" not in calls(host)


def test_it_runs_once_at_a_time_and_not_without_a_plan(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 works")
    with (directory / "lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(directory) == 0
    (directory / "plan").unlink()
    assert run(directory) == 0
    assert not (host / "calls").exists()


def test_rpm(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 silent", format="rpm")
    run(directory)
    assert outcome(directory)[0] == "returned"
    assert "rpm -U --oldpackage --replacepkgs previous.rpm" in calls(host)


# The agent's side


class Site:
    """Packages by version, and agents on one directory: a later one is what the package manager has started."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "state" / "upgrade"
        self.directory.parent.mkdir()
        self.sent: list[Upgraded] = []
        self.packages = {"1": "1 works", "2": "2 real"}
        self.fetched: list[str] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, Upgraded)
        self.sent.append(message)

    @property
    def states(self) -> list[str]:
        return [message.state for message in self.sent]

    async def fetch(self, package: Package, into: Path) -> None:
        self.fetched.append(package.version)
        if package.version not in self.packages:
            raise Unavailable(f"cannot fetch the package of {package.version}: gone")
        into.write_text(self.packages[package.version] + "\n")

    @contextlib.asynccontextmanager
    async def agent(self, version: str, problem: str = "") -> AsyncIterator[Upgrades]:
        class Over(Exception):
            pass

        try:
            async with asyncio.TaskGroup() as tasks:
                found = Upgrades(self.directory, version, FACTS, problem, self.send, self.fetch, tasks, hold=0)
                found.start()
                found.connected()
                yield found
                found.disconnected()
                raise Over
        except* Over:
            pass

    async def until(self, *states: str) -> None:
        async with asyncio.timeout(60):
            while self.states[-len(states) :] != list(states):
                await asyncio.sleep(0.01)


async def appears(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)


def package(version: str, **fields: Any) -> Package:
    values = {"path": f"/v1/agent/packages/sha256:{'a' * 64}", "sha256": "a" * 64, "size": 8, **fields}
    return Package(version, **values)


def wanted(id: str = "u-1", version: str = "2", connect_within: float = 60.0) -> Upgrade:
    return Upgrade(1, id, package(version), package("1"), connect_within)


@pytest.fixture
def site(host: Path, tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_an_agent_becomes_the_new_version_and_says_so_ever_after(site: Site, host: Path) -> None:
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await site.until("fetching", "installing")
        agent.receive(wanted())
        assert site.states == ["fetching", "installing", "installing"]
        await appears(host / "installed")
    async with site.agent("2"):
        await site.until("installing", "done")
    async with site.agent("2") as agent:
        assert site.states[-1] == "done"
        agent.receive(wanted())
        assert site.states[-1] == "done"
    assert site.fetched == ["2", "1"]
    assert calls(host).count("dpkg -i") == 1
    assert "--unit=shiftwork-agent-upgrade-u-1" in calls(host)
    assert sorted(path.name for path in site.directory.iterdir()) == ["lock", "log", "upgrade.json"]


async def test_an_agent_whose_next_version_does_not_connect_says_that_it_is_back(site: Site) -> None:
    site.packages["2"] = "2 silent"
    async with site.agent("1") as agent:
        agent.receive(wanted(connect_within=1.0))
        await site.until("fetching", "installing", "returned")
    assert site.sent[-1].message == "2 was not connected, or did not stay so, within 1 s"


async def test_what_cannot_be_fetched_changes_nothing(site: Site, host: Path) -> None:
    del site.packages["1"]
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await site.until("fetching", "refused")
        assert site.sent[-1].message == "cannot fetch the package of 1: gone"
        agent.receive(wanted("u-2", "1"))  # the next one is free to begin
        await site.until("done")
    assert not (host / "calls").exists()


async def test_without_systemd_run_nothing_is_changed(site: Site, host: Path) -> None:
    (host / "no-systemd").touch()
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await site.until("installing", "refused")
    assert "Failed to connect to bus" in site.sent[-1].message
    assert not (site.directory / "plan").exists()


async def test_an_agent_that_is_killed_while_it_fetches_begins_again(site: Site) -> None:
    never = asyncio.Event()
    fetch, site.fetch = site.fetch, lambda package, into: never.wait()  # type: ignore[method-assign,assignment,return-value]
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await asyncio.sleep(0)
    site.fetch = fetch  # type: ignore[method-assign]
    async with site.agent("1"):
        await site.until("installing")


async def test_an_agent_that_is_killed_before_the_script_was_started_starts_it(site: Site, host: Path) -> None:
    (host / "unit").mkdir()
    (host / "no-systemd").touch()
    async with site.agent("1") as agent:
        agent._clear = lambda: None  # type: ignore[method-assign]  # killed: it does not tidy up
        agent.receive(wanted())
        await site.until("installing", "refused")
        agent._keep(wanted(), Upgraded("u-1", "installing"))
    (host / "unit").rmdir()
    (host / "no-systemd").unlink()
    async with site.agent("1"):
        await appears(host / "installed")


async def test_a_script_that_was_killed_is_started_again(
    site: Site, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "START_AGAIN_AFTER", 5)
    site.packages["2"] = "2 dies"
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await site.until("installing")
        await appears(host / "installed")


@pytest.mark.parametrize("reached", ["fetching", "installing"])
async def test_an_upgrade_is_not_taken_up_where_signatures_are_required_since(
    site: Site, host: Path, reached: str
) -> None:
    """Such as one whose package a coordinator has held back until the host's owner had locked the door."""
    site.directory.mkdir()
    state = Upgraded("u-1", reached)  # type: ignore[arg-type]
    (site.directory / "upgrade.json").write_bytes(msgspec.json.encode(upgrading.Record(wanted(), state)))
    async with site.agent("1", "only what is signed"):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert site.fetched == [] and not (host / "calls").exists()
    assert site.sent[0] == (Upgraded("u-1", "refused", "only what is signed") if reached == "fetching" else state)


async def test_one_upgrade_at_a_time(site: Site) -> None:
    never = asyncio.Event()
    site.fetch = lambda package, into: never.wait()  # type: ignore[method-assign,assignment,return-value]
    async with site.agent("1") as agent:
        agent.receive(wanted())
        agent.receive(wanted("u-2"))
        assert site.sent[-1] == Upgraded("u-2", "refused", "upgrade u-1 to 2 is under way")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Upgrade(1, "u-1", package("2", path="/v1/agent/bundles/x")), "is no place for one"),
        (Upgrade(1, "u-1", package("2", path="//evil/x")), "is no place for one"),
        (Upgrade(1, "u-1", package("2\nevil")), "is no place for one"),
        (Upgrade(1, "u-1", package("2"), package("1", size=0)), "0 bytes are more than"),
        (Upgrade(1, "../u", package("2")), "cannot use '../u' as a name"),
    ],
)
async def test_odd_wishes_are_refused(site: Site, message: Upgrade, problem: str) -> None:
    async with site.agent("1") as agent:
        agent.receive(message)
    assert site.states == ["refused"] and problem in site.sent[0].message


async def test_a_record_that_cannot_be_read_stops_no_agent(site: Site) -> None:
    site.directory.mkdir()
    (site.directory / "upgrade.json").write_text("{")
    async with site.agent("1") as agent:
        agent.receive(wanted(version="1"))
    assert site.states == ["done"]


@pytest.mark.parametrize(
    ("facts", "options", "told"),
    [
        (HostFacts(), {}, "not installed from a .deb or .rpm"),
        (FACTS, {"systemd": False}, "systemd does not run"),
        (FACTS, {"require_signed": True}, "only what is signed"),
        (FACTS, {}, ""),
    ],
)
def test_which_hosts_take_none(facts: HostFacts, options: dict[str, bool], told: str) -> None:
    why = why_not(facts, **{"systemd": True, "require_signed": False, **options})
    assert told in why and bool(told) == bool(why)


def test_what_a_host_is(tmp_path: Path) -> None:
    assert host_facts(tmp_path) == HostFacts(os.uname().machine)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    assert host_facts(tmp_path, HOME) == HostFacts(os.uname().machine, "debian", "12")
    (info / "shiftwork-agent.list").touch()
    assert host_facts(tmp_path, HOME).package == "deb"
    assert host_facts(tmp_path, "/usr").package == ""
    (info / "shiftwork-agent.list").unlink()
    (tmp_path / "usr/lib/sysimage/rpm").mkdir(parents=True)
    assert host_facts(tmp_path, HOME).package == "rpm"


async def test_a_package_is_checked_as_it_comes(tmp_path: Path) -> None:
    right = package("2", sha256=hashlib.sha256(b"package").hexdigest(), size=7)
    with (tmp_path / "file").open("wb") as file:
        sink = CheckedFile(right, file)
        await sink.begin()
        await sink.write(b"wrong, and cut")
        with pytest.raises(InvalidRequest, match="14 bytes and sha256"):
            sink.check()
        await sink.begin()
        await sink.write(b"pack")
        await sink.write(b"age")
        sink.check()
    assert (tmp_path / "file").read_bytes() == b"package"


async def test_an_agent_that_no_package_brought_says_why_it_refuses(bench: Any) -> None:
    async with bench.agent():
        hello = bench.coordinator.hellos[-1]
        assert "upgrade" not in hello.features and hello.host.machine == os.uname().machine
        await bench.coordinator.send(wanted())
        told = await bench.coordinator.expect(Upgraded)
        assert (told.state, told.id) == ("refused", "u-1") and "not installed from" in told.message


async def test_a_past_epoch_is_refused(bench: Any, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "host_facts", lambda: FACTS)
    monkeypatch.setattr(daemon, "has_systemd", lambda: True)
    bench.coordinator.epoch = 5
    async with bench.agent():
        assert "upgrade" in bench.coordinator.hellos[-1].features
        await bench.coordinator.send(wanted())
        told = await bench.coordinator.expect(Upgraded)
        assert (told.state, told.message) == ("refused", "epoch 1 is over: epoch 5 has begun")


async def test_a_disk_without_room_ends_no_agent(site: Site, host: Path) -> None:
    """Each file that is to be written fails in turn; with room again the upgrade is gone on with."""
    blocked = site.directory / ".upgrade.json.new"
    async with site.agent("1") as agent:
        blocked.mkdir(parents=True)
        agent.receive(wanted())
        assert site.states == ["refused"] and "cannot remember" in site.sent[0].message
        blocked.rmdir()
        agent.receive(wanted("u-2"))
        blocked.mkdir()
        await asyncio.sleep(0.1)
        blocked.rmdir()
        agent.connected()
        await appears(host / "installed")
    async with site.agent("2"):
        await site.until("done")


def test_an_outcome_for_which_there_is_no_room_is_told_later(host: Path, tmp_path: Path) -> None:
    directory = planned(tmp_path, "2 works")
    (directory / ".outcome").mkdir()
    assert run(directory) == 1
    assert (directory / "plan").exists() and not (directory / "outcome").exists()
    (directory / ".outcome").rmdir()
    assert run(directory) == 0
    assert outcome(directory)[0] == "done"


async def test_what_the_script_needs_is_on_disk_before_the_plan(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        written.append(path.name)
        write_atomically(path, data, mode)

    monkeypatch.setattr(upgrading, "write_atomically", write)
    async with site.agent("1") as agent:
        agent.receive(wanted())
        await site.until("installing")
        async with asyncio.timeout(60):
            while "plan" not in written:
                await asyncio.sleep(0.01)
    assert written.index("upgrade.sh") < written.index("plan")

"""What an agent keeps on disk, between versions: today's reads what 0.1.0 wrote, and the other way round, since an
upgrade that fails puts the older one back. `data/state-0.1.0` was written by 0.1.0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.world import World, old_and_command
from tests.contract import release_0_1_0 as before
from tests.contract.filled import full, plain, says

from shiftwork_agent import config, hooks, identity, journal, store
from shiftwork_agent.install import model
from shiftwork_agent.install.apply import GroupFiles
from shiftwork_agent.layout import Layout
from shiftwork_agent.ledger import Ledger
from shiftwork_agent.outbox import Outbox
from shiftwork_contract.messages import SetGate

HERE = Path(__file__).parent / "data" / "state-0.1.0"
KEPT: list[tuple[str, Any, Any]] = [
    ("identity", identity.Identity, before.Identity),
    ("installed", model.Installed, before.Installed),
    ("change", model.Change, before.Change),
    ("about", store.About, before.About),
    ("result", hooks.Result, before.Result),
    ("whereabouts", hooks.Whereabouts, before.Whereabouts),
    ("gates", list[SetGate], list[before.SetGate]),
]


@pytest.mark.parametrize(("name", "now"), [(name, now) for name, now, _ in KEPT])
def test_its_files_are_read_today(name: str, now: Any) -> None:
    written = (HERE / f"{name}.json").read_bytes()
    assert says(plain(msgspec.json.decode(written, type=now)), json.loads(written))


@pytest.mark.parametrize(("now", "then"), [(now, then) for _, now, then in KEPT], ids=[name for name, *_ in KEPT])
def test_it_reads_todays_files(now: Any, then: Any) -> None:
    written = msgspec.json.encode(full(now))
    assert says(json.loads(written), plain(msgspec.json.decode(written, type=then)))


@pytest.mark.parametrize("kind", journal.Record.__args__, ids=lambda kind: kind.__name__)
def test_it_reads_todays_ledger(kind: Any) -> None:
    """All of it: an agent does not start on a line that it cannot read."""
    written = msgspec.json.encode(full(kind))
    assert says(json.loads(written), plain(msgspec.json.decode(written, type=before.Record)))


def test_its_ledger_is_read_today(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    lines = (HERE / "ledger.jsonl").read_bytes().splitlines()
    found = journal.Journal(ledger, Outbox(ledger, lambda *_: b""))
    found.restore(lines)
    assert {json.loads(line)["kind"] for line in lines} == {kind.__name__ for kind in before.Record.__args__}
    assert (found.epoch, found.sequences, found.entries["text"].ran) == (7, {"text": 7}, ("text",))
    for line in lines:
        assert says(plain(msgspec.json.decode(line, type=journal.Record)), json.loads(line))


def test_its_settings_and_identity_are_read_today(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    shutil.copy(HERE / "identity.json", layout.about)
    assert identity.load(layout).instance == "text"
    found = config.load(HERE / "agent.yml")
    assert (found.coordinators, found.name, found.address) == (("https://a:7070",), "web-1", "10.0.0.1")


def test_what_join_writes_is_read_by_it(tmp_path: Path) -> None:
    joined = config.Config(coordinators=("https://a:7070",), name="web-1", address="10.0.0.1")
    (tmp_path / "agent.yml").write_bytes(config.dump(joined))
    found = msgspec.yaml.decode((tmp_path / "agent.yml").read_bytes(), type=before.Config)
    assert (found.coordinators, found.name) == (joined.coordinators, "web-1")


def test_formats_are_those_that_it_knows() -> None:
    assert (model.FORMAT, store.FORMAT) == (1, 1)


class Killed(BaseException):
    """As if the agent had been killed: nobody handles it."""


async def cut(world: World, at: str) -> tuple[Path, dict[str, Any]]:
    """A host on which an install was cut at this step: its group's files, and what was installed before."""
    command = await old_and_command(world)
    former = world.tree()

    def step(name: str) -> None:
        if name == at:
            raise Killed

    world.step = step
    with pytest.raises(Killed):
        await world.installer().install(command)
    world.step = lambda name: None
    return world.state / "groups" / "g", former


CUTS = ("stage /srv/app/same", "swapping", "swap /srv/app/same", "committed", "end")


@pytest.mark.parametrize("at", CUTS)
async def test_an_install_that_it_was_cut_in_is_ended_today(tmp_path: Path, at: str) -> None:
    world = World(tmp_path)
    group, former = await cut(world, at)
    phase = GroupFiles(group).phase()
    for ready in group.glob(".phase.*"):  # 0.1.0 writes a phase when it comes
        ready.unlink()
    assert (group / "phase").exists() == (at not in CUTS[:2])
    await world.installer().recover()
    assert (world.tree() == former) == (phase == "staging")
    assert not [path for path in world.root.rglob("*") if "shiftwork" in path.name]
    assert {path.name for path in group.iterdir()} == {"installed.json", "originals"}


@pytest.mark.parametrize(("at", "phase"), [("swap /srv/app/same", "swapping"), ("end", "committed")])
async def test_it_knows_how_far_an_install_of_today_got(tmp_path: Path, at: str, phase: str) -> None:
    group, _ = await cut(World(tmp_path), at)
    assert (group / "phase").read_text() == phase

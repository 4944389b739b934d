"""The driver for two sets that stand already: Auto Scaling groups among them are held and let go together, originals
are ended where that is wanted, and an answer that gets lost changes nothing in the end."""

from __future__ import annotations

import pytest
from tests.drivers.scaling_account import Account, group

from shiftwork_contract.errors import InvalidRequest, Unavailable
from shiftwork_contract.resource import ExistingSets, ScalingGroup
from shiftwork_coordinator import fleets
from shiftwork_coordinator.model.arrangement import Arrangement
from shiftwork_coordinator.model.settings import BlueGreen, GroupSettings, Instances
from shiftwork_coordinator.shifters import asking
from shiftwork_coordinator.shifters.existing import Existing
from shiftwork_coordinator.testing import Machine, MemoryFleets

A = Arrangement
SETTINGS = GroupSettings(
    Instances(autoscaling=("web",)), blue_green=BlueGreen("existing", replacements=Instances(autoscaling=("web-b",)))
)
NAMES = ("web", "web-b")
HELD = ExistingSets("existing:live", tuple(ScalingGroup(f"autoscaling:{name}", name, "d-1") for name in NAMES))
ENDS = ExistingSets("existing:live", (), ("i-1", "i-2"))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    made = Account(group("web"), group("web-b"))
    monkeypatch.setattr(asking, "of", lambda at: made.ask)
    return made


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> MemoryFleets:
    memory = MemoryFleets({id: Machine() for id in ("i-1", "i-2", "i-3")})
    monkeypatch.setattr(fleets, "connect", lambda at: memory)
    return memory


def driver() -> Existing:
    return Existing(SETTINGS)


async def holds(one: ExistingSets) -> frozenset[Arrangement]:
    return (await driver().readings([one]))[one.name].holds


async def arrange(one: ExistingSets, wanted: Arrangement) -> None:
    """Until no answer is lost, as the engine asks."""
    for _ in range(3):
        try:
            return await driver().arrange(one, wanted)
        except Unavailable:
            continue
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("lost", range(8))
@pytest.mark.parametrize("end", [A.RETIRED, A.ABANDONED])
async def test_both_groups_are_held_and_let_go(account: Account, lost: int, end: Arrangement) -> None:
    before = account.stands()
    assert await driver().check([HELD]) == []
    assert A.PROVISIONED not in await holds(HELD)
    account.lost_at = lost
    await arrange(HELD, A.PROVISIONED)
    assert {A.PROVISIONED, A.PROMOTED} <= await holds(HELD)
    assert all(account.stands()[name]["rests"] for name in NAMES)
    await arrange(HELD, A.PROMOTED)
    await arrange(HELD, end)
    assert end in await holds(HELD) and account.stands() == before


async def test_one_of_them_that_is_missing_is_named(account: Account) -> None:
    del account.groups["web-b"]
    (problem,) = await driver().check([HELD])
    assert problem.fatal and "web-b" in problem.message
    assert A.PROVISIONED not in await holds(HELD)


async def test_where_nothing_is_held_or_ended_everything_holds(ec2: MemoryFleets) -> None:
    assert await holds(ExistingSets("existing:live")) == frozenset(A)
    assert ec2.asked == 0


async def test_originals_are_ended_and_only_they(ec2: MemoryFleets) -> None:
    assert A.RETIRED not in await holds(ENDS) and A.PROMOTED in await holds(ENDS)
    await arrange(ENDS, A.PROMOTED)
    await arrange(ENDS, A.ABANDONED)
    assert {machine.state for machine in ec2.machines.values()} == {"running"}
    await arrange(ENDS, A.RETIRED)
    assert A.RETIRED in await holds(ENDS)
    assert {id for id, machine in ec2.machines.items() if machine.state == "running"} == {"i-3"}


async def test_what_ec2_does_not_tell_is_no_end(ec2: MemoryFleets) -> None:
    ec2.unreachable = True
    reading = (await driver().readings([ENDS]))[ENDS.name]
    assert (reading.ready, reading.holds, reading.fatal) == (False, frozenset(), False)
    with pytest.raises(InvalidRequest):
        await driver().set_weight(ENDS, 0.5)

"""A coordinator that was away must not take its own silence for the agents'."""

from types import SimpleNamespace

import pytest

from shiftwork_coordinator.engine.itinerary import PREPARE
from shiftwork_coordinator.engine.service import in_service
from shiftwork_coordinator.model.settings import GroupSettings, Health, Instances, Limits
from shiftwork_coordinator.model.snapshot import AgentSeen
from shiftwork_coordinator.model.status import TargetStatus
from shiftwork_coordinator.shell.agents import Agents

SETTINGS = GroupSettings(Instances(), health=Health(http="http://127.0.0.1/"), limits=Limits(silent_after=60.0))
TARGET = SimpleNamespace(instance="web-1", status=TargetStatus.SUCCEEDED, left_at=None, look=0)


def judged(agent, now):
    snapshot = SimpleNamespace(
        deployment=SimpleNamespace(settings=SETTINGS),
        agents={"web-1": agent},
        balancers=(),
        traffic={},
        health={},
        gone={},
    )
    return in_service(snapshot, TARGET, (PREPARE,), now).value


@pytest.mark.parametrize(("now", "expected"), [(1001.0, None), (1059.0, None), (1061.0, False)])
def test_an_agent_not_heard_yet_is_unknown_before_it_is_silent(now, expected):
    assert judged(AgentSeen(last_seen=10.0, awaited_since=1000.0), now) is expected


def test_silence_counts_from_the_start_of_this_process():
    agents = Agents(SimpleNamespace(now=lambda: 1000.0), print)
    agents.remember("web-1", 10.0)
    seen = agents.seen("web-1")
    assert (seen.last_seen, seen.awaited_since) == (10.0, 1000.0)

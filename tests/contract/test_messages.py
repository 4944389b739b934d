"""Messages: what is sent is what arrives, and what a newer peer adds does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftwork_contract import messages as m
from shiftwork_contract.diagnostics import Diagnostics, ErrorCode
from shiftwork_contract.errors import ContractViolation
from shiftwork_contract.lifecycle import EventStatus
from shiftwork_contract.revision import Revision

COMMAND = m.Command("c", "d", "g", "app", "group", 3, Revision("sha256:" + "0" * 64, "coordinator:"), ("AfterInstall",))
DIAGNOSTICS = Diagnostics(ErrorCode.SCRIPT_FAILED, "s.sh", "exited with code 3", "é\n")

FROM_AGENT = [
    m.Hello(1, 1, "0.1", "boot", 7, groups=(m.GroupState("g", "sha256:1", "d", 3),), unfinished=("c",)),
    m.Heartbeat(0.5),
    m.Observed("g", 4, m.Probe(True), m.Quiet(True, 2), m.GateState(True, 1.5)),
    m.Accepted(1, "c"),
    m.Refused(2, "c", "STALE_EPOCH", "text"),
    m.EventStarted(3, "c", "AfterInstall", 1.0),
    m.EventEnded(4, "c", "AfterInstall", EventStatus.FAILED, 2.0, DIAGNOSTICS, "sha256:1"),
    m.Output(5, "c", "AfterInstall", 0, b"\xff\x00out"),
    m.CommandEnded(6, "c", EventStatus.FAILED, 2.0, ("AfterInstall",), DIAGNOSTICS, m.GroupState("g")),
    m.RenewCertificate("csr"),
    m.Upgraded("u", "returned", "not connected within 60 s"),
    m.Unsupported("X"),
]
FROM_COORDINATOR = [
    m.Welcome(1, 9, "web-1"),
    m.Acknowledge(6),
    m.RunCommand(9, COMMAND),
    m.CancelCommand(9, "c", True),
    m.Watch(9, "g", 4, m.HealthCheck(http="http://127.0.0.1/"), m.QuietCheck(8080)),
    m.Unwatch(9, "g"),
    m.SetGate(9, "g", 5, "127.0.0.1:8081", "/", True),
    m.Upgrade(9, "u", m.Package("0.2.0", "/v1/agent/packages/0", "0" * 64, 13_000_000)),
    m.Certificate("cert", "ca"),
]


@pytest.mark.parametrize("message", FROM_AGENT, ids=lambda message: type(message).__name__)
def test_agents_messages_arrive(message: m.Message) -> None:
    assert m.from_agent(m.encode(message)) == message


@pytest.mark.parametrize("message", FROM_COORDINATOR, ids=lambda message: type(message).__name__)
def test_coordinators_messages_arrive(message: m.Message) -> None:
    assert m.from_coordinator(m.encode(message)) == message


def test_every_message_is_in_this_test() -> None:
    assert {type(x) for x in FROM_AGENT} == set(m.FromAgent.__args__)
    assert {type(x) for x in FROM_COORDINATOR} | {m.Unsupported} == set(m.FromCoordinator.__args__)


def test_members_are_named_as_in_codedeploy() -> None:
    sent = json.loads(m.encode(m.RunCommand(9, COMMAND)))
    assert sent["kind"] == "RunCommand" and sent["command"]["deploymentId"] == "d"
    assert sent["command"]["fileExistsBehavior"] == "DISALLOW"


def test_what_a_newer_peer_adds_is_ignored() -> None:
    raw = json.loads(m.encode(m.RunCommand(9, COMMAND)))
    raw["command"]["later"] = raw["later"] = {"x": 1}
    assert m.from_coordinator(json.dumps(raw)) == m.RunCommand(9, COMMAND)


def test_an_unknown_kind_is_answered_and_the_wrong_direction_is_one() -> None:
    assert m.from_agent('{"kind": "Later", "x": 1}') == m.Unsupported("Later")
    assert m.from_agent(m.encode(m.Welcome(1, 1, "x"))) == m.Unsupported("Welcome")
    assert m.from_coordinator('{"kind": "' + "L" * 500 + '"}') == m.Unsupported("L" * 64)


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", '{"kind": 1}', '{"kind": "Accepted"}', '{"kind": "Accepted", "seq": "1"}', b"\xff"]
)
def test_what_is_malformed_breaks_the_contract(raw: Any) -> None:
    with pytest.raises(ContractViolation, match="cannot read"):
        m.from_agent(raw)


@given(st.text(max_size=80) | st.binary(max_size=80))
def test_noise_raises_nothing_else(noise: Any) -> None:
    for decode in (m.from_agent, m.from_coordinator):
        with pytest.raises(ContractViolation):
            decode(noise)


@pytest.mark.parametrize("kind", ["Later", "Hello", "Welcome"])
@pytest.mark.parametrize("read", [m.from_agent, m.from_coordinator])
def test_a_message_nested_deeper_than_can_be_read_is_none(kind: str, read: Callable[[str], object]) -> None:
    """It must not come out as a RecursionError, which ends a daemon."""
    with pytest.raises(ContractViolation, match="cannot read a message"):
        read(f'{{"kind": "{kind}", "x": {"[" * 100_000}{"]" * 100_000}}}')

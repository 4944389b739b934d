"""The agents that are connected to this process, and what they last said.

Only readings live here; whatever must survive is in rows. A message to an agent that is not connected is dropped:
what is wanted is derived from the rows again when it connects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from shiftwork_contract.errors import Unavailable
from shiftwork_contract.messages import FromCoordinator, GateState, Heartbeat, Observed, SetGate
from shiftwork_coordinator.model.snapshot import AgentSeen, QuietSeen
from shiftwork_coordinator.ports import Clock


class Session(Protocol):
    """One agent's live connection."""

    def send(self, message: FromCoordinator) -> None:
        """Queues the message; order is kept. A dead connection swallows it."""

    def close(self, reason: str) -> None: ...


class _Reading(msgspec.Struct):
    seen: AgentSeen
    gate_wanted: bool | None = None


class Agents:
    """`woken(instance)` is called after each change that may matter to a deployment of that instance."""

    def __init__(self, clock: Clock, woken: Callable[[str], None]) -> None:
        self._clock = clock
        self._began = clock.now()
        self._woken = woken
        self._sessions: dict[str, Session] = {}
        self._connected_at: dict[str, float] = {}
        self._last_seen: dict[str, float] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._readings: dict[str, dict[str, _Reading]] = {}
        self._seen: dict[str, dict[str, AgentSeen]] = {}

    # Connections

    def connect(self, instance: str, session: Session) -> None:
        """A later connection of the same agent replaces the earlier one."""
        earlier = self._sessions.get(instance)
        self._sessions[instance] = session
        self._connected_at[instance] = self._clock.now()
        if earlier is not None:
            earlier.close("replaced by a newer connection of the same agent")
        self._forget(instance)
        self.heard(instance)

    def disconnect(self, instance: str, session: Session | None = None) -> None:
        """Forgets this connection, when it is still the current one; without `session`, closes whichever there is."""
        current = self._sessions.get(instance)
        if current is None or (session is not None and current is not session):
            return
        del self._sessions[instance]
        if session is None:
            current.close("revoked")
        self._forget(instance)
        self._woken(instance)

    def _forget(self, instance: str) -> None:
        self._seen.pop(instance, None)
        self._readings.pop(instance, None)

    def _reading(self, instance: str, group_id: str) -> _Reading:
        return self._readings.setdefault(instance, {}).setdefault(group_id, _Reading(AgentSeen()))

    def connected(self, instance: str) -> bool:
        return instance in self._sessions

    def count(self) -> int:
        return len(self._sessions)

    def send(self, instance: str, message: FromCoordinator) -> bool:
        session = self._sessions.get(instance)
        if session is not None:
            session.send(message)
        return session is not None

    # Readings

    def heard(self, instance: str, heartbeat: Heartbeat | None = None) -> None:
        self._last_seen[instance] = self._clock.now()
        self._seen.pop(instance, None)
        if heartbeat is not None:
            self._heartbeats[instance] = heartbeat

    def remember(self, instance: str, last_seen: float | None) -> None:
        """What the rows know from before this process."""
        if last_seen is not None:
            self._last_seen.setdefault(instance, last_seen)
            self._seen.pop(instance, None)

    def observed(self, instance: str, message: Observed) -> None:
        now = self._clock.now()
        self.heard(instance)
        reading = self._reading(instance, message.group_id)
        seen = reading.seen
        quiet = QuietSeen(message.quiet, now) if message.quiet else seen.quiet
        told = _said(seen)
        reading.seen = replace(
            seen,
            asked=message.asked,
            probe=message.probe,
            probe_at=now,
            quiet=quiet,
            quiet_before=seen.quiet if message.quiet else seen.quiet_before,
            gate=message.gate or seen.gate,
        )
        if message.quiet or _said(reading.seen) != told:
            self._woken(instance)

    def seen(self, instance: str, group_id: str = "") -> AgentSeen:
        """Kept until something of it changes: a tick asks for every agent, few of them have spoken since the last."""
        by_group = self._seen.setdefault(instance, {})
        if group_id not in by_group:
            reading = self._readings.get(instance, {}).get(group_id)
            by_group[group_id] = replace(
                reading.seen if reading else AgentSeen(),
                connected=instance in self._sessions,
                last_seen=self._last_seen.get(instance),
                awaited_since=self._began,
                connected_at=self._connected_at.get(instance, 0.0),
            )
        return by_group[group_id]

    def heartbeat(self, instance: str) -> Heartbeat | None:
        return self._heartbeats.get(instance)

    # Gates

    def set_gate(self, instance: str, message: SetGate) -> None:
        reading = self._reading(instance, message.group_id)
        reading.gate_wanted = message.open
        if not self.send(instance, message):
            raise Unavailable(
                f"cannot move the gate of {instance}: its agent is not connected; it is asked again when it is"
            )

    def gate(self, instance: str, group_id: str) -> GateState | None:
        """The last state, when it answers what was last wanted."""
        reading = self._readings.get(instance, {}).get(group_id)
        if reading is None or reading.seen.gate is None or not self.connected(instance):
            return None
        wanted = reading.gate_wanted
        return reading.seen.gate if wanted is None or reading.seen.gate.open == wanted else None


def _said(seen: AgentSeen) -> tuple[object, ...]:
    """What of a reading may matter when it changes. Each count of connections is news: quiet takes two in a row."""
    return seen.asked, seen.probe, seen.gate


class GroupGates:
    """ports.Gates for one deployment group: the gates of its agents at one point."""

    def __init__(self, agents: Agents, make: Callable[[str, bool], SetGate], group_id: str) -> None:
        self._agents, self._make, self._group_id = agents, make, group_id

    async def set(self, instance: str, *, open: bool) -> None:
        self._agents.set_gate(instance, self._make(instance, open))

    def state(self, instance: str) -> GateState | None:
        return self._agents.gate(instance, self._group_id)

"""The upgrade of agents that is active, if there is one: decide, write, tell the agents, sleep.

What agents said is not kept: each says again how its upgrade stands whenever it connects. So a restarted coordinator
goes on from the rows alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog
from msgspec.structs import replace

from shiftwork_contract.errors import Conflict, InvalidRequest
from shiftwork_contract.messages import Upgraded
from shiftwork_coordinator.engine.decision import Reason
from shiftwork_coordinator.engine.upgrading import UpgradeDecision, decide
from shiftwork_coordinator.model.rows import Instance
from shiftwork_coordinator.model.status import ENDED
from shiftwork_coordinator.model.upgrades import AgentUpgrade, AgentUpgradeTarget, HostSeen, UpgradeSnapshot
from shiftwork_coordinator.ports import Clock
from shiftwork_coordinator.shell.agents import Agents
from shiftwork_coordinator.store import Audit, Fenced, Put, Store

log = structlog.get_logger()
IDLE_TICK = 2.0
"""Seconds after which it looks again although nothing called for it."""
REST = 0.1
"""Seconds between two looks: what happens meanwhile is one look's worth of news."""
RETRY = 5.0
FEATURE = "upgrade"


class Home(Protocol):
    """What an upgrade needs of the coordinator."""

    store: Store
    clock: Clock
    agents: Agents
    epoch: int

    def busy(self, instance: str) -> str:
        """An active deployment that has the instance as a target; empty when there is none."""


class Upgrades:
    """One upgrade at a time. Decisions and requests are made one after the other, under one lock."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._active: AgentUpgrade | None = None
        self._targets: dict[str, AgentUpgradeTarget] = {}
        self._rows: dict[str, Instance] = {}
        self._stale: set[str] = set()
        self._told: dict[str, Upgraded] = {}
        self._sent: set[str] = set()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self.decision: UpgradeDecision | None = None

    async def start(self) -> None:
        """Takes up what has not ended, as if nothing had happened."""
        for upgrade in await self._home.store.agent_upgrades(active=True):
            await self._take_up(upgrade)

    async def _take_up(self, upgrade: AgentUpgrade) -> None:
        self._stale.clear()
        self._sent.clear()
        self._targets = await self._home.store.agent_upgrade_targets(upgrade.id)  # from here on `changed` counts
        self._rows = {row.name: row for row in await self._home.store.instances() if row.name in self._targets}
        self.decision = None
        self._active = upgrade
        self._wake.set()

    # What happens

    def connected(self, instance: str) -> None:
        """Over a new link: its row has been written, and what its agent said before is void."""
        self._told.pop(instance, None)
        self._sent.discard(instance)
        self.changed(instance)

    def changed(self, instance: str) -> None:
        if instance in self._targets:
            self._stale.add(instance)
            self._wake.set()

    def told(self, instance: str, message: Upgraded) -> None:
        log.info("agent upgrade", instance=instance, upgrade=message.id, state=message.state, why=message.message)
        self._told[instance] = message
        self.changed(instance)

    # What people ask

    async def create(self, upgrade: AgentUpgrade, instances: Iterable[str], audit: Audit) -> None:
        """Stores and begins it. Raises Conflict while another is active."""
        async with self._lock:
            if self._active is not None:
                raise Conflict(
                    f"cannot upgrade agents now: {self._active.id} (to {self._active.version}) has not ended; wait for"
                    f" it, or stop it with `shiftwork upgrade --stop {self._active.id}`"
                )
            rows = [Put(AgentUpgradeTarget(upgrade.id, name)) for name in instances]
            await self._home.store.write(Put(upgrade), *rows, audit, epoch=self._home.epoch)
            await self._take_up(upgrade)

    async def stop(self, upgrade_id: str, who: str) -> AgentUpgrade:
        """Nothing more is started; what is under way goes on to its end."""
        async with self._lock:
            if self._active is None or self._active.id != upgrade_id:
                raise await self._not_active(upgrade_id)
            stopped = replace(self._active, stop_by=self._active.stop_by or who)
            audit = Audit(who, "upgrade.stop", upgrade_id, self._home.clock.now())
            await self._home.store.write(Put(stopped), audit, epoch=self._home.epoch)
            self._active = stopped
            self._wake.set()
            return stopped

    async def _not_active(self, upgrade_id: str) -> Exception:
        ended = await self._home.store.agent_upgrade(upgrade_id)
        if ended is None:
            return InvalidRequest(f"cannot find the upgrade {upgrade_id[:80]!r}", code="NotFound")
        return Conflict(f"cannot stop the upgrade {upgrade_id}: it is already {ended.status}")

    def reasons(self, upgrade_id: str) -> tuple[Reason, ...]:
        current = self._active is not None and self._active.id == upgrade_id
        return self.decision.reasons if current and self.decision else ()

    # The loop

    async def drive(self) -> None:
        """Until cancelled."""
        while True:
            if self._active is None:
                await self._wake.wait()
            pause = await self._guarded_tick()
            await asyncio.sleep(REST)
            await self._sleep(pause)

    async def _sleep(self, pause: float) -> None:
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _guarded_tick(self) -> float:
        """Seconds after which to look again."""
        self._wake.clear()
        try:
            await self._tick()
        except Fenced:
            raise
        except Exception as err:  # the edge of a tick: a bug here must not end the deployments
            log.error("a tick of an agent upgrade failed and is tried again", exc_info=err)
            return RETRY
        wake_at = self.decision.wake_at if self.decision else None
        return IDLE_TICK if wake_at is None else min(IDLE_TICK, max(0.0, wake_at - self._home.clock.now()))

    async def _tick(self) -> None:
        async with self._lock:
            if self._active is None:
                return
            await self._read_again()
            packages = {row.key: row for row in await self._home.store.packages()}
            hosts = {name: self._seen(name) for name in self._targets}
            snapshot = UpgradeSnapshot(self._active, self._targets, hosts, packages, self._home.epoch)
            decision = decide(snapshot, self._home.clock.now())
            await self._commit(decision)
            self.decision = decision
            self._tell(decision)
            if decision.upgrade.status in ENDED:
                self._end(decision.upgrade)

    async def _read_again(self) -> None:
        while self._stale:
            name = self._stale.pop()  # before it is read: what changes meanwhile is read again
            try:
                row = await self._home.store.instance(name)
            except BaseException:
                self._stale.add(name)
                raise
            if row is not None:
                self._rows[name] = row

    def _seen(self, name: str) -> HostSeen:
        row, agent = self._rows.get(name), self._home.agents.seen(name)
        told = self._told.get(name)
        if row is None or self._active is None:
            return HostSeen(joined=False)
        return HostSeen(
            joined=row.revoked_at is None,
            connected=agent.connected,
            connected_at=agent.connected_at,
            silent_since=max(agent.awaited_since, agent.last_seen or 0.0),
            version=row.agent_version,
            able=FEATURE in row.features,
            host=row.host,
            busy=self._home.busy(name),
            told=told if told is not None and told.id == self._active.id else None,
        )

    async def _commit(self, decision: UpgradeDecision) -> None:
        rows = [Put(target) for target in decision.targets]
        whole = [Put(decision.upgrade)] if decision.upgrade != self._active else []
        if rows or whole:
            await self._home.store.write(*whole, *rows, epoch=self._home.epoch)
        self._active = decision.upgrade
        self._targets = {**self._targets, **{target.instance: target for target in decision.targets}}

    def _tell(self, decision: UpgradeDecision) -> None:
        """Once over each link."""
        for name, message in decision.wanted.items():
            if name not in self._sent and self._home.agents.send(name, message):
                self._sent.add(name)

    def _end(self, upgrade: AgentUpgrade) -> None:
        log.info("agent upgrade ended", upgrade=upgrade.id, status=str(upgrade.status), code=upgrade.error_code)
        self._active, self._targets, self._rows = None, {}, {}

"""The rows of one active deployment, as an image in memory: changed only by what was committed."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from shiftwork_contract.revision import Revision
from shiftwork_coordinator.engine.decision import Decision
from shiftwork_coordinator.engine.itinerary import positions
from shiftwork_coordinator.model.rows import Asked, CommandRow, Deployment, Health, HookRun, Installed, Request, Target
from shiftwork_coordinator.model.snapshot import AgentSeen, AlarmSeen, Companion, Joined, Shifted, Snapshot, TrafficSeen
from shiftwork_coordinator.store import Add, Change, Put, PutEvent, Store


class Image:
    """`commands`, `installed`, `asked` and `hook_runs` change in place, at every report: a snapshot is for one call of
    `decide`."""

    def __init__(self, deployment: Deployment, targets: Mapping[str, Target]) -> None:
        self.deployment = deployment
        self.targets = dict(targets)
        self.request = Request(deployment.id)
        self.commands: dict[tuple[str, int], CommandRow] = {}
        self.asked: dict[tuple[str, str], Asked] = {}
        self.hook_runs: dict[tuple[str, str], HookRun] = {}
        self.installed: dict[str, Installed] = {}
        self.health: dict[str, bool] = {}
        self.last_good: Revision | None = None
        self.last_good_parameters: dict[str, str] = {}
        self.last_good_appspec = ""
        self.joined: dict[str, Joined] = {}

    @classmethod
    async def load(cls, store: Store, deployment: Deployment) -> Image:
        # A process that has asked for no alarm yet has waited for none: its predecessor's time does not count.
        image = cls(replace(deployment, alarms_unread_since=None), await store.targets(deployment.id))
        image.request = await store.request(deployment.id) or Request(deployment.id)
        image.commands = dict(await store.commands(deployment.id))
        image.asked = dict(await store.asked(deployment.id))
        image.hook_runs = await store.hook_runs(deployment.id)
        image.installed = dict(await store.installed(deployment.group_id))
        image.health = {name: row.healthy for name, row in (await store.health(deployment.group_id)).items()}
        group = await store.group_by_id(deployment.group_id)
        image.last_good = group.last_good if group else None
        image.last_good_parameters = group.last_good_parameters if group else {}
        image.last_good_appspec = group.last_good_appspec if group else ""
        return image

    def snapshot(
        self,
        epoch: int,
        agents: Mapping[str, AgentSeen],
        traffic: Mapping[str, tuple[TrafficSeen, ...]],
        balancers: tuple[str, ...],
        alarms: Mapping[str, AlarmSeen],
        shifted: Mapping[str, Shifted],
        blocked_by: str,
        companions: tuple[Companion, ...],
        gone: Mapping[str, str],
    ) -> Snapshot:
        return Snapshot(
            deployment=self.deployment,
            targets=self.targets,
            epoch=epoch,
            request=self.request,
            commands=self.commands,
            asked=self.asked,
            agents=agents,
            traffic=traffic,
            installed=self.installed,
            health=self.health,
            last_good=self.last_good,
            balancers=balancers,
            alarms=alarms,
            shifted=shifted,
            hook_runs=self.hook_runs,
            blocked_by=blocked_by,
            companions=companions,
            joined=self.joined,
            gone=gone,
        )

    def changes(self, decision: Decision) -> list[Change]:
        """What has to be written for this decision; empty when nothing changed."""
        order = positions(self.deployment)
        changes: list[Change] = []
        if decision.deployment is not self.deployment:
            changes.append(Put(decision.deployment))
        changes += [Put(target) for target in decision.targets]
        changes += [Put(command) for command in decision.commands]
        changes += [Put(run) for run in decision.hook_runs]
        changes += [
            PutEvent(self.deployment.id, instance, order.get(row.event, 0), row) for instance, row in decision.events
        ]
        changes += [Put(Health(self.deployment.group_id, name, healthy)) for name, healthy in decision.health]
        changes += [Add(row) for row in decision.history]
        return changes

    def apply(self, decision: Decision) -> None:
        """Takes over what was committed. `targets` is a new mapping: views of it are made in more than one step."""
        self.deployment = decision.deployment
        self.targets = {**self.targets, **{t.instance: t for t in decision.targets}}
        self.hook_runs.update({(r.instance, r.event): r for r in decision.hook_runs})
        self.commands.update({(c.instance, c.stage): c for c in decision.commands})
        self.health = {**self.health, **dict(decision.health)}

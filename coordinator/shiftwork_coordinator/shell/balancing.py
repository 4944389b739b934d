"""A group's balancers and gate, connected for one set of instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shiftwork_contract.errors import InvalidRequest
from shiftwork_contract.messages import SetGate
from shiftwork_coordinator.balancers import connect, gate_point, placed
from shiftwork_coordinator.balancers.gate import GatePoint
from shiftwork_coordinator.balancers.sides import Sides
from shiftwork_coordinator.model.rows import Target
from shiftwork_coordinator.model.settings import GroupSettings, health_for
from shiftwork_coordinator.model.snapshot import TrafficSeen
from shiftwork_coordinator.ports import Clock, LoadBalancer, Server
from shiftwork_coordinator.shell.agents import Agents, GroupGates
from shiftwork_coordinator.shell.observe import Balancer, TrafficObserver


class Balancing:
    """`servers` are the targets as balancers know them. Nothing is asked or touched by making one."""

    def __init__(
        self, group_id: str, settings: GroupSettings, targets: Iterable[Target], agents: Agents, epoch: int
    ) -> None:
        self._group_id, self._settings, self._epoch = group_id, settings, epoch
        self.servers: dict[str, Server] = {}
        self._replacements: set[str] = set()
        for target in targets:
            self.add(target)
        aws = settings.aws
        given = [
            (kind, placed(kind, options, aws.region, aws.role_arn))
            for entry in settings.load_balancers
            for kind, options in entry.items()
        ]
        self._point = common_gate(given)
        gates = GroupGates(agents, self.gate, group_id)
        self.balancers = _named([connect(kind, options, gates) for kind, options in given] + self._weighed(gates))

    def _weighed(self, gates: GroupGates) -> list[LoadBalancer]:
        """Where weights move the traffic, originals and replacements each have a target group of their own."""
        aws, weights = self._settings.aws, self._settings.weights
        if weights is None:
            return []
        given = [placed("elbv2", {"target_group": arn}, aws.region, aws.role_arn) for arn in weights.target_groups]
        original, replacement = (connect("elbv2", options, gates) for options in given)
        name = f"{original.name}, {replacement.name.removeprefix('elbv2 ')}"
        return [Sides(name, original, replacement, self._replacements.__contains__)]

    def add(self, target: Target) -> None:
        if target.role == "replacement":
            self._replacements.add(target.instance)
        port = self._settings.port or 0
        self.servers[target.instance] = Server(target.instance, target.instance, target.address, port, target.cloud_id)

    def gate(self, instance: str, open_: bool) -> SetGate:
        address = self.servers[instance].address or "127.0.0.1"
        return SetGate(
            epoch=self._epoch,
            group_id=self._group_id,
            asked=0,
            listen=f"{address}:{self._point.port}" if self._point else "",
            path=self._point.path if self._point else "",
            open=open_,
            health=health_for(self._settings, instance, self.servers[instance].address),
        )

    @property
    def has_gate(self) -> bool:
        return self._point is not None

    async def seen_now(self, clock: Clock) -> dict[str, tuple[TrafficSeen, ...]]:
        """One reading of everything, by instance."""
        observer = TrafficObserver(self.balancers, self.servers, clock, lambda: False, lambda: None)
        for balancer in self.balancers:
            await observer.ask(balancer)
        return dict(observer.seen)

    async def close(self) -> None:
        for balancer in self.balancers:
            await balancer.driver.close()


def common_gate(given: Sequence[tuple[str, Mapping[str, object]]]) -> GatePoint | None:
    """The one gate that all balancers of a group ask. Raises InvalidRequest when they name different ones."""
    points = {p for kind, options in given if (p := gate_point(kind, options)) is not None}
    if len(points) > 1:
        shown = ", ".join(sorted(f"port {p.port} path {p.path}" for p in points))
        raise InvalidRequest(f"cannot serve several gates for one group: its balancers name {shown}; use the same one")
    return points.pop() if points else None


def _named(drivers: Sequence[LoadBalancer]) -> list[Balancer]:
    names: dict[str, int] = {}
    result = []
    for driver in drivers:
        count = names[driver.name] = names.get(driver.name, 0) + 1
        result.append(Balancer(driver.name if count == 1 else f"{driver.name} #{count}", driver))
    return result

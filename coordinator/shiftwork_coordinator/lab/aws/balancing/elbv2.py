"""What moto lacks of Elastic Load Balancing (v2): targets that take their time to come and go, and requests.

moto keeps load balancers, target groups, listeners and rules, and refuses what is wrong with them; after each change
the router is told how they stand. Before an answer is sent, the change is in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from shiftwork_contract.errors import Unavailable
from shiftwork_coordinator.lab.aws import query
from shiftwork_coordinator.lab.aws.balancing import forwarding, health
from shiftwork_coordinator.lab.aws.balancing.health import ABSENT, UNUSED, Group, Target, Targets
from shiftwork_coordinator.lab.aws.balancing.router import Listener, Router
from shiftwork_coordinator.lab.aws.exchange import Answer, Asked, Handler, Handlers, Pass, query_refusal
from shiftwork_coordinator.lab.aws.metrics import Metrics
from shiftwork_coordinator.lab.aws.moto import Moto
from shiftwork_coordinator.ports import Clock

SERVICE = "elbv2"
HEAVIEST = 999


class Balancing:
    """`targets` and `router` may be used directly, by services of the lab that register their own targets.

    `addresses`: where targets that are named otherwise (instances) are reached; an id without entry is its own address.
    """

    def __init__(
        self, moto: Moto, session: aiohttp.ClientSession, metrics: Metrics, clock: Clock, seed: int | None = None
    ) -> None:
        self._moto, self._metrics = moto, metrics
        self._refreshing = asyncio.Lock()
        self.addresses: dict[str, str] = {}
        self.targets = Targets(health.checker(session), clock, self._address, self.in_use)
        self.router = Router(session, self.targets.taking, self._address, self._measure, seed)

    def handlers(self) -> Handlers:
        mine: dict[str, Handler] = {
            "RegisterTargets": self.register,
            "DeregisterTargets": self.deregister,
            "DescribeTargetHealth": self.describe,
            "CreateListener": self.create_listener,
            "ModifyListener": self.change_rules,
            "DeleteListener": self.delete_listener,
            "CreateRule": self.change_rules,
            "ModifyRule": self.change_rules,
            "DeleteRule": self.change_rules,
            "SetRulePriorities": self.change_rules,
            "DeleteLoadBalancer": self.delete_balancer,
            "ModifyTargetGroup": self.change_group,
            "ModifyTargetGroupAttributes": self.change_group,
            "DeleteTargetGroup": self.delete_group,
        }
        return {(SERVICE, name): handler for name, handler in mine.items()}

    def in_use(self, group: str) -> bool:
        """Whether a listener or a rule names it."""
        return group in self.router.used

    def routes(self) -> dict[str, str]:
        """The URL of every listener."""
        return {listener.arn: self.router.url(listener.arn) for listener in self.router.listeners}

    def _address(self, id: str) -> str:
        return self.addresses.get(id, id)

    def _measure(self, listener: str, group: str, status: int) -> None:
        """As CloudWatch has it: for the load balancer, and for the load balancer and the target group."""
        balancer = {"LoadBalancer": listener.partition(":listener/")[2].rpartition("/")[0]}
        for dimensions in (balancer, balancer | {"TargetGroup": group.rpartition(":")[2]}):
            self._metrics.put("AWS/ApplicationELB", "RequestCount", dimensions, 1.0)
            self._metrics.put("AWS/ApplicationELB", f"HTTPCode_Target_{status // 100}XX_Count", dimensions, 1.0)

    # Targets

    async def register(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self.add(asked.call.parameters["TargetGroupArn"], _targets(asked))
        return answered

    async def add(self, group: str, ids: Iterable[tuple[str, int | None]]) -> None:
        """Registers targets without a call. Raises Unavailable when there is no such group."""
        if not self.targets.knows(group):
            await self.learn(group)
        self.targets.register(group, ids)

    async def deregister(self, asked: Asked, moto: Pass) -> Answer:
        """moto is not asked: unlike AWS it refuses a target that is not there, and would not let one drain."""
        group = asked.call.parameters["TargetGroupArn"]
        if not self.targets.knows(group):
            try:
                await self.learn(group)
            except Unavailable:
                return await moto(asked)
        self.targets.deregister(group, _targets(asked))
        return query.answer(SERVICE, "DeregisterTargets")

    async def describe(self, asked: Asked, moto: Pass) -> Answer:
        group, wanted = asked.call.parameters["TargetGroupArn"], _targets(asked)
        if not self.targets.knows(group):
            return await moto(asked)
        states = self.targets.states(group)
        chosen = {t: s for t, s in states.items() if not wanted or (t.id, t.port) in wanted or (t.id, None) in wanted}
        missing = [(id, port) for id, port in wanted if not any(t.id == id and port in (None, t.port) for t in chosen)]
        told = [_told(target, *state) for target, state in chosen.items()]
        told += [_told(Target(id, port or 80), UNUSED, ABSENT) for id, port in missing]
        return query.answer(SERVICE, "DescribeTargetHealth", {"TargetHealthDescriptions": told})

    async def learn(self, group: str) -> Group:
        """Its settings, as moto keeps them."""
        found = await query.ask(self._moto, SERVICE, "DescribeTargetGroups", TargetGroupArns=[group])
        told = await query.ask(self._moto, SERVICE, "DescribeTargetGroupAttributes", TargetGroupArn=group)
        about = health.group(found["TargetGroups"][0], {one["Key"]: one["Value"] for one in told["Attributes"]})
        self.targets.know(about)
        return about

    async def change_group(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self.learn(asked.call.parameters["TargetGroupArn"])
        return answered

    async def delete_group(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            self.targets.forget(asked.call.parameters["TargetGroupArn"])
        return answered

    # Listeners and rules

    async def create_listener(self, asked: Asked, moto: Pass) -> Answer:
        if refused := _wrong(asked):
            return refused
        answered = await moto(asked)
        if answered.fine:
            made = query.read(SERVICE, "CreateListener", answered)["Listeners"]
            await self.refresh(made[0]["ListenerArn"])
        return answered

    async def change_rules(self, asked: Asked, moto: Pass) -> Answer:
        if refused := _wrong(asked):
            return refused
        answered = await moto(asked)
        if answered.fine:
            await self.refresh(_listener(asked.call.parameters))
        return answered

    async def delete_listener(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            await self.router.remove(asked.call.parameters["ListenerArn"])
        return answered

    async def delete_balancer(self, asked: Asked, moto: Pass) -> Answer:
        answered = await moto(asked)
        if answered.fine:
            part = asked.call.parameters["LoadBalancerArn"].replace(":loadbalancer/", ":listener/") + "/"
            for arn in [listener.arn for listener in self.router.listeners if listener.arn.startswith(part)]:
                await self.router.remove(arn)
        return answered

    async def refresh(self, listener: str) -> None:
        """The router does from here on what moto says of this listener."""
        async with self._refreshing:  # what was read last is what holds
            found = await query.ask(self._moto, SERVICE, "DescribeListeners", ListenerArns=[listener])
            rules = await query.ask(self._moto, SERVICE, "DescribeRules", ListenerArn=listener)
            protocol = found["Listeners"][0].get("Protocol", "HTTP")
            await self.router.put(Listener(listener, protocol, tuple(map(forwarding.rule, rules["Rules"]))))


def _targets(asked: Asked) -> list[tuple[str, int | None]]:
    given = asked.call.parameters.get("Targets") or ()
    return [(one["Id"], int(one["Port"]) if "Port" in one else None) for one in given]


def _told(target: Target, state: str, reason: str) -> dict[str, Any]:
    health = {"State": state} | ({"Reason": reason, "Description": reason.partition(".")[2]} if reason else {})
    return {"Target": {"Id": target.id, "Port": target.port}, "HealthCheckPort": target.port, "TargetHealth": health}


def _listener(given: Any) -> str:
    """The one that a call is about; a rule's ARN is its listener's and a part more."""
    if "ListenerArn" in given:
        return str(given["ListenerArn"])
    rule = str(given["RuleArn"] if "RuleArn" in given else given["RulePriorities"][0]["RuleArn"])
    return rule.replace(":listener-rule/", ":listener/").rpartition("/")[0]


def _wrong(asked: Asked) -> Answer | None:
    """What AWS refuses and moto takes."""
    given: Sequence[Any] = asked.call.parameters.get("DefaultActions") or asked.call.parameters.get("Actions") or ()
    for forward in given:
        shares = forwarding.weights(forward)
        if any(not 0 <= weight <= HEAVIEST for weight in shares.values()):
            return query_refusal("ValidationError", f"weights must be between 0 and {HEAVIEST}, inclusive")
    return None

"""Listeners and rules of Elastic Load Balancing: which target groups they forward to, with which weights.

Only the forward action is changed; what stands before it (authentication) and stickiness stay. A Network Load Balancer
forwards to one target group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shiftwork_contract.appspec_ecs import Pair
from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.shifters.asking import Ask
from shiftwork_coordinator.shifters.task_sets import BALANCING

WHOLE = 100


class Route(msgspec.Struct, frozen=True):
    """A listener's default action, or a rule. `network`: of a Network Load Balancer."""

    arn: str
    actions: Sequence[Mapping[str, Any]]
    network: bool = False
    rule: bool = False

    @property
    def weights(self) -> dict[str, int]:
        """The weight of every target group; empty when it does not forward."""
        action = next((a for a in self.actions if a.get("Type") == "forward"), None)
        if action is None:
            return {}
        groups = (action.get("ForwardConfig") or {}).get("TargetGroups")
        if groups:
            return {group["TargetGroupArn"]: group.get("Weight", 1) for group in groups}
        return {action["TargetGroupArn"]: 1}

    def share(self, group: str) -> float:
        """The share of its requests that a target group gets, 0 to 1."""
        weights = self.weights
        total = sum(weights.values())
        return weights.get(group, 0) / total if total else 0.0


def used(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """The listeners and the rules that these pairs use, each once."""
    routes = [(p.listener, p.rule) for p in pairs] + [(p.test_listener, p.test_rule) for p in pairs]
    listeners = [listener for listener, rule in routes if listener and not rule]
    return list(dict.fromkeys(listeners)), list(dict.fromkeys(rule for _, rule in routes if rule))


def main_route(pair: Pair) -> str:
    return pair.rule or pair.listener


def test_route(pair: Pair) -> str:
    """Empty without one."""
    return pair.test_rule or pair.test_listener


async def routes(ask: Ask, pairs: Sequence[Pair]) -> dict[str, Route]:
    """All routes of the pairs by ARN, in one call for listeners and one for rules."""
    listeners, rules = used(pairs)
    found: dict[str, Route] = {}
    if listeners:
        for one in (await ask("elbv2", "describe_listeners", ListenerArns=listeners))["Listeners"]:
            network = one.get("Protocol") not in ("HTTP", "HTTPS")
            found[one["ListenerArn"]] = Route(one["ListenerArn"], one["DefaultActions"], network)
    if rules:
        for one in (await ask("elbv2", "describe_rules", RuleArns=rules))["Rules"]:
            found[one["RuleArn"]] = Route(one["RuleArn"], one["Actions"], rule=True)
    if missing := next((arn for arn in (*listeners, *rules) if arn not in found), ""):
        raise InvalidRequest(f"cannot find {missing}: correct the listener or rule in the group", code=BALANCING)
    return found


async def forward(ask: Ask, route: Route, old: str, new: str, weight: float) -> None:
    """Gives the new target group this share, the old one the rest. As it stands is not written again."""
    percent = round(weight * WHOLE)
    wanted = {old: WHOLE - percent, new: percent}
    if route.network:
        if percent not in (0, WHOLE):
            raise InvalidRequest(
                f"cannot give {weight:.0%} of {route.arn} to the replacement: Network Load Balancers move all at once",
                code=BALANCING,
            )
        wanted = {group: weight for group, weight in wanted.items() if weight}
    if _same(route.weights, wanted):
        return
    actions = [_changed(action, wanted, route.network) for action in route.actions]
    if route.rule:
        await ask("elbv2", "modify_rule", RuleArn=route.arn, Actions=actions)
    else:
        await ask("elbv2", "modify_listener", ListenerArn=route.arn, DefaultActions=actions)


def _same(weights: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    total = sum(weights.values())
    return set(weights) == set(wanted) and all(weights[g] * WHOLE == wanted[g] * total for g in wanted)


def _changed(action: Mapping[str, Any], wanted: Mapping[str, int], network: bool) -> dict[str, Any]:
    if action.get("Type") == "authenticate-oidc":  # its secret is never told, and must not be lost
        return {
            **action,
            "AuthenticateOidcConfig": {**action["AuthenticateOidcConfig"], "UseExistingClientSecret": True},
        }
    if action.get("Type") != "forward":
        return dict(action)
    kept: dict[str, Any] = {"Type": "forward"} | ({"Order": action["Order"]} if "Order" in action else {})
    if network:
        return kept | {"TargetGroupArn": next(iter(wanted))}
    groups = [{"TargetGroupArn": group, "Weight": weight} for group, weight in wanted.items()]
    config: dict[str, Any] = {"TargetGroups": groups}
    if sticky := (action.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig"):
        config["TargetGroupStickinessConfig"] = sticky
    return kept | {"ForwardConfig": config}
